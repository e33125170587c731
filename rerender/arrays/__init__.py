"""The operations on pictures that the method is written with, once, for numpy on the host and torch on a device.

`namespace(array)` gives the operations for where an array lies: `host.py` (numpy, OpenCV, SciPy) or `device.py`
(torch). The arithmetic operators, comparisons, slices, and `sum(axis)` and `mean(axis)` of both kinds of array do the
rest. A process that only works on the host never imports torch.
"""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

import numpy as np

from rerender.arrays.host import HOST
from rerender.arrays.operations import Array, Operations

__all__ = ["HOST", "Array", "Operations", "bring", "namespace"]

Value = TypeVar("Value")


def namespace(array: Array) -> Operations:
    """Return the operations for where an array lies, as arrays' makers call it (scikit-learn, SciPy).

    Args:
        array: a numpy array, or a torch tensor on any device.
    """
    if isinstance(array, np.ndarray):
        return HOST
    from rerender.arrays.device import operations_on

    return operations_on(array.device)


def bring(value: Value, xp: Operations) -> Value:
    """Bring the arrays of a value to where `xp` works: an array, or lists, tuples and dataclasses that hold some.

    What lies there already, and what is no array, comes back as it is.
    """
    return _brought(value, xp)


def _brought(value: Any, xp: Operations) -> Any:
    if isinstance(value, np.ndarray) or hasattr(value, "data_ptr"):
        return xp.here(value)
    if isinstance(value, (list, tuple)):
        brought = [_brought(part, xp) for part in value]
        return value if all(a is b for a, b in zip(brought, value, strict=True)) else type(value)(brought)
    if is_dataclass(value) and not isinstance(value, type):
        parts = {field.name: getattr(value, field.name) for field in fields(value)}
        moved = {name: _brought(part, xp) for name, part in parts.items()}
        return replace(value, **moved) if any(moved[name] is not part for name, part in parts.items()) else value
    return value
