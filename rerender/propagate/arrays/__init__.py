"""The operations on pictures that the method is written with, once, for numpy on the host and torch on a device.

`namespace(array)` gives the operations for where an array lies: `host.py` (numpy, OpenCV, SciPy) or `device.py`
(torch). The arithmetic operators, comparisons, slices, and `sum(axis)` and `mean(axis)` of both kinds of array do the
rest. A process that only works on the host never imports torch.
"""

from __future__ import annotations

import numpy as np

from rerender.propagate.arrays.host import HOST
from rerender.propagate.arrays.operations import Array, Operations

__all__ = ["HOST", "Array", "Operations", "namespace"]


def namespace(array: Array) -> Operations:
    """Return the operations for where an array lies, as arrays' makers call it (scikit-learn, SciPy).

    Args:
        array: a numpy array, or a torch tensor on any device.
    """
    if isinstance(array, np.ndarray):
        return HOST
    from rerender.propagate.arrays.device import operations_on

    return operations_on(array.device)
