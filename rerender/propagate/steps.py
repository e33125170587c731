"""From one frame of a sweep to the next: what the input frames alone say about it.

It is found on the host, beside the flow, while a device still works on the frame before.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rerender.arrays import Array
from rerender.motion.flow import FlowPair
from rerender.motion.occlusion import hidden
from rerender.propagate.holes import Filling, plan_filling

_PIXELS_ALIKE = 1.0  # flows that differ by this many pixels are half as trustworthy (see plan_filling)
_COLOURS_ALIKE = 24.0  # and colours by this much


@dataclass(frozen=True)
class Step:
    """What leads from one frame of a sweep to the next.

    Attributes:
        flow: (H, W, 2) float32, this frame → the one before it.
        holes: (H, W) bool, where the frame before shows something else.
        filling: how they are filled.
    """

    flow: Array
    holes: Array
    filling: Filling

    @classmethod
    def between(cls, frame: np.ndarray, before: np.ndarray, motion: FlowPair, onward: np.ndarray | None) -> Step:
        """Prepare the step from `before` to `frame`.

        Args:
            frame, before: (H, W, 3) uint8, the input frames.
            motion: forward = frame → before, backward = the reverse.
            onward: (H, W, 2), frame → the one after it; None where there is none.
        """
        holes = hidden(frame, before, motion)
        likeness = frame.astype(np.float32) / np.float32(_COLOURS_ALIKE)
        if onward is not None:  # the flow to the frame before is what the hole has not got
            likeness = np.concatenate([likeness, onward / np.float32(_PIXELS_ALIKE)], 2)
        return cls(motion.forward, holes, plan_filling(holes, likeness))
