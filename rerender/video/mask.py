"""Masks: where in a frame the style goes. White is inside; a still picture holds for every frame.

Frame k of a mask video or folder belongs to frame k of the source, so range, frame rate, crop and size of a run apply
to both alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rerender.errors import UserError
from rerender.files import digest
from rerender.settings import Settings
from rerender.video.geometry import Geometry
from rerender.video.probe import VideoInfo, probe
from rerender.video.read import FrameSource, source_hash
from rerender.video.select import Selection

ASPECT_TOLERANCE = 0.02
"""How far the aspect ratio of a mask may be from the source's."""
_DARK, _BRIGHT = 13, 242
"""Levels that count as black and as white: video codecs do not keep the outermost ones."""

MaskArray = NDArray[np.float32]


@dataclass(frozen=True)
class Mask:
    """A mask that fits a run.

    Attributes:
        info: the picture, folder or video.
        sha256: of its content.
        side: which side of it is restyled.
        feather: how far its edges are softened to each side, in pixels of the run.
    """

    info: VideoInfo
    sha256: str
    side: str
    feather: int

    @property
    def is_still(self) -> bool:
        """Whether one picture holds for all frames."""
        return self.info.frames == 1

    @property
    def fingerprint(self) -> str:
        """What results depend on."""
        return digest([self.sha256, self.side, self.feather])


def plan_mask(settings: Settings, info: VideoInfo, selection: Selection) -> Mask | None:
    """The mask that the settings ask for, or None.

    Args:
        info: the source.
        selection: its frames that are used.

    Raises:
        UserError: the mask cannot be read, is too short, or has another shape than the source.
    """
    if not settings.mask.strip() or settings.mask_background == "render":
        return None
    path = Path(settings.mask.strip())
    if not path.exists():
        raise UserError(f"The mask {path} does not exist.", hint="Check the path, or empty the setting mask.")
    found = probe(path, until=selection.indices[-1] + 1)
    if 1 != found.frames <= selection.indices[-1]:
        raise UserError(
            f"The mask {path} has {found.frames} frames; the run uses frames up to {selection.indices[-1]}.",
            hint="Frame k of the mask belongs to frame k of the source, from 0; a single picture holds for all.",
        )
    if abs(found.width * info.height / (found.height * info.width) - 1) > ASPECT_TOLERANCE:
        raise UserError(
            f"The mask {path} has {found.width}x{found.height} pixels, the source {info.width}x{info.height}: "
            "another shape.",
            hint="A mask covers the whole frame, before cropping.",
        )
    return Mask(found, source_hash(path), settings.mask_side, settings.mask_feather)


class MaskSource:
    """The mask of each frame at the size of the run. Use it as a context manager, or call `close`.

    Args:
        info: the source.
        geometry: its crop and the size of the run.
    """

    def __init__(self, mask: Mask, info: VideoInfo, geometry: Geometry) -> None:
        self.mask, self._size = mask, (geometry.width, geometry.height)
        x, y = mask.info.width / info.width, mask.info.height / info.height
        left, top, right, bottom = geometry.box
        self._box = (left * x, top * y, right * x, bottom * y)
        self._frames = FrameSource(mask.info)
        self._still: MaskArray | None = None

    def __enter__(self) -> MaskSource:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._frames.close()

    def at(self, frame: int) -> MaskArray:
        """The mask of source frame `frame`, float32 (H, W) in [0, 1]: 1 where the style goes, exactly 0 outside.

        Raises:
            UserError: the file has changed since it was examined.
        """
        if not self.mask.is_still:
            return self._read(frame)
        if self._still is None:
            self._still = self._read(0)
        return self._still

    def _read(self, frame: int) -> MaskArray:
        grey = Image.fromarray(self._frames.frame(frame)).convert("L")
        # A kernel without negative parts: black stays black next to an edge.
        resized = np.asarray(grey.resize(self._size, Image.Resampling.BILINEAR, box=self._box), np.float32)
        level = np.clip((resized - _DARK) / (_BRIGHT - _DARK), 0.0, 1.0)
        return feathered(level if self.mask.side == "inside" else 1.0 - level, self.mask.feather)


def feathered(mask: MaskArray, pixels: int) -> MaskArray:
    """Soft edges: a Gaussian that reaches exactly `pixels` to each side. (H, W) in [0, 1] → the same."""
    if pixels == 0:
        return mask
    size, sigma = 2 * pixels + 1, max(pixels / 2, 0.5)
    blurred = cv2.GaussianBlur(mask, (size, size), sigma, borderType=cv2.BORDER_REPLICATE)
    return np.clip(np.asarray(blurred, np.float32), 0.0, 1.0)


def composite(styled: NDArray[np.uint8], source: NDArray[np.uint8], mask: MaskArray) -> NDArray[np.uint8]:
    """mask · styled + (1 - mask) · source, uint8 (H, W, 3); exactly the one or the other where the mask is 1 or 0."""
    weight = mask[..., None]
    return np.rint(weight * styled + (np.float32(1.0) - weight) * source).astype(np.uint8)
