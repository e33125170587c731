"""A key frame's references, looked at again: flow and masks from the source, pictures from the project.

Nothing is sampled. Flow and masks are measured anew by the code that the rendering used, so they are what it used as
long as the flow estimator is; the warped pictures show the references as they are in the project now.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rerender.errors import Interrupted, UserError
from rerender.files import read_picture
from rerender.inspection.views import (
    checkerboard,
    difference_view,
    flow_view,
    hidden_view,
    latent_view,
    mask_view,
    with_holes,
)
from rerender.motion.flow import FlowEstimator, UInt8Array, flow_estimator
from rerender.motion.occlusion import Correspondence
from rerender.planning import choose_frames
from rerender.project import KeyResult, Project
from rerender.settings import Settings, make_settings
from rerender.video.geometry import Geometry, plan_geometry
from rerender.video.mask import MaskSource, plan_mask
from rerender.video.probe import VideoInfo, probe
from rerender.video.read import FrameSource, source_hash
from rerender.video.select import Selection

Progress = Callable[[int, int], None]


def inspect_key_frame(
    project: Project | Path,
    frame: int,
    *,
    estimator: FlowEstimator | None = None,
    on_progress: Progress | None = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> dict[str, UInt8Array]:
    """Pictures of what a rendered key frame was made from, by name, in the order to show them; see `caption`.

    source, result; mask, where the run has one; where the key frame had references also flow, hidden, latent and warped
    of "previous" and of "anchor" (of the anchor alone where both are the same), target, and difference. The target is
    the picture that pixel-aware fusion pulled to, as it was stored; where it was not stored there is "target_estimate"
    instead: the references alone, with a checkerboard where neither shows anything.

    Args:
        project: a project or its folder; a run may be at work on it.
        frame: frame number in the source.
        estimator: optical flow; by default that of the settings.
        on_progress: told (frames followed, frames to follow): flow is measured through every frame from the anchor on.
        cancelled: asked after each frame.

    Returns:
        uint8 RGB (H, W, 3) each, of the key frame's size.

    Raises:
        UserError: no such key frame is rendered, or the source has moved or changed.
        Interrupted: `cancelled` said yes.
    """
    project = Project.as_it_is(project) if isinstance(project, Path) else project
    key = _rendered(project, frame)
    settings = project.settings or make_settings({})
    result = project.key_picture(frame)
    info, selection = _examined(project, settings, frame)
    geometry = _geometry(info, settings, result)
    with FrameSource(info, selection, geometry) as source:
        views = {"source": source.frame(source.indices.index(frame)), "result": result}
        if (mask := plan_mask(settings, info, selection)) is not None:
            with MaskSource(mask, info, geometry) as masks:
                views["mask"] = mask_view(views["source"], masks.at(frame))
        if not key.references:
            return views
        walk = _Walk(source, estimator or flow_estimator(settings.flow), on_progress, cancelled)
        found = walk.correspondences(frame, key.references)
    pictures = {name: project.key_picture(key.references[name]) for name in found}
    for name, correspondence in found.items():
        views |= _reference_views(name, views["source"], pictures[name], correspondence)
    stored = read_picture(project.target_path(frame)) if project.target_path(frame).is_file() else None
    return views | _target_views(result, stored, found, pictures)


def _rendered(project: Project, frame: int) -> KeyResult:
    key = project.key(frame)
    if key is None:
        raise UserError(f"Frame {frame} is no rendered key frame of {project.folder}.", hint=_listed(project))
    return key


def _listed(project: Project) -> str:
    frames = sorted(int(path.stem) for path in (project.folder / "keys").glob("*.png") if path.stem.isdecimal())
    if not frames:
        return "No key frame is rendered yet."
    return "Rendered are " + ", ".join(map(str, frames[:12])) + (" …" if len(frames) > 12 else "") + "."


def _examined(project: Project, settings: Settings, frame: int) -> tuple[VideoInfo, Selection]:
    """The project's source, and the frames of it that the last run used, at least up to `frame`."""
    path = Path(project.source["path"])
    if not path.exists():
        raise UserError(f"The source {path} of the project is not there any more.", hint="Put it back to its place.")
    project.check_source(source_hash(path))
    if settings.frame_rate == 0:  # every frame is used, so that what comes later need not be decoded
        settings = settings.copy(update={"end_frame": frame + 1})
    info = probe(path, until=settings.end_frame or None)
    return info, choose_frames(info, settings)


def _geometry(info: VideoInfo, settings: Settings, result: UInt8Array) -> Geometry:
    crop = (settings.crop_left, settings.crop_top, settings.crop_right, settings.crop_bottom)
    box = plan_geometry(info.width, info.height, crop, 0).box
    return Geometry(box=box, width=result.shape[1], height=result.shape[0])


@dataclass(frozen=True)
class _Walk:
    """Follows the motion from the references to the key frame, through every frame, as the rendering did."""

    source: FrameSource
    estimator: FlowEstimator
    on_progress: Progress | None
    cancelled: Callable[[], bool]

    def correspondences(self, frame: int, references: dict[str, int]) -> dict[str, Correspondence]:
        """How `frame` maps onto each reference, each once, the anchor last."""
        from rerender.translate.tracks import Tracks  # brings torch along, which nothing before needs

        wanted = {number: name for name, number in references.items()}  # one that is both counts as the anchor
        place = {number: position for position, number in enumerate(self.source.indices)}
        first, last = place[min(wanted)], place[frame]
        tracks = Tracks(self.estimator)
        for position, picture in self.source.read(range(first, last + 1)):
            if self.cancelled():
                raise Interrupted
            number = self.source.indices[position]
            tracks.follow(number, picture)
            if number in wanted:
                tracks.begin(number, picture)
            if self.on_progress is not None:
                self.on_progress(position - first, last - first)
        return {name: tracks.correspond(number) for number, name in sorted(wanted.items(), reverse=True)}


def _reference_views(
    name: str, source: UInt8Array, picture: UInt8Array, correspondence: Correspondence
) -> dict[str, UInt8Array]:
    from rerender.motion.warp import warp

    return {
        f"flow_{name}": flow_view(correspondence.flow),
        f"hidden_{name}": hidden_view(source, correspondence.occlusion),
        f"latent_{name}": latent_view(source, correspondence.latent_mask),
        f"warped_{name}": with_holes(warp(picture, correspondence.flow), correspondence.occlusion),
    }


def _target_views(
    result: UInt8Array,
    stored: UInt8Array | None,
    found: dict[str, Correspondence],
    pictures: dict[str, UInt8Array],
) -> dict[str, UInt8Array]:
    """The target and how far the result is from it, where any reference shows the frame."""
    hidden = np.minimum.reduce([correspondence.occlusion for correspondence in found.values()])
    target = _estimate(found, pictures) if stored is None or stored.shape != result.shape else stored
    name = "target" if target is stored else "target_estimate"
    return {name: target, "difference": with_holes(difference_view(result, target), hidden)}


def _estimate(found: dict[str, Correspondence], pictures: dict[str, UInt8Array]) -> UInt8Array:
    """The references as the fusion target overlays them, on a checkerboard."""
    from rerender.motion.warp import warp

    target = checkerboard(next(iter(pictures.values()))).astype(np.float32)
    for name, correspondence in found.items():
        hidden = correspondence.occlusion[..., None]
        target = hidden * target + (1.0 - hidden) * warp(pictures[name].astype(np.float32), correspondence.flow)
    return np.rint(target).astype(np.uint8)
