"""A smooth step from 0 to 1, which most weights here are made of."""

from __future__ import annotations

from rerender.arrays import Array, namespace


def smoothstep(values: Array, low: Array | float, high: Array | float) -> Array:
    """0 up to `low`, 1 from `high` on, 3t² - 2t³ between; float32."""
    xp = namespace(values)
    t = xp.clip((values - low) / (high - low), 0, 1)
    return xp.astype(t * t * (3 - 2 * t), xp.float32)
