"""How much main memory an interval takes, so that it can be known before the work begins."""

from __future__ import annotations

from rerender.propagate.pieces import PIECE

_PROCESS = 2**28  # bytes of the interpreter with its libraries
_PIXEL = 520  # bytes of one synthesis, four guides
_PIXEL_AND_FRAME = 60  # bytes of a frame, its motion, and what the sweep from the last key made of it
_PIXEL_AND_FRAME_ONE_WAY = 10  # bytes of a frame and its picture: they go on at once, piece by piece


def interval_memory(frames: int, height: int, width: int, *, one_way: bool = False) -> int:
    """Bytes that a process needs at most for an interval on the CPU.

    The share of each frame was measured at 256×256 (one way 4 bytes a pixel, 9 with a worker's copies; nothing for
    those beyond a piece and its neighbours), that of a synthesis at 1024×1024.

    Args:
        frames: of the interval, both ends included.
        height, width: of a frame.
        one_way: whether there is a key frame at one end only. Else what is made from the last one waits for the sweep
            from the first.
    """
    each, most = (_PIXEL_AND_FRAME_ONE_WAY, PIECE + 2) if one_way else (_PIXEL_AND_FRAME, frames)
    return _PROCESS + height * width * (_PIXEL + each * min(frames, most))
