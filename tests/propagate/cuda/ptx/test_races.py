"""Threads that get in each other's way are noticed, others are not."""

from __future__ import annotations

import numpy as np
import pytest

from tests.propagate.cuda.ptx.errors import PtxError
from tests.propagate.cuda.ptx.snippets import launch

OWN = "mul.wide.u32 %rd2, %r0, 4;\nadd.s64 %rd3, %rd0, %rd2;\n"  # %rd3: the thread's own element


def run(body: str, threads: int = 3) -> np.ndarray:
    data = np.arange(10, 18, dtype=np.uint32)
    launch(OWN + body, data, threads=threads)
    return data


@pytest.mark.parametrize(
    "body",
    [
        "ld.global.u32 %r1, [%rd3];\nadd.s32 %r1, %r1, 1;\nst.global.u32 [%rd3], %r1;",  # each its own
        "mov.u32 %r1, 1;\nst.global.u32 [%rd0], %r1;",  # all the same value
        "atom.global.add.u32 %r1, [%rd0], 1;",
        "ld.global.nc.u32 %r1, [%rd0];\nst.global.u32 [%rd3+16], %r1;",  # read by all, written elsewhere
        "st.global.u32 [%rd3], %r0;\nst.global.u32 [%rd3], 9;",  # one thread, two values
    ],
)
def test_what_has_one_outcome_passes(body: str) -> None:
    run(body)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("st.global.u32 [%rd0], %r0;", r"st.global.u32"),  # many values in one place
        ("ld.global.u32 %r1, [%rd3+4];\nst.global.u32 [%rd3], %r1;", r"\(ld.global.u32\).*byte 4 "),  # the next one's
        ("ld.global.u32 %r1, [%rd0];\nst.global.u32 [%rd3], 5;", "thread 1 shares byte 0"),
        ("ld.global.nc.u32 %r1, [%rd3];\nst.global.u32 [%rd3], %r1;", "ld.global.nc.u32"),  # its own, but constant
        ("atom.global.add.u32 %r1, [%rd0], 1;\nld.global.u32 %r1, [%rd0+0];", "ld.global.u32"),
        ("atom.global.add.u32 %r1, [%rd0], 1;\nst.global.u32 [%rd3], 0;", "byte 0 "),
        ("atom.global.add.u32 %r1, [%rd3], 1;\nld.global.nc.u32 %r1, [%rd3];", "ld.global.nc.u32"),
        ("mov.u16 %rs1, 1;\nst.global.u8 [%rd3+3], %rs1;\nld.global.u32 %r1, [%rd0];", "shares byte 3 "),  # a part
    ],
)
def test_what_depends_on_the_order_is_refused(body: str, why: str) -> None:
    with pytest.raises(PtxError, match=why) as error:
        run(body)
    assert error.value.code == 719


def test_a_single_thread_is_in_nobodys_way() -> None:
    run("ld.global.u32 %r1, [%rd0];\nst.global.u32 [%rd0], %r0;\natom.global.add.u32 %r2, [%rd0], 1;", threads=1)


def test_one_thread_must_not_read_as_constant_what_it_writes() -> None:
    with pytest.raises(PtxError, match=r"ld\.global\.nc"):
        run("st.global.u32 [%rd0], %r0;\nld.global.nc.u32 %r1, [%rd0];", threads=1)
