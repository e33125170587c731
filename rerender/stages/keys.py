"""The stage that renders key frames, and takes up where it stopped.

A key frame needs the features of the ones before it in its shot. They are stored after each key frame
(`state/references.safetensors`), so that a killed run goes on with the same bytes; where they are missing, the shot's
earlier key frames are rendered again to get them back.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from rerender.errors import RerenderError
from rerender.events import Event, Meter
from rerender.files import replacing
from rerender.motion.flow import flow_estimator
from rerender.stages.context import Masking, RunContext
from rerender.translate import KeyFrame, Translator
from rerender.video.read import FrameSource

logger = logging.getLogger(__name__)


def render_keys(run: RunContext, stage: str, shots: Sequence[tuple[int, ...]]) -> None:
    """Render the key frames of `shots` that the project does not hold yet.

    Args:
        stage: "first" or "keys", for reports.
        shots: key frames by shot; a shot may be cut short behind any key frame.

    Raises:
        UserError: the host refuses a setting.
        Interrupted: the run was cancelled; finished key frames are kept.
    """
    prints = run.key_fingerprints()
    wanted = [key for shot in shots for key in shot]
    missing = {key for key in wanted if not run.is_key_valid(key, prints[key])}
    if not missing:
        run.finish(stage, kept=True)
        return
    assert run.host is not None
    run.begin(stage)
    meter = Meter(run.emit, stage, len(wanted), "key frames", done=len(wanted) - len(missing))
    translator = Translator(run.host, run.settings, flow_estimator(run.settings.flow))
    with run.source() as source, run.masking() as masking, translator:
        loop = _Loop(run, source, masking, translator, prints, meter)
        for shot in shots:
            for place, key in enumerate(shot):
                if key in missing:
                    loop.render(shot, place)
    run.finish(stage)


class _Loop:
    """Renders key frames one by one and keeps track of what the translator's references stand for."""

    def __init__(
        self,
        run: RunContext,
        source: FrameSource,
        masking: Masking,
        translator: Translator,
        prints: dict[int, str],
        meter: Meter,
    ) -> None:
        self.masking = masking
        self.run, self.source, self.translator, self.prints, self.meter = run, source, translator, prints, meter
        self.position = run.plan.position
        self.references = ""
        self.state = run.project.folder / "state" / "references.safetensors"

    def render(self, shot: tuple[int, ...], place: int) -> None:
        """Render key frame number `place` of a shot and store it."""
        frame = shot[place]
        revision = self.run.project.revision(frame)
        self.run.emit(Event("key_started", {"frame": frame}))
        self._bring_references(shot, place, is_redo=revision > 0)
        started = time.monotonic()
        key = self._translate(frame, is_anchor=place == 0, report=True, revision=revision)
        seconds = time.monotonic() - started
        self.run.project.add_key(
            frame,
            key.picture,
            self.prints[frame],
            revision=revision,
            seconds=seconds,
            references=key.references,
            visible=key.visible,
            target=key.target if self.run.settings.keep_state else None,
        )
        self.references = self.prints[frame]
        if place > 0 and revision > 0:
            self.references = ""  # a redone key frame is no reference: the ones after it stay as they are
        elif self.run.settings.keep_state:
            self._save_state()
        path = str(self.run.project.key_path(frame))
        self.run.emit(Event("key_frame", {"frame": frame, "path": path, "seconds": round(seconds, 3)}))

    def _translate(self, frame: int, *, is_anchor: bool, report: bool, revision: int) -> KeyFrame:
        base = self.meter.done

        def on_step(done: int, total: int) -> None:
            if report and total:
                self.meter.advance_to(round(base + min(1.0, done / total), 3))

        render: Callable[..., KeyFrame] = self.translator.render_first if is_anchor else self.translator.render_next
        picture = self._follow_to(frame)
        key = render(
            frame,
            picture,
            mask=self.masking.at(frame),
            seed_offset=revision,
            on_step=on_step,
            cancelled=self.run.cancelled,
        )
        if report:
            self.meter.advance_to(round(base) + 1)
        return key

    def _follow_to(self, frame: int) -> np.ndarray:
        """Let the translator see every frame on the way to key frame `frame`; gives that frame."""
        reached = self.translator.reached
        start = self.position[frame] if reached is None else self.position[reached] + 1
        stop = self.position[frame]
        for place, picture in self.source.read(range(start, stop)):
            self.run.check_cancelled()
            self.translator.follow(self.run.plan.frames[place], picture)
        return self.source.frame(stop)

    def _bring_references(self, shot: tuple[int, ...], place: int, *, is_redo: bool) -> None:
        """Make the translator hold what it held after the key frame before."""
        if place == 0:
            self.translator.new_shot()
            return
        needed = self.prints[shot[place - 1]]
        if self.references == needed or self._load_state(needed):
            return
        # A redone key frame makes do with the anchor and its predecessor: near enough, and far cheaper.
        chain = [shot[0], *shot[1:place][-1:]] if is_redo else list(shot[:place])
        self.run.note(f"Rendering {len(chain)} earlier key frames again, for their features")
        self.translator.new_shot()
        for number, frame in enumerate(chain):
            revision = self.run.project.revision(frame) if number == 0 else 0
            self._translate(frame, is_anchor=number == 0, report=False, revision=revision)
            self.translator.adopt(frame, self.run.key_picture(frame))
        self.references = needed

    def _save_state(self) -> None:
        tensors, meta = self.translator.state()
        with replacing(self.state) as temporary:
            save_file(tensors, temporary, metadata={"references": self.references, "meta": json.dumps(meta)})

    def _load_state(self, needed: str) -> bool:
        stored = _read_state(self.state, needed)
        if stored is None:
            return False
        tensors, meta = stored
        # The pictures on disk count: one of them may have been edited by hand since.
        pictures = {frame: self.run.key_picture(frame) for frame in {meta["anchor"], meta["previous"]}}
        try:
            self.translator.restore(tensors, meta, pictures=pictures)
        except RerenderError as error:
            logger.warning("%s They are made anew.", error)
            return False
        self.references = needed
        return True


def _read_state(path: Path, needed: str) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
    """The stored references, where they are those that belong to fingerprint `needed`."""
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("references") != needed:
                return None
            return {name: file.get_tensor(name) for name in file.keys()}, json.loads(metadata["meta"])  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        logger.warning("The stored references %s cannot be read (%s); they are made anew.", path, error)
        return None
