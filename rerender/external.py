"""Key frames that were styled by another tool: found in a folder by the frame number in their names."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from rerender.errors import UserError
from rerender.files import file_digest, read_picture
from rerender.planning import Plan, analyse, choose_frames
from rerender.project import Project
from rerender.settings import Settings
from rerender.video.geometry import Geometry, plan_geometry
from rerender.video.mask import plan_mask
from rerender.video.probe import VideoInfo

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"})
ASPECT_TOLERANCE = 0.02
"""How far the aspect ratio of key frames may be from the video's; sizes rounded to multiples of 64 stay within it."""


@dataclass(frozen=True)
class ExternalKeys:
    """Picture files by frame number, all of one size."""

    files: dict[int, Path]
    width: int
    height: int


def find_keys(folder: Path) -> ExternalKeys:
    """Look for key frames in a folder; the last number in a file's name is its frame number, counted from 0.

    Raises:
        UserError: no folder, no picture with a number, two pictures of one number, different sizes, or a picture
            that cannot be read.
    """
    if not folder.is_dir():
        raise UserError(f"The folder of key frames {folder} does not exist.")
    files: dict[int, Path] = {}
    for path in sorted(folder.iterdir()):
        numbers = re.findall(r"\d+", path.stem)
        if path.suffix.lower() not in SUFFIXES or not numbers:
            continue
        frame = int(numbers[-1])
        if frame in files:
            raise UserError(f"Two key frames have the number {frame}: {files[frame].name} and {path.name}.")
        files[frame] = path
    if not files:
        raise UserError(
            f"There are no key frames in {folder.resolve()}.",
            hint="Pictures are found by the frame number in their names, such as 000040.png (the first frame is 0).",
        )
    sizes = {path: _size(path) for path in files.values()}
    (first, size), *others = sizes.items()
    for path, other in others:
        if other != size:
            raise UserError(
                f"Key frames differ in size: {first.name} has {size[0]}x{size[1]} pixels, "
                f"{path.name} {other[0]}x{other[1]}."
            )
    return ExternalKeys(dict(sorted(files.items())), *size)


def plan_around(
    keys: ExternalKeys,
    info: VideoInfo,
    source_hash: str,
    settings: Settings,
    *,
    analysis: dict[str, Any],
    cancelled: Callable[[], bool],
    note: Callable[[str], None] = lambda text: None,
) -> tuple[Plan, dict[str, Any]]:
    """Plan a propagation around given key frames; their size is the size of the result.

    Frames before the first and behind the last key frame are filled from that one alone.

    Raises:
        UserError: a key frame outside the selected frames, or of another shape than the video.
        Interrupted: `cancelled` said yes.
    """
    selection = choose_frames(info, settings)
    outside = [frame for frame in keys.files if frame not in set(selection.indices)]
    if outside:
        raise UserError(
            f"The key frame {keys.files[outside[0]].name} has the number {outside[0]}, which is not among the "
            f"{len(selection)} frames of the run ({selection.indices[0]} to {selection.indices[-1]}).",
            hint="Frame numbers count from 0. Rename or move the file.",
        )
    geometry = _geometry_for(keys, info, settings)
    analysis = analyse(
        info, source_hash, selection, geometry, cuts=settings.scene_cuts, known=analysis, cancelled=cancelled, note=note
    )
    cuts = tuple(selection.indices[cut] for cut in analysis.get("cuts", ()))
    mask = plan_mask(settings, info, selection)
    return Plan(info, source_hash, selection, geometry, (tuple(keys.files),), cuts, mask), analysis


def take_over(
    keys: ExternalKeys, project: Project, mask: str = "", masked: Callable[[int, np.ndarray], np.ndarray] | None = None
) -> None:
    """Copy key frames into the project, where they differ from what it holds.

    Args:
        mask: fingerprint of the mask.
        masked: (frame, picture) → the picture with the source outside the mask.
    """
    for frame, path in keys.files.items():
        fingerprint = f"external {file_digest(path)[:24]}" + (f" {mask}" if mask else "")
        known = project.key(frame)
        if known is None or known.fingerprint != fingerprint:
            picture = read_picture(path)
            picture = masked(frame, picture) if masked is not None else picture
            project.add_key(frame, picture, fingerprint, revision=0, seconds=0.0)


def _geometry_for(keys: ExternalKeys, info: VideoInfo, settings: Settings) -> Geometry:
    crop = (settings.crop_left, settings.crop_top, settings.crop_right, settings.crop_bottom)
    box = plan_geometry(info.width, info.height, crop, 0).box
    width, height = box[2] - box[0], box[3] - box[1]
    deviation = (keys.width / keys.height) / (width / height)
    if abs(deviation - 1) > ASPECT_TOLERANCE:
        raise UserError(
            f"The key frames have {keys.width}x{keys.height} pixels, the video {width}x{height}: another shape.",
            hint="Crop the video like the key frames with --set crop_left=… and so on.",
        )
    return Geometry(box=box, width=keys.width, height=keys.height)


def _size(path: Path) -> tuple[int, int]:
    try:
        with Image.open(path) as image:
            return image.size
    except (UnidentifiedImageError, OSError) as error:
        raise UserError(f"The key frame {path} cannot be read: {error}.", hint="Remove or replace the file.") from error
