"""What the instructions make of numbers: where PTX differs from C, Python or numpy, and where a slip would hide."""

from __future__ import annotations

import numpy as np
import pytest

from tests.propagate.cuda.ptx.snippets import evaluate

I16, I32, I64, U32, F32 = np.int16, np.int32, np.int64, np.uint32, np.float32
LEAST, MOST = -(2**31), 2**31 - 1


def i32(*values: int) -> np.ndarray:
    return np.array(values, I64).astype(I32)


def f32(*values: float) -> np.ndarray:
    return np.array(values, F32)


@pytest.mark.parametrize(
    ("opcode", "given", "expected"),
    [
        ("shl.b32", -3, [-3, -6, LEAST, 0, 0, 0]),
        ("shr.s32", -3, [-3, -2, -1, -1, -1, -1]),
        ("shr.s32", MOST, [MOST, MOST // 2, 0, 0, 0, 0]),
        ("shr.u32", -3, [2**32 - 3, 2**31 - 2, 1, 0, 0, 0]),
    ],
)
def test_shifts_are_clamped_at_the_width(opcode: str, given: int, expected: list[int]) -> None:
    by = [0, 1, 31, 32, 33, 2**32 - 1]
    amounts = np.array(by, U32)
    assert evaluate(f"{opcode} %r20, %r10, %r11;", U32, i32(*[given] * 6), amounts).tolist() == [
        value % 2**32 for value in expected
    ]
    for amount, value in zip(by, expected, strict=True):
        assert evaluate(f"{opcode} %r20, %r10, {amount};", U32, i32(given)).tolist() == [value % 2**32]


def test_a_shift_of_64_bits_goes_by_a_number_of_32() -> None:
    made = evaluate("shl.b64 %rd20, %rd10, %r11;", I64, np.array([3, 3, 3, 3]), i32(62, 63, 64, 32))
    assert made.tolist() == [-(2**62), -(2**63), 0, 3 * 2**32]


@pytest.mark.parametrize(
    ("opcode", "expected"),
    [
        ("add.s32", [LEAST, -2, LEAST + 1]),
        ("sub.s32", [MOST - 1, 0, MOST]),
        ("mul.lo.s32", [MOST, 1, LEAST]),
    ],
)
def test_integers_wrap(opcode: str, expected: list[int]) -> None:
    made = evaluate(f"{opcode} %r20, %r10, %r11;", I32, i32(MOST, -1, LEAST), i32(1, -1, 1))
    assert made.tolist() == expected


def test_mad_keeps_the_lower_half() -> None:
    made = evaluate("mad.lo.s32 %r20, %r10, %r11, %r12;", I32, i32(65536, -1, 7), i32(65537, 5, 6), i32(9, -2, MOST))
    assert made.tolist() == [65536 + 9, -7, LEAST + 41]


def test_a_wide_product_keeps_its_sign_or_has_none() -> None:
    given = i32(-1, LEAST, MOST), i32(-1, LEAST, 2)
    signed = evaluate("mul.wide.s32 %rd20, %r10, %r11;", I64, *given)
    plain = evaluate("mul.wide.u32 %rd20, %r10, %r11;", I64, *given)
    assert signed.tolist() == [1, 2**62, 2**32 - 2]
    assert plain.tolist() == [(2**32 - 1) ** 2 - 2**64, 2**62, 2**32 - 2]
    assert evaluate("mul.wide.s32 %rd20, %r10, -9;", I64, i32(MOST)).tolist() == [-9 * MOST]


@pytest.mark.parametrize(
    ("opcode", "expected"),
    [
        ("min.s32", [-1, LEAST]),
        ("max.s32", [1, MOST]),
        ("min.u32", [1, MOST]),
        ("max.u32", [-1, LEAST]),
    ],
)
def test_the_smaller_one_depends_on_the_sign(opcode: str, expected: list[int]) -> None:
    made = evaluate(f"{opcode} %r20, %r10, %r11;", I32, i32(-1, LEAST), i32(1, MOST))
    assert made.tolist() == expected


def test_the_least_integer_has_no_opposite() -> None:
    assert evaluate("abs.s32 %r20, %r10;", I32, i32(LEAST, -5, 5)).tolist() == [LEAST, 5, 5]
    assert evaluate("neg.s32 %r20, %r10;", I32, i32(LEAST, -5, 5)).tolist() == [LEAST, 5, -5]
    assert evaluate("not.b32 %r20, %r10;", I32, i32(LEAST, -5, 5)).tolist() == [MOST, 4, -6]


@pytest.mark.parametrize(
    ("comparison", "expected"),
    [
        ("lt.s32", [1, 0, 0]), ("lt.u32", [0, 1, 0]), ("le.u32", [0, 1, 1]), ("ge.s32", [0, 1, 1]),
        ("gt.s32", [0, 1, 0]), ("eq.b32", [0, 0, 1]), ("ne.s32", [1, 1, 0]),
    ],
)  # fmt: skip
def test_comparisons(comparison: str, expected: list[int]) -> None:
    body = f"setp.{comparison} %p1, %r10, %r11;\nselp.b32 %r20, 1, 0, %p1;"
    assert evaluate(body, I32, i32(-1, 1, 4), i32(1, -1, 4)).tolist() == expected


@pytest.mark.parametrize("comparison", ["eq", "ne", "lt", "le", "gt", "ge"])
def test_nothing_is_true_of_nan(comparison: str) -> None:
    body = f"setp.{comparison}.f32 %p1, %f10, %f11;\nselp.b32 %r20, 1, 0, %p1;"
    made = evaluate(body, I32, f32(np.nan, 1, 1, 2), f32(1, np.nan, 1, 1))
    assert made[:2].tolist() == [0, 0]
    assert made[2:].tolist() == [comparison in ("eq", "le", "ge"), comparison in ("ne", "gt", "ge")]


def test_predicates_are_bits() -> None:
    body = (
        "setp.lt.s32 %p1, %r10, 2;\nsetp.lt.s32 %p2, %r11, 2;\n{};\nmov.pred %p4, -1;\n"
        "and.pred %p5, %p3, %p4;\nselp.b32 %r20, 7, -7, %p5;"
    )
    for operation, expected in (("and", [-7, -7, -7, 7]), ("or", [-7, 7, 7, 7]), ("xor", [-7, 7, 7, -7])):
        made = evaluate(body.format(f"{operation}.pred %p3, %p1, %p2"), I32, i32(2, 1, 2, 1), i32(2, 2, 1, 1))
        assert made.tolist() == expected
    made = evaluate(body.format("not.pred %p3, %p2"), I32, i32(0, 0), i32(1, 2))
    assert made.tolist() == [-7, 7]


def test_conversions_between_integers_cut_and_extend() -> None:
    wide = i32(0x12348001, -1, 0x7F, 0x180)
    assert evaluate("cvt.s32.s16 %r20, %r10;", I32, wide).tolist() == [-32767, -1, 127, 384]
    assert evaluate("cvt.s32.s8 %r20, %r10;", I32, wide).tolist() == [1, -1, 127, -128]
    assert evaluate("cvt.u16.u32 %rs20, %r10;", I16, wide).tolist() == [-32767, -1, 127, 384]
    assert evaluate("cvt.u32.u16 %r20, %rs10;", I32, np.array([-1, 7], I16)).tolist() == [65535, 7]
    assert evaluate("cvt.s64.s32 %rd20, %r10;", I64, i32(LEAST, 5)).tolist() == [LEAST, 5]
    assert evaluate("cvt.u32.u64 %r20, %rd10;", I32, np.array([2**40 + 3, -1])).tolist() == [3, -1]


def test_integers_become_floats_of_the_nearest_even() -> None:
    made = evaluate("cvt.rn.f32.s32 %f20, %r10;", F32, i32(2**24 + 1, 2**24 + 3, -(2**24) - 1, LEAST))
    assert made.tolist() == [2**24, 2**24 + 4, -(2**24), LEAST]
    assert evaluate("cvt.rn.f32.u16 %f20, %rs10;", F32, np.array([-1, 1], I16)).tolist() == [65535, 1]
    assert evaluate("cvt.rn.f32.s16 %f20, %rs10;", F32, np.array([-1, 1], I16)).tolist() == [-1, 1]


def test_floats_become_integers_within_range() -> None:
    given = f32(2.5, 3.5, -2.5, -0.5, 0.49999997)
    assert evaluate("cvt.rni.f32.f32 %f20, %f10;", F32, given).tolist() == [2, 4, -2, 0, 0]
    given = f32(2.9, -2.9, 3e9, -3e9, np.inf, -np.inf, np.nan)
    assert evaluate("cvt.rzi.s32.f32 %r20, %f10;", I32, given).tolist() == [2, -2, MOST, LEAST, MOST, LEAST, 0]
    assert evaluate("cvt.rni.s32.f32 %r20, %f10;", I32, f32(2.5, -3.5)).tolist() == [2, -4]


def test_quotients_are_rounded_once_and_keep_subnormals() -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal(500) * 10.0 ** rng.integers(-15, 15, 500) for _ in range(2))
    a, b = a.astype(F32), b.astype(F32)
    exact = (a.astype(np.float64) / b.astype(np.float64)).astype(
        F32
    )  # 53 bits are more than 2 * 24 + 2: no double rounding
    assert np.array_equal(evaluate("div.rn.f32 %f20, %f10, %f11;", F32, a, b), exact)
    inverse = (1 / b.astype(np.float64)).astype(F32)
    assert np.array_equal(evaluate("rcp.rn.f32 %f20, %f10;", F32, b), inverse)
    tiny = f32(1e-38, 1e38)
    assert evaluate("div.rn.f32 %f20, %f10, 0f41200000;", F32, tiny).tolist() == [F32(1e-38) / F32(10), F32(1e37)]
    assert evaluate("rcp.rn.f32 %f20, %f10;", F32, f32(3e38, 0, -0.0)).tolist() == [F32(1) / F32(3e38), np.inf, -np.inf]


def test_a_product_is_rounded_before_it_is_added() -> None:
    a = f32(1 + 2**-12)
    body = "mul.rn.f32 %f11, %f10, %f10;\nadd.rn.f32 %f20, %f11, 0fBF800000;"
    assert evaluate(body, F32, a).tolist() == [2**-11]  # fused: 2**-11 + 2**-24


def test_small_registers_hold_small_numbers() -> None:
    body = "or.b16 %rs12, %rs10, %rs11;\nand.b16 %rs20, %rs12, 255;"
    assert evaluate(body, I16, np.array([-256, 3], I16), np.array([5, 256], I16)).tolist() == [5, 3]
    body = "setp.ne.s16 %p1, %rs10, 0;\nselp.u16 %rs20, 1, 0, %p1;"
    assert evaluate(body, I16, np.array([256, 0], I16)).tolist() == [1, 0]


def test_constants_are_bits_of_their_type() -> None:
    assert evaluate("mov.u32 %r20, 4294967295;", I32, i32(0, 0)).tolist() == [-1, -1]
    assert evaluate("mov.f32 %f20, 0f3F800000;", F32, f32(0)).tolist() == [1]
    assert evaluate("min.s64 %rd20, %rd10, 1073741823;", I64, np.array([2**40, -5])).tolist() == [2**30 - 1, -5]
