"""The work on one job: its stages, with the host held only as long as it is needed, and what Skip means."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from rerender.errors import Interrupted, UserError
from rerender.events import Emit, Event
from rerender.host import Host
from rerender.settings import Settings, make_settings
from rerender.ui.job import Job

if TYPE_CHECKING:
    from rerender.project import Project
    from rerender.stages.context import RunContext

OpenHost = Callable[[Job, Callable[[], bool]], AbstractContextManager[tuple[Host, Callable[[], bool]]]]
WATCHED_SECONDS = 5.0
"""A preview is wanted for this long after somebody looked."""


@dataclass
class Signals:
    """What others may ask of the job at work, and what it shows them meanwhile.

    Attributes:
        skip_frame: key frame that is to be left out; None: none.
        redone: key frames of which a new rendering was asked in this run, once each however often it starts over.
        skippable: key frames that may be left out: not the ends of a shot, which its other frames are held to.
        preview: the newest step as a small picture, uint8 RGB (h, w, 3).
    """

    cancel: threading.Event = field(default_factory=threading.Event)
    skip_frame: int | None = None
    redone: set[int] = field(default_factory=set)
    skippable: frozenset[int] = frozenset()
    preview: np.ndarray | None = None
    looked: float = -1e9

    def stop(self) -> bool:
        """Whether the run is to stop within one step."""
        return self.cancel.is_set() or self.skip_frame is not None

    def skip(self, frame: int | None) -> None:
        """Leave out the key frame that is being rendered.

        Raises:
            UserError: there is none, or it is one that the shot needs.
        """
        if frame is None:
            raise UserError("No key frame is being rendered now.", hint="Skip leaves out the one at work.")
        if frame not in self.skippable:
            raise UserError(
                f"Key frame {frame} is the first or last of its shot and cannot be left out.",
                hint="The frames around it have nothing else to follow. Interrupt stops the run.",
            )
        self.skip_frame = frame

    def look(self) -> np.ndarray | None:
        """The newest preview; asking for it keeps them coming."""
        self.looked = time.monotonic()
        return self.preview

    def watched(self) -> bool:
        """Whether somebody looks at previews."""
        return time.monotonic() - self.looked < WATCHED_SECONDS

    def show(self, picture: np.ndarray) -> None:
        """Take the newest preview."""
        self.preview = picture


class Update(Protocol):
    """Notes changed values of the job."""

    def __call__(self, **changes: Any) -> None:
        """Note them."""


@dataclass(frozen=True)
class Workshop:
    """What it takes to work on a job.

    Attributes:
        folder: of the job.
        one_process: propagate without worker processes.
        emit: told about everything that happens.
        update: notes changed values of the job.
    """

    folder: Path
    open_host: OpenHost
    signals: Signals
    one_process: bool
    emit: Emit
    update: Update

    def run(self, job: Job) -> None:
        """Run the job's stages; start over without a key frame that is skipped.

        Raises:
            Interrupted: the job was cancelled.
            RerenderError: it failed.
        """
        while True:
            try:
                self._stages(job)
                return
            except Interrupted:
                frame, self.signals.skip_frame = self.signals.skip_frame, None
                if frame is None or self.signals.cancel.is_set():
                    raise
                job = self._without(job, frame)

    def _stages(self, job: Job) -> None:
        # Imported here: a webui that only starts should not wait for the video and flow libraries.
        from rerender.project import Project

        with Project(self.folder / "project") as project:
            if job.stage != "propagate":
                self._key_frames(job, project)
            if job.stage in ("propagate", "all"):
                self._propagation(job, project)

    def _key_frames(self, job: Job, project: Project) -> None:
        from rerender.pipeline import prepare, redo, run_stage
        from rerender.preview import PreviewingHost

        # The host is let go before propagation: others may use it meanwhile.
        with self._open(job) as (host, stop):
            shown: Any = PreviewingHost(host, self.signals.show, self.signals.watched)
            emit = self._with_comments(host)
            run = prepare(project, Path(job.video), self._settings(job), host=shown, emit=emit, cancelled=stop)
            for frame in set(job.redo) - self.signals.redone:
                redo(run, frame)
                self.signals.redone.add(frame)
            self._note_plan(run, job)
            self.signals.preview = None
            run_stage(run, "first" if job.stage == "first" else "keys", self._output(job))

    def _with_comments(self, host: Host) -> Emit:
        """Tells, beside what happens, what the host remarks on while it renders, each remark once."""
        told: set[str] = set()

        def emit(event: Event) -> None:
            self.emit(event)
            for text in getattr(host, "comments", ()):
                if text not in told:
                    told.add(text)
                    self.emit(Event("note", {"text": text}))

        return emit

    def _note_plan(self, run: RunContext, job: Job) -> None:
        prints = run.key_fingerprints()
        valid = tuple(frame for frame in run.plan.keys if run.is_key_valid(frame, prints[frame]))
        inner = {frame for shot in run.plan.shots for frame in shot[1:-1]}
        self.signals.skippable = frozenset(inner | set(job.redo))
        self.update(key_frames=valid)

    def _propagation(self, job: Job, project: Project) -> None:
        from rerender.pipeline import prepare, run_stage

        self.signals.preview = None
        cancelled = self.signals.cancel.is_set
        settings = self._settings(job)
        run = prepare(project, Path(job.video), settings, host=None, emit=self.emit, cancelled=cancelled)
        self.update(key_frames=tuple(frame for frame in run.plan.keys if project.key(frame) is not None))
        run_stage(run, "propagate", self._output(job))

    def _without(self, job: Job, frame: int) -> Job:
        """The job with one key frame left out, or kept as it was where it was being redone."""
        from rerender.project import Project

        if frame in job.redo:
            with Project(self.folder / "project") as project:
                project.take_back_redo(frame)
            self.emit(Event("note", {"text": f"Key frame {frame} stays as it was"}))
            return replace(job, redo=tuple(other for other in job.redo if other != frame))
        keys = [key for key in self._planned(job) if key != frame]
        settings = {**job.settings, "key_mode": "listed", "key_frames": ", ".join(map(str, keys))}
        self.update(settings=settings, rendering=None)
        self.emit(Event("note", {"text": f"Key frame {frame} is left out; its neighbours fill in"}))
        return replace(job, settings=settings)

    def _planned(self, job: Job) -> tuple[int, ...]:
        from rerender.pipeline import prepare
        from rerender.project import Project

        with Project(self.folder / "project") as project:
            return prepare(project, Path(job.video), self._settings(job), host=None).plan.keys

    def _open(self, job: Job) -> AbstractContextManager[tuple[Host, Callable[[], bool]]]:
        return self.open_host(job, self.signals.stop)

    def _settings(self, job: Job) -> Settings:
        settings = make_settings(job.settings)
        return settings.copy(update={"workers": 1}) if self.one_process else settings

    def _output(self, job: Job) -> Path:
        return self.folder / f"result.{job.format}"
