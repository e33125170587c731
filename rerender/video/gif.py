"""Animated GIF with a palette of its own for each frame."""

from __future__ import annotations

import logging
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from rerender.video.output import Writer, temporary_beside

log = logging.getLogger(__name__)

TICK = Fraction(1, 100)
SHORTEST = 2
"""Browsers show frames shorter than 2/100 s for 10/100 s."""


class GifWriter(Writer):
    """Streams frames through FFmpeg's palettegen and paletteuse into an endless GIF."""

    def __init__(self, path: Path, size: tuple[int, int]) -> None:
        super().__init__(path, size)
        self._temporary = temporary_beside(path)
        self._container: Any = av.open(str(self._temporary.absolute()), "w", options={"loop": "0"})
        self._stream = self._container.add_stream("gif", rate=100)
        self._stream.width, self._stream.height, self._stream.pix_fmt = *size, "pal8"
        self._stream.codec_context.time_base = TICK
        self._graph = _palette_graph(*size)
        self._next_tick = 0
        self._is_slowed = False
        self._durations: dict[int, int] = {}

    def _write(self, frame: np.ndarray, time: Fraction, duration: Fraction) -> None:
        tick = round(time / TICK)
        if tick < self._next_tick and not self._is_slowed:
            self._is_slowed = True
            log.warning("A GIF shows at most 50 frames a second: %s runs slower than its source.", self.path)
        tick = max(tick, self._next_tick)
        self._next_tick = tick + SHORTEST
        self._durations[tick] = max(SHORTEST, round((time + duration) / TICK) - tick)
        picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
        picture.pts, picture.time_base = tick, TICK
        self._graph.push(picture)
        self._drain()

    def _drain(self) -> None:
        """Encode what the filters have ready."""
        while True:
            try:
                picture = self._graph.pull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return
            picture.pict_type = 0
            self._mux(self._stream.encode(picture))

    def _mux(self, packets: list[Any]) -> None:
        for packet in packets:
            packet.duration = self._durations.pop(packet.pts, SHORTEST)
            self._container.mux(packet)

    def _finish(self) -> None:
        self._graph.push(None)
        self._drain()
        self._mux(self._stream.encode(None))
        self._container.close()
        self._temporary.replace(self.path)

    def _discard(self) -> None:
        try:
            self._container.close()
        except (av.FFmpegError, ValueError):
            pass  # an unfinished file has no valid end; it is removed
        finally:
            self._temporary.unlink(missing_ok=True)


def _palette_graph(width: int, height: int) -> Any:
    graph = av.filter.Graph()
    source = graph.add_buffer(width=width, height=height, format=av.VideoFormat("rgb24", width, height), time_base=TICK)
    split = graph.add("split")
    make = graph.add("palettegen", "stats_mode=single:reserve_transparent=0")
    use = graph.add("paletteuse", "new=1:dither=sierra2_4a")
    sink = graph.add("buffersink")
    source.link_to(split)
    split.link_to(use, 0, 0)
    split.link_to(make, 1, 0)
    make.link_to(use, 0, 1)
    use.link_to(sink)
    graph.configure()
    return graph
