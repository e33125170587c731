"""Key frames that were styled by another tool: found in a folder by the frame number in their names."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rerender.errors import UserError
from rerender.files import file_digest, read_picture
from rerender.planning import Plan, analyse, check_size, choose_frames
from rerender.project import Project
from rerender.settings import Settings
from rerender.video.folder import PICTURE_SUFFIXES
from rerender.video.geometry import MULTIPLE, Geometry, plan_geometry
from rerender.video.mask import plan_mask
from rerender.video.probe import VideoInfo

ASPECT_TOLERANCE = 0.02
"""How far the aspect ratio of key frames may be from the video's."""


@dataclass(frozen=True)
class ExternalKeys:
    """Picture files by frame number, all of one size.

    Attributes:
        by_name: they were found by the names of the source's pictures, and their numbers alone would say otherwise.
    """

    files: dict[int, Path]
    width: int
    height: int
    by_name: bool = False


def find_keys(folder: Path, pictures: Sequence[Path] = ()) -> ExternalKeys:
    """Look for key frames in a folder.

    Where the source is a folder of pictures and every key frame has the name of one of them, that is its frame.
    Otherwise the last number in a name is the frame number, counted from 0; where the last numbers are not all
    different (as in "key_4_v2.png"), the last one that is.

    Args:
        pictures: of the source, in order, where it is a folder.

    Raises:
        UserError: no folder, no picture with a number, two pictures of one number, different sizes, or a picture
            that cannot be read.
    """
    if not folder.is_dir():
        what = "is no folder" if folder.exists() else "does not exist"
        raise UserError(f"The folder of key frames {folder} {what}.", hint="Name a folder of pictures with --keys.")
    found = [
        path for path in sorted(folder.iterdir()) if path.suffix.lower() in PICTURE_SUFFIXES and path.name[0] != "."
    ]
    named = _by_name(found, pictures)
    files = named or _by_number(found)
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
                f"{path.name} {other[0]}x{other[1]}.",
                hint="Bring all of them to one size.",
            )
    by_name = bool(named) and any(str(frame) != path.stem.lstrip("0") for frame, path in named.items() if frame)
    return ExternalKeys(dict(sorted(files.items())), *size, by_name)


def _by_name(found: Sequence[Path], pictures: Sequence[Path]) -> dict[int, Path]:
    """Key frames by the place of the source's picture of that name; {} where one has no such picture."""
    places = {path.stem: place for place, path in enumerate(pictures)}
    if not all(path.stem in places for path in found):
        return {}
    return _unique([(places[path.stem], path) for path in found])


def _by_number(found: Sequence[Path]) -> dict[int, Path]:
    numbers = {path: [int(number) for number in re.findall(r"\d+", path.stem)] for path in found}
    numbered = {path: each for path, each in numbers.items() if each}
    fewest = min(map(len, numbered.values()), default=0)
    for place in range(1, fewest + 1):
        files = {each[-place]: path for path, each in numbered.items()}
        if len(files) == len(numbered):
            return files
    return _unique([(each[-1], path) for path, each in numbered.items()])


def _unique(files: Sequence[tuple[int, Path]]) -> dict[int, Path]:
    known: dict[int, Path] = {}
    for frame, path in files:
        if frame in known:
            raise UserError(
                f"Two key frames have the number {frame}: {known[frame].name} and {path.name}.",
                hint="Each needs the number of its frame, counted from 0, in its name. Rename or move one of them.",
            )
        known[frame] = path
    return known


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
    check_size(geometry, settings, "the key frames' size")
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
    if not _same_shape((keys.width, keys.height), (width, height)):
        lying = _same_shape((keys.height, keys.width), (width, height))
        raise UserError(
            f"The key frames have {keys.width}x{keys.height} pixels, the video {width}x{height}: another shape.",
            hint="Turn them by 90°: the video counts as it is shown, upright."
            if lying
            else "Crop the video like the key frames with --set crop_left=… and so on.",
        )
    return Geometry(box=box, width=keys.width, height=keys.height)


def _same_shape(keys: tuple[int, int], video: tuple[int, int]) -> bool:
    """Whether the aspect ratios agree, or differ by no more than sides that were rounded to multiples of 8."""
    deviation = abs(keys[0] * video[1] - keys[1] * video[0])
    return deviation <= max(ASPECT_TOLERANCE * keys[1] * video[0], MULTIPLE / 2 * sum(video))


def _size(path: Path) -> tuple[int, int]:
    height, width = read_picture(path).shape[:2]
    return width, height
