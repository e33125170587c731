"""What every stage of a run needs to know."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial

import numpy as np

from rerender.errors import Interrupted, UserError
from rerender.events import Emit, Event
from rerender.files import file_digest, read_picture
from rerender.fingerprints import interval_fingerprint, key_fingerprints
from rerender.host import Host
from rerender.planning import Interval, Plan
from rerender.project import Project
from rerender.settings import Settings
from rerender.video.mask import MaskSource, composite
from rerender.video.read import FrameSource

logger = logging.getLogger(__name__)


class Masking:
    """Masks and sources of single frames, by frame number. Use it as a context manager."""

    def __init__(self, masks: MaskSource | None, source: FrameSource, plan: Plan) -> None:
        self._masks, self._source, self._position = masks, source, plan.position

    def __enter__(self) -> Masking:
        return self

    def __exit__(self, *_: object) -> None:
        self._source.close()
        if self._masks is not None:
            self._masks.close()

    def at(self, frame: int) -> np.ndarray | None:
        """The mask of a frame, float32 (H, W) in [0, 1], 1 where the style goes; None where there is no mask."""
        return None if self._masks is None else self._masks.at(frame)

    def apply(self, frame: int, picture: np.ndarray) -> np.ndarray:
        """`picture` inside the frame's mask, the source outside; uint8 RGB (H, W, 3)."""
        if self._masks is None:
            return picture
        return composite(picture, self._source.frame(self._position[frame]), self._masks.at(frame))


@dataclass(frozen=True)
class RunContext:
    """One run over one project.

    Attributes:
        host: what renders key frames; loads nothing before the first one is rendered. None where only propagation
            is wanted.
        emit: told about everything that happens.
        cancelled: asked between steps; once it says yes, the run stops and everything finished is kept.
    """

    project: Project
    plan: Plan
    settings: Settings
    host: Host | None
    emit: Emit
    cancelled: Callable[[], bool]

    def source(self) -> FrameSource:
        """The selected frames of the source at the working size."""
        return FrameSource(self.plan.info, self.plan.selection, self.plan.geometry)

    def masking(self) -> Masking:
        """What lays the source around the mask of each frame; does nothing where there is no mask."""
        mask, plan = self.plan.mask, self.plan
        return Masking(MaskSource(mask, plan.info, plan.geometry) if mask is not None else None, self.source(), plan)

    def check_cancelled(self) -> None:
        """Stop here if the user asked to.

        Raises:
            Interrupted: `cancelled` said yes.
        """
        if self.cancelled():
            raise Interrupted

    def begin(self, stage: str) -> None:
        """Report that a stage starts to work."""
        self.project.set_stage(stage, "running")
        self.emit(Event("stage", {"stage": stage, "state": "started"}))

    def finish(self, stage: str, *, kept: bool = False) -> None:
        """Report that a stage is done. kept: there was nothing to do."""
        self.project.set_stage(stage, "done")
        self.emit(Event("stage", {"stage": stage, "state": "kept" if kept else "done"}))

    def note(self, text: str) -> None:
        """Tell the user something that is not an error."""
        logger.info(text)
        self.emit(Event("note", {"text": text}))

    # Key frames

    def key_fingerprints(self) -> dict[int, str]:
        """Fingerprint that each key frame of the plan would have with the present settings and model.

        Raises:
            UserError: there is no checkpoint, or a prompt cannot be read.
        """
        from rerender.translate.timeline import prompt_at  # its room loads torch, which propagation does without

        host, timeline = self._needed_host(), self._timeline()
        return key_fingerprints(
            self.plan,
            self.settings,
            cache(lambda prompt: host.identity([prompt])),
            self.project.revision,
            partial(prompt_at, timeline, default=self.settings.prompt) if timeline else None,
        )

    def model_identity(self) -> dict[str, str]:
        """Names and hashes of checkpoint, VAE, and the LoRA files that the prompts name.

        Raises:
            UserError: there is no checkpoint, or a prompt cannot be read.
        """
        return self._needed_host().identity([self.settings.prompt, *(prompt for _, prompt in self._timeline())])

    def _needed_host(self) -> Host:
        if self.host is None:
            raise UserError("Rendering key frames needs a checkpoint.", hint="Name one with --checkpoint.")
        return self.host

    def _timeline(self) -> list[tuple[int, str]]:
        from rerender.translate.timeline import parse_timeline

        return parse_timeline(self.settings.prompt_timeline)

    def is_key_valid(self, frame: int, fingerprint: str) -> bool:
        """Whether the key frame on disk is the one that the present settings give."""
        result = self.project.key(frame)
        return (
            result is not None and result.fingerprint == fingerprint and result.revision == self.project.revision(frame)
        )

    def end_picture(self, key: int | None) -> np.ndarray | None:
        """The key frame at an end of an interval, if there is one."""
        return None if key is None else self.key_picture(key)

    def key_picture(self, frame: int) -> np.ndarray:
        """The key frame on disk, uint8 RGB (H, W, 3); it may have been edited by hand.

        Raises:
            UserError: it is missing, damaged, or of another size.
        """
        picture = self.project.key_picture(frame)
        geometry = self.plan.geometry
        if picture.shape[:2] != (geometry.height, geometry.width):
            raise UserError(
                f"The key frame {self.project.key_path(frame)} has {picture.shape[1]}x{picture.shape[0]} pixels, "
                f"the run {geometry.width}x{geometry.height}.",
                hint="Run the stage keys first. Where it was edited by hand, give it that size, or remove it: "
                "then it is rendered again.",
            )
        return picture

    # Results

    def interval_fingerprint(self, interval: Interval) -> str:
        """Fingerprint that the propagated frames of an interval would have with the present key frames."""
        first, last = (None if key is None else file_digest(self.project.key_path(key)) for key in interval.keys)
        return interval_fingerprint(self.plan, self.settings, interval, (first, last))

    def results(self) -> Iterator[np.ndarray]:
        """The finished frames in order, uint8 RGB (H, W, 3)."""
        keys = set(self.plan.keys)
        for frame in self.plan.frames:
            yield read_picture(self.project.key_path(frame) if frame in keys else self.project.frame_path(frame))
