"""What an instruction makes of its operands, for all threads at once (PTX ISA 6.4, "Instructions").

Here is what the kernels use. Another instruction is an error when the text is loaded, not a guess.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

Values = np.ndarray[Any, Any]

# PTX ISA 6.4, "Fundamental Types". Bits without a type are kept as signed integers.
TYPES: dict[str, np.dtype[Any]] = {
    **{f"{letter}{bits}": np.dtype(f"i{bits // 8}") for letter in "sb" for bits in (8, 16, 32, 64)},
    **{f"u{bits}": np.dtype(f"u{bits // 8}") for bits in (8, 16, 32, 64)},
    "f32": np.dtype("f4"),
    "pred": np.dtype("?"),
}
_SIGNED, _INTEGERS = ("s16", "s32", "s64"), ("s16", "s32", "s64", "u16", "u32", "u64")
_BITS = ("b16", "b32", "b64")
_NUMBERS, _ANY = (*_INTEGERS, "f32"), (*_INTEGERS, *_BITS, "f32")
_WIDE = {"s16": "s32", "u16": "u32", "s32": "s64", "u32": "u64"}


class Operation(NamedTuple):
    """A function of arrays, the types that it takes, and the type of what it returns."""

    function: Callable[..., Values]
    sources: tuple[str, ...]
    result: str


class _Rule(NamedTuple):
    """Operations of one name. In `sources` and `result`, T is the instruction's own type, W that of twice the size."""

    function: Callable[..., Values]
    types: tuple[str, ...]
    sources: str
    result: str = "T"


def shift_left(a: Values, by: Values) -> Values:
    """shl: amounts above the width give 0 ("Logic and Shift Instructions: shl")."""
    return _shift(np.left_shift, a, by)


def shift_right(a: Values, by: Values) -> Values:
    """shr: amounts above the width count as the width; a signed type fills with its sign ("… Instructions: shr")."""
    return _shift(np.right_shift, a, by)


def _shift(shift: np.ufunc, a: Values, by: Values) -> Values:
    most = a.dtype.itemsize * 8 - 1
    if by.ndim == 0 and by <= most:
        return shift(a, a.dtype.type(by))
    beyond = np.right_shift(a, most) if shift is np.right_shift and a.dtype.kind == "i" else a.dtype.type(0)
    return np.where(by <= most, shift(a, np.minimum(by, most).astype(a.dtype)), beyond)


def _wide_product(a: Values, b: Values) -> Values:
    double = np.dtype(f"{a.dtype.kind}{2 * a.dtype.itemsize}")
    return a.astype(double) * b.astype(double)


def _unequal(a: Values, b: Values) -> Values:
    """Without a "u", a comparison with NaN is false, "not equal" too ("Comparisons: Floating Point Comparisons")."""
    return (a < b) | (a > b)


_RULES: dict[str, _Rule] = {
    "mov": _Rule(lambda a: a, (*_ANY, "pred"), "T"),
    "cvta.to.global": _Rule(lambda a: a, ("u64",), "T"),  # a generic address of global memory is that address
    "add": _Rule(np.add, _INTEGERS, "TT"),
    "sub": _Rule(np.subtract, _INTEGERS, "TT"),
    "mul.lo": _Rule(np.multiply, _INTEGERS, "TT"),
    "mul.wide": _Rule(_wide_product, tuple(_WIDE), "TT", "W"),
    "mad.lo": _Rule(lambda a, b, c: a * b + c, _INTEGERS, "TTT"),
    "neg": _Rule(np.negative, _SIGNED, "T"),
    "abs": _Rule(np.absolute, _SIGNED, "T"),
    "min": _Rule(np.minimum, _INTEGERS, "TT"),
    "max": _Rule(np.maximum, _INTEGERS, "TT"),
    "and": _Rule(np.bitwise_and, (*_BITS, "pred"), "TT"),
    "or": _Rule(np.bitwise_or, (*_BITS, "pred"), "TT"),
    "xor": _Rule(np.bitwise_xor, (*_BITS, "pred"), "TT"),
    "not": _Rule(np.bitwise_not, (*_BITS, "pred"), "T"),
    "shl": _Rule(shift_left, _BITS, "TU"),
    "shr": _Rule(shift_right, _INTEGERS, "TU"),
    "selp": _Rule(lambda a, b, chosen: np.where(chosen, a, b), _ANY, "TTP"),
    "add.rn": _Rule(np.add, ("f32",), "TT"),
    "mul.rn": _Rule(np.multiply, ("f32",), "TT"),
    "div.rn": _Rule(np.divide, ("f32",), "TT"),
    "rcp.rn": _Rule(lambda a: np.float32(1) / a, ("f32",), "T"),
    "setp.eq": _Rule(np.equal, (*_NUMBERS, *_BITS), "TT", "P"),
    "setp.ne": _Rule(_unequal, (*_NUMBERS, *_BITS), "TT", "P"),
    "setp.lt": _Rule(np.less, _NUMBERS, "TT", "P"),
    "setp.le": _Rule(np.less_equal, _NUMBERS, "TT", "P"),
    "setp.gt": _Rule(np.greater, _NUMBERS, "TT", "P"),
    "setp.ge": _Rule(np.greater_equal, _NUMBERS, "TT", "P"),
}

_TO_WHOLE: dict[str, Callable[[Values], Values]] = {"rni": np.rint, "rzi": np.trunc, "rmi": np.floor, "rpi": np.ceil}


def find_operation(opcode: str) -> Operation | None:
    """Return what an instruction does, None for one that is not known here."""
    head, _, kind = opcode.rpartition(".")
    rule = _RULES.get(head)
    if rule is None or kind not in rule.types:
        return None
    names = {"T": kind, "W": _WIDE.get(kind, ""), "U": "u32", "P": "pred"}
    return Operation(rule.function, tuple(names[letter] for letter in rule.sources), names[rule.result])


def find_conversion(opcode: str) -> Operation | None:
    """Return what a cvt does ("Data Movement and Conversion Instructions: cvt"), None for one not known here."""
    _, *modifiers, target, source = opcode.split(".")
    if target not in TYPES or source not in TYPES or len(modifiers) > 1:
        return None
    function = _conversion(modifiers[0] if modifiers else "", target, source)
    return None if function is None else Operation(function, (source,), target)


def _conversion(rounding: str, target: str, source: str) -> Callable[[Values], Values] | None:
    whole, dtype = _TO_WHOLE.get(rounding), TYPES[target]
    if target == source == "f32":
        return whole
    if source == "f32":
        return None if whole is None or dtype.itemsize > 4 else lambda a: _saturated(whole(a), dtype)
    if (target == "f32") != (rounding == "rn"):
        return None
    return lambda a: a.astype(dtype)  # between integers: cut, or extended by the sign of the source


def _saturated(whole: Values, dtype: np.dtype[Any]) -> Values:
    """Clamped to the integer's range; NaN gives 0."""
    limits = np.iinfo(dtype)
    return np.where(np.isnan(whole), 0, np.clip(whole.astype(np.float64), limits.min, limits.max)).astype(dtype)
