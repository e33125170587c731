"""How much main memory an interval takes, so that it can be known before the work begins."""

from __future__ import annotations

_PROCESS = 2**28  # bytes of the interpreter with its libraries
_PIXEL = 520  # bytes of one synthesis, four guides
_PIXEL_AND_FRAME = 60  # bytes of a frame, its motion, and what the sweep from the last key made of it
_PIXEL_AND_FRAME_ONE_WAY = 10  # bytes of a frame and its picture: a sweep from the first key gives them on at once


def interval_memory(frames: int, height: int, width: int, *, from_last: bool) -> int:
    """Bytes that a process needs at most for an interval on the CPU.

    The share of each frame was measured at 256×256 (one way 4 bytes a pixel, and a worker's copies on top), that of a
    synthesis at 1024×1024.

    Args:
        frames: of the interval, both ends included.
        height, width: of a frame.
        from_last: whether there is a key frame at its end: what is made from there waits for the sweep from the first.
    """
    each = _PIXEL_AND_FRAME if from_last else _PIXEL_AND_FRAME_ONE_WAY
    return _PROCESS + height * width * (_PIXEL + each * frames)
