"""The stage that renders key frames, and takes up where it stopped.

A key frame needs the features of the ones before it in its shot. They are stored now and then (`references.py`), so
that a killed run goes on with the same bytes; the key frames since then are rendered again to get theirs back.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from rerender.errors import UserError
from rerender.events import Event, Meter, counted
from rerender.fingerprints import reference_fingerprint
from rerender.motion.flow import flow_estimator
from rerender.recipes import recipe_of
from rerender.settings import frame_seed
from rerender.stages.context import Masking, RunContext
from rerender.stages.references import ReferenceStore
from rerender.translate import KeyFrame, Translator
from rerender.video.read import FrameSource


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
    _say_what_is_replaced(run, missing)
    meter = Meter(run.emit, stage, len(wanted), "key frames", done=len(wanted) - len(missing))
    translator = Translator(run.host, run.settings, flow_estimator(run.settings.flow))
    with run.source() as source, run.masking() as masking, translator:
        loop = _Loop(run, source, masking, translator, prints, meter)
        try:
            for shot in shots:
                for place, key in enumerate(shot):
                    if key in missing:
                        loop.render(shot, place)
        finally:
            loop.save_state()
    run.finish(stage)


def _say_what_is_replaced(run: RunContext, missing: set[int]) -> None:
    replaced = [key for key in sorted(missing) if run.project.key(key) is not None]
    if replaced:
        edited = sum(run.project.is_edited(key) for key in replaced)
        by_hand = f", {edited} of them edited by hand," if edited else ""
        run.note(f"{counted(len(replaced), 'key frame')}{by_hand} made anew; what was there goes to history/")


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
        self.anchor_of = {frame: shot[0] for shot in run.plan.shots for frame in shot}
        self.recipe = recipe_of(run.settings, run.model_identity())
        self.position = run.plan.position
        self.references = ""
        self.store = ReferenceStore(run.project.folder / "state")
        self.keep_state = run.settings.keep_state
        self.size_told = False
        self.arrived: dict[int, np.ndarray] = {}  # the key frame that was reached while the one before was sampled

    def render(self, shot: tuple[int, ...], place: int) -> None:
        """Render key frame number `place` of a shot and store it."""
        frame = shot[place]
        revision = self.run.project.revision(frame)
        self.run.emit(Event("key_started", {"frame": frame}))
        self._bring_references(shot, place, is_redo=revision > 0)
        started = time.monotonic()
        following = self._following(shot, place)
        key = self._translate(frame, is_anchor=place == 0, report=True, revision=revision, following=following)
        seconds = time.monotonic() - started
        self._tell_size()
        self.run.project.add_key(
            frame,
            key.picture,
            self.prints[frame],
            revision=revision,
            seconds=seconds,
            references=key.references,
            visible=key.visible,
            target=key.target if self.run.settings.keep_state else None,
            seed=frame_seed(self.run.settings, frame, revision),
            recipe=self.recipe,
        )
        self.references = self._reference_print(frame)
        if place > 0 and revision > 0:
            self.references = ""  # a redone key frame is no reference: the ones after it stay as they are
        elif self.store.is_due:
            self.save_state()
        path = str(self.run.project.key_path(frame))
        self.run.emit(Event("key_frame", {"frame": frame, "path": path, "seconds": round(seconds, 3)}))

    def _tell_size(self) -> None:
        """Say once how much memory the references take; for many it is what decides whether a run fits."""
        size = self.translator.bank_size
        if size and not self.size_told:
            where = "in main memory" if self.translator.bank_is_on_host else "beside the model"
            self.run.note(f"Features of the reference frames: at most {size / 2**20:.0f} MB, {where}")
            self.size_told = True

    def _following(self, shot: tuple[int, ...], place: int) -> int | None:
        """The key frame that will be rendered after this one and refer to it, if there is one."""
        is_reference = place == 0 or self.run.project.revision(shot[place]) == 0
        following = shot[place + 1] if place + 1 < len(shot) and is_reference else None
        if following is None or self.run.is_key_valid(following, self.prints[following]):
            return None
        return following

    def _translate(
        self, frame: int, *, is_anchor: bool, report: bool, revision: int, following: int | None = None
    ) -> KeyFrame:
        base = self.meter.done

        def on_step(done: int, total: int) -> None:
            if report and total:
                self.meter.advance_to(round(base + min(1.0, done / total), 3))

        render: Callable[..., KeyFrame] = self.translator.render_first if is_anchor else self.translator.render_next
        picture = self._follow_to(frame)
        self.references = ""  # until the caller knows what they stand for
        key = render(
            frame,
            picture,
            mask=self.masking.at(frame),
            seed_offset=revision,
            on_step=on_step,
            cancelled=self.run.cancelled,
            upcoming=None if following is None else self._way(frame, following),
        )
        if report:
            self.meter.advance_to(round(base) + 1)
        return key

    def _follow_to(self, frame: int) -> np.ndarray:
        """Let the translator see every frame on the way to key frame `frame`; gives that frame."""
        reached = self.translator.reached
        if frame in self.arrived:
            picture = self.arrived.pop(frame)
            if reached == frame:
                return picture
        start = self.position[frame] if reached is None else self.position[reached] + 1
        stop = self.position[frame]
        for place, picture in self.source.read(range(start, stop)):
            self.run.check_cancelled()
            self.translator.follow(self.run.plan.frames[place], picture)
        return self.source.frame(stop)

    def _way(self, frame: int, following: int) -> Iterator[tuple[int, np.ndarray]]:
        """The frames behind `frame` up to key frame `following`.

        Read in the translator's thread while the model samples: nothing else reads this source meanwhile.
        """
        for place, picture in self.source.read(range(self.position[frame] + 1, self.position[following] + 1)):
            self.run.check_cancelled()
            yield self.run.plan.frames[place], picture
        self.arrived = {following: picture}

    def _bring_references(self, shot: tuple[int, ...], place: int, *, is_redo: bool) -> None:
        """Make the translator hold what it held after the key frame before."""
        if place == 0:
            self.translator.new_shot()
            return
        needed = self._reference_print(shot[place - 1])
        if self.references == needed:
            return
        for frame in self._missing(shot[:place], is_redo=is_redo):
            other = self._other_seed(frame)
            revision = self._usual_seed(frame) if other is None else other
            self._translate(frame, is_anchor=frame == shot[0], report=False, revision=revision)
            self.translator.adopt(frame, self.run.key_picture(frame))
        self.references = "" if is_redo else needed  # a redo's references may be the short cut, never to be stored

    def _missing(self, shot: Sequence[int], *, is_redo: bool) -> list[int]:
        """Bring back the references that are stored; gives the key frames that must be rendered for the rest."""
        self.references = ""
        prints = [self._reference_print(frame) for frame in shot]
        behind = self.store.load(self.translator, prints, self.run.key_picture)
        missing = list(shot[behind:])
        is_other = self._other_seed(shot[-1]) is not None
        if is_redo or is_other or self._other_seed(shot[0]) is not None:
            # Makes do with the anchor, the predecessor, and its own one where it is rendered with another seed than
            # before: near enough, and far cheaper.
            anchor = missing[:1] if behind == 0 else []
            missing = [*anchor, *missing[len(anchor) :][-2 if is_other else -1 :]]
        if missing:
            self.run.note(f"Rendering {counted(len(missing), 'earlier key frame')} again, for the features")
        return missing

    def _reference_print(self, frame: int) -> str:
        """Fingerprint of what the translator holds after key frame `frame`."""
        others = [self._other_seed(each) for each in (self.anchor_of[frame], frame)]
        return reference_fingerprint(self.prints[frame], self.run.settings, others)

    def _usual_seed(self, frame: int) -> int:
        """What is added to the seed of a key frame as a reference: a redone one is none, but for an anchor."""
        return self.run.project.revision(frame) if frame == self.anchor_of[frame] else 0

    def _other_seed(self, frame: int) -> int | None:
        """The same for an earlier version that was brought back, where it has another seed than that; else None.

        What later key frames take from it beside its picture is then to be that of a rendering with its own seed.
        """
        key = self.run.project.key(frame)
        if key is None or not key.brought_back or key.seed is None:
            return None
        other = (key.seed - frame_seed(self.run.settings, frame)) % 2**32
        return None if other == self._usual_seed(frame) else other

    def save_state(self) -> None:
        """Store the references, where there are whole ones that are not stored yet."""
        frames = self.translator.references
        if not self.keep_state or not self.references or frames is None:
            return
        try:
            self.store.save(self.translator, self.references, self._reference_print(frames[0]))
        except UserError as error:
            self.keep_state = False
            reason = error.message.rstrip(".")
            self.run.note(f"The reference features are not stored, so a stopped run takes longer to go on: {reason}")
