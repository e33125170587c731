"""What is to be propagated: the frames of an interval, and the key frames at its ends."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from rerender.errors import UserError


class Clip(Protocol):
    """Input frames, (H, W, 3) uint8 RGB, by their place: a list, or what reads them when a part is asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> Sequence[np.ndarray]: ...


Frames = Clip | Callable[[], Clip]


@dataclass(frozen=True)
class IntervalJob:
    """One interval for `propagate_all`; the arguments of `propagate_interval`."""

    frames: Frames
    first_key: np.ndarray | None
    last_key: np.ndarray | None
    cuts: Sequence[int] = ()

    @property
    def is_one_way(self) -> bool:
        """Whether there is a key frame at one end only."""
        return self.first_key is None or self.last_key is None

    def clip(self) -> Clip:
        """The frames.

        Raises:
            UserError: there are none, or there is no key frame.
        """
        if self.first_key is None and self.last_key is None:
            hint = "Give at least one key frame."
            raise UserError("An interval without a key frame cannot be propagated.", hint=hint)
        clip = self.frames() if callable(self.frames) else self.frames
        if not len(clip):
            raise UserError("An interval without frames cannot be propagated.")
        return clip


def check_picture(name: str, picture: np.ndarray, like: np.ndarray) -> None:
    """Refuse what is no picture, or has another size than the video.

    Raises:
        UserError: it is so.
    """
    if not isinstance(picture, np.ndarray) or picture.dtype != np.uint8 or picture.shape[2:] != (3,):
        raise UserError(f"The {name} is no picture (H, W, 3) of uint8.", hint="Convert it to 8-bit RGB.")
    if picture.shape != like.shape:
        sizes = " × ".join(map(str, picture.shape[1::-1])), " × ".join(map(str, like.shape[1::-1]))
        raise UserError(f"The {name} is {sizes[0]}, the video {sizes[1]}.", hint="Resize it to the video's size.")
