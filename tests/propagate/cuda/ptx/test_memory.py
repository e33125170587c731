"""Memory: what a GPU would refuse is refused here, and vectors, signs and atomics are those of the text."""

from __future__ import annotations

import numpy as np
import pytest

from tests.propagate.cuda.ptx.errors import MisalignedError, WildAddressError
from tests.propagate.cuda.ptx.snippets import evaluate, launch

VECTOR = "ld.global.nc.v4.u32 {{%r1, %r2, %r3, %r4}}, [%rd0+{}];"


@pytest.mark.parametrize(("opcode", "size"), [("v4.u32", 16), ("v2.u32", 8), ("u32", 4), ("u16", 2), ("u8", 1)])
def test_addresses_are_multiples_of_the_whole_access(opcode: str, size: int) -> None:
    kind = "s" if opcode in ("u16", "u8") else ""
    names = [f"%r{kind}{at}" for at in range(1, int(opcode[1]) + 1)] if opcode[0] == "v" else [f"%r{kind}1"]
    operand = "{" + ", ".join(names) + "}" if len(names) > 1 else names[0]
    data = np.zeros(8, np.complex128)  # aligned to 16
    for offset in range(0, 33):
        body = f"ld.global.{opcode} {operand}, [%rd0+{offset}];"
        if offset % size:
            with pytest.raises(MisalignedError, match=rf"line \d+ \(ld.global.{opcode}\).*multiple of {size}"):
                launch(body, data)
        else:
            launch(body, data)


def test_one_thread_is_enough_to_be_misaligned() -> None:
    data = np.zeros(8, np.complex128)
    body = "mul.wide.u32 %rd2, %r0, {};\nadd.s64 %rd3, %rd0, %rd2;\nst.global.v2.u32 [%rd3], {{%r0, %r0}};"
    launch(body.format(8), data, threads=16)
    with pytest.raises(MisalignedError):
        launch(body.format(4), data, threads=2)


@pytest.mark.parametrize("offset", [-4, 40, 2**40, -(2**44)])
@pytest.mark.parametrize("body", ["ld.global.u32 %r1, [%rd3];", "st.global.u32 [%rd3], %r1;",
                                  "atom.global.add.u32 %r1, [%rd3], 1;"])  # fmt: skip
def test_an_address_outside_is_refused(body: str, offset: int) -> None:
    data, beside = np.zeros((2, 12), np.uint32)
    before = f"mov.u64 %rd2, {offset};\nadd.s64 %rd3, %rd0, %rd2;\nmov.u32 %r1, 7;\n"
    launch(before.replace(str(offset), "36", 1) + body, data[:10], beside)
    with pytest.raises(WildAddressError, match=r"line \d+ .* lies outside"):
        launch(before + body, data[:10], beside)


def test_null_and_the_last_byte_too_many_are_refused() -> None:
    with pytest.raises(WildAddressError):
        launch("mov.u64 %rd2, 0;\nld.global.u8 %rs1, [%rd2];", np.zeros(4))
    data = np.zeros(2, np.complex128).view(np.uint8)
    launch(VECTOR.format(16), data)
    with pytest.raises(WildAddressError):
        launch(VECTOR.format(16), data[:31])


def test_one_thread_is_enough_to_be_outside() -> None:
    body = "mul.wide.u32 %rd2, %r0, 4;\nadd.s64 %rd3, %rd0, %rd2;\nld.global.u32 %r1, [%rd3];"
    launch(body, np.zeros(5, np.uint32), threads=5)
    with pytest.raises(WildAddressError):
        launch(body, np.zeros(5, np.uint32), threads=6)


def test_threads_may_look_into_different_arrays() -> None:
    one, two, made = np.array([5, 6], np.int32), np.array([7, 8], np.int32), np.zeros(4, np.int32)
    body = """
        setp.lt.s32 %p1, %r0, 2;
        selp.b64 %rd3, %rd0, %rd1, %p1;
        and.b32 %r1, %r0, 1;
        mul.wide.u32 %rd4, %r1, 4;
        add.s64 %rd5, %rd3, %rd4;
        ld.global.nc.u32 %r2, [%rd5];
        mul.wide.u32 %rd6, %r0, 4;
        add.s64 %rd7, %rd2, %rd6;
        st.global.u32 [%rd7], %r2;
    """
    launch(body, one, two, made, threads=4)
    assert made.tolist() == [5, 6, 7, 8]


def test_a_vector_keeps_its_order_and_sizes() -> None:
    data, made = np.arange(100, 116, dtype=np.uint8), np.zeros(4, np.float32)
    body = """
        ld.global.nc.v4.u8 {%rs1, %rs2, %rs3, %rs4}, [%rd0+8];
        cvt.rn.f32.u16 %f1, %rs1;
        cvt.rn.f32.u16 %f2, %rs2;
        cvt.rn.f32.u16 %f3, %rs3;
        cvt.rn.f32.u16 %f4, %rs4;
        st.global.v4.f32 [%rd1], {%f4, %f3, %f2, %f1};
    """
    launch(body, data.view(np.complex128), made)
    assert made.tolist() == [111, 110, 109, 108]


def test_a_load_extends_by_its_type_and_a_store_cuts() -> None:
    small = np.array([-2, 300], np.int16)
    body = "mul.wide.u32 %rd3, %r0, 2;\nadd.s64 %rd4, %rd0, %rd3;\nld.global.{} %r20, [%rd4];"
    assert evaluate(body.format("s16"), np.int32, small).tolist() == [-2, 300]
    assert evaluate(body.format("u16"), np.int32, small).tolist() == [65534, 300]
    byte = np.array([77, 78], np.uint8)
    launch("mov.u16 %rs1, 513;\nst.global.u8 [%rd0], %rs1;", byte)
    assert byte.tolist() == [1, 78]


def test_bits_are_moved_as_they_are() -> None:
    signalling = np.array([0x7F800001, 0xFFA00000, 0x80000000, 1], np.uint32)
    made = np.zeros_like(signalling)
    names = "{%f1, %f2, %f3, %f4}"
    launch(f"ld.global.v4.f32 {names}, [%rd0];\nst.global.v4.f32 [%rd1], {names};", signalling, made)
    assert np.array_equal(made, signalling)


def test_atomics_that_collide_all_count_and_see_each_other() -> None:
    place, seen = np.array([100, 7], np.uint32), np.zeros(300, np.uint32)
    body = """
        mov.u32 %r2, 3;
        atom.global.add.u32 %r1, [%rd0], %r2;
        mul.wide.u32 %rd3, %r0, 4;
        add.s64 %rd4, %rd1, %rd3;
        st.global.u32 [%rd4], %r1;
    """
    launch(body, place, seen, threads=300)
    assert place.tolist() == [1000, 7]
    assert sorted(seen.tolist()) == list(range(100, 1000, 3))
