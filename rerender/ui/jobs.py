"""Jobs: runs that are queued, worked on one after the other, and remembered over a restart.

A job is a folder below the root: `job.json` (what was asked, how far it came), `project/` (see `rerender.project`) and
the finished file. A job may be run again: another stage, other settings; whatever is still valid is kept.
"""

from __future__ import annotations

import json
import logging
import queue
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rerender.errors import Interrupted, RerenderError, UserError
from rerender.events import Event
from rerender.files import storage_error, write_json
from rerender.history import History, Version
from rerender.settings import draw_seed, make_settings
from rerender.ui import texts
from rerender.ui.job import Format, Job, State, checked_format, checked_stage, job_of
from rerender.ui.places import Busy, Missing, without_folders
from rerender.ui.work import OpenHost, Signals, Workshop

if TYPE_CHECKING:
    from rerender.pipeline import RunStage

__all__ = ["Format", "Job", "Jobs", "OpenHost", "State"]

logger = logging.getLogger(__name__)


class Jobs:
    """All jobs below one folder, and the thread that works on them.

    Args:
        root: folder of the jobs; made when the first job comes.
        open_host: `open_host(job, cancelled)` → a context manager that holds what renders key frames, and gives it with
            the question whether to stop (the job was cancelled, or the host's own button was pressed).
        one_process: propagate without worker processes. In the webui they would start the webui's own main module.
        queue_limit: most jobs that may wait or run, asked for when one comes; 0: no limit.
    """

    def __init__(
        self,
        root: Path,
        open_host: OpenHost,
        *,
        one_process: bool = False,
        queue_limit: Callable[[], int] = lambda: 0,
    ) -> None:
        self._queue_limit = queue_limit
        self.root = root
        self._one_process = one_process
        self._open_host = open_host
        self._jobs: dict[str, Job] = {}
        self._signals: dict[str, Signals] = {}
        self._lock = threading.RLock()
        self._queue: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._worker: threading.Thread | None = None
        self._load()

    # What callers ask

    def list(self) -> list[Job]:
        """All jobs, newest first."""
        with self._lock:
            return sorted(self._jobs.values(), key=lambda job: job.created, reverse=True)

    def at_work(self) -> Sequence[Job]:
        """The job that runs, then those that wait, in their order."""
        with self._lock:
            active = [job for job in self._jobs.values() if job.active]
        return sorted(active, key=lambda job: (job.state != "running", job.queued))

    def get(self, job_id: str) -> Job:
        """One job.

        Raises:
            Missing: there is none of that name.
        """
        with self._lock:
            job = self._jobs.get(job_id)
        if job is None:
            raise Missing(f"There is no job {job_id!r}.")
        return job

    def submit(
        self,
        video: Path,
        settings: dict[str, Any],
        *,
        stage: RunStage = "all",
        format: Format = "mp4",
        options: dict[str, Any] | None = None,
    ) -> Job:
        """Queue a new job.

        Raises:
            UserError: a setting or stage that is refused.
            Busy: too many jobs wait already.
        """
        self._check_room()
        checked = draw_seed(make_settings(settings)).dict()
        job_id = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"
        job = Job(
            job_id,
            str(video),
            checked,
            checked_stage(stage),
            checked_format(format),
            options or {},
            created=time.time(),
        )
        return self._enqueue(job)

    def run_again(
        self,
        job_id: str,
        *,
        stage: RunStage | None = None,
        settings: dict[str, Any] | None = None,
        options: dict[str, Any] | None = None,
        format: Format | None = None,
        redo_frames: tuple[int, ...] = (),
    ) -> Job:
        """Take up a job: after a stop, for its next stage, or with other settings (laid over those it has).

        Raises:
            UserError: it is still active, or a value is refused.
            Busy: too many jobs wait already.
        """
        job = self.get(job_id)
        if job.active:
            raise UserError(f"The job {job_id} is still {job.state}.", hint="Cancel it first, or wait.")
        self._check_room()
        checked = draw_seed(make_settings(settings or {}, base=make_settings(job.settings))).dict()
        return self._enqueue(
            replace(
                job,
                settings=checked,
                stage=checked_stage(stage or job.stage),
                format=checked_format(format or job.format),
                options=job.options if options is None else options,
                redo=tuple(redo_frames),
                state="queued",
                progress={},
                notes=(),
                error="",
                hint="",
                finished=0.0,
            )
        )

    def cancel(self, job_id: str) -> Job:
        """Stop a job within one step, or take it out of the queue; what is finished is kept."""
        job = self.get(job_id)
        if job.active:
            self._signals[job_id].cancel.set()
            if job.state == "queued":
                self._update(job_id, state="interrupted", finished=time.time())
        return self.get(job_id)

    def skip(self, job_id: str) -> Job:
        """Leave out the key frame that is being rendered, and go on with the next one.

        The job's key frames are listed from then on, without it; the frames around it are propagated from its
        neighbours. A key frame that was being redone stays as it was.

        Raises:
            UserError: none is being rendered, or it is the first or last of its shot.
        """
        job = self.get(job_id)
        self._signals.get(job_id, Signals()).skip(job.rendering)
        return job

    def tell(self, job_id: str, text: str) -> None:
        """Add a note to a job."""
        self._note(job_id, Event("note", {"text": text}))

    def preview(self, job_id: str) -> np.ndarray | None:
        """The newest step of the key frame at work, small, uint8 RGB (h, w, 3).

        Previews are only made while somebody asks for them, so the first call may find none.
        """
        job = self.get(job_id)
        return self._signals[job_id].look() if job.state == "running" and job_id in self._signals else None

    def delete(self, job_id: str) -> None:
        """Remove a job and all its files for good.

        Raises:
            UserError: it is still active.
        """
        job = self.get(job_id)
        if job.active:
            raise UserError(f"The job {job_id} is still {job.state}.", hint="Cancel it first.")
        with self._lock:
            shutil.rmtree(self.folder(job_id))
            del self._jobs[job_id]
            self._signals.pop(job_id, None)  # it may hold a preview

    def folder(self, job_id: str) -> Path:
        """The folder of a job."""
        return self.root / self.get(job_id).id

    def key_path(self, job_id: str, frame: int) -> Path:
        """The file of a key frame.

        Raises:
            Missing: it is not rendered yet.
        """
        path = self.folder(job_id) / "project" / "keys" / f"{int(frame):06d}.png"
        if not path.is_file():
            raise Missing(f"Key frame {frame} of the job {job_id} is not rendered yet.")
        return path

    def seed(self, job_id: str, frame: int) -> int | None:
        """The seed that a key frame was rendered with; None where that is not known."""
        from rerender.project import Project

        key = Project.as_it_is(self.folder(job_id) / "project").key(frame)
        return None if key is None else key.seed

    def versions(self, job_id: str, frame: int) -> Sequence[Version]:
        """The earlier versions of a key frame, the newest first.

        Raises:
            Missing: there is no such job.
        """
        return self._history(job_id).versions(frame)

    def version_path(self, job_id: str, frame: int, name: str) -> Path:
        """The file of an earlier version of a key frame.

        Raises:
            Missing: there is none of that name.
        """
        try:
            return self._history(job_id).find(frame, name).path
        except UserError as error:
            raise Missing(error.message, hint=error.hint) from error

    def bring_back(self, job_id: str, frame: int, name: str) -> Job:
        """Put an earlier version of a key frame in the place of the present one, which goes to history/.

        Raises:
            Missing: there is none of that name.
            UserError: the job is active, or the version has another size.
        """
        from rerender.project import Project

        with self._lock:  # the job cannot be taken up meanwhile
            job = self.get(job_id)
            if job.active:
                raise UserError(f"The job {job_id} is still {job.state}.", hint="Interrupt it first, or wait.")
            self.version_path(job_id, frame, name)
            with Project(self.folder(job_id) / "project") as project:
                version = project.bring_back(frame, name)
            self.tell(job_id, texts.IS_BACK.format(frame=frame, seed=version.seed_in_words))
        return self.get(job_id)

    def _history(self, job_id: str) -> History:
        from rerender.project import Project

        folder = self.folder(job_id) / "project"
        return Project.as_it_is(folder).history if (folder / "project.json").is_file() else History(folder, {})

    def result_path(self, job_id: str) -> Path:
        """The finished file.

        Raises:
            Missing: there is none yet.
        """
        output = self.get(job_id).output
        if not output or not (self.folder(job_id) / output).is_file():
            raise Missing(f"The job {job_id} has no finished file yet.")
        return self.folder(job_id) / output

    def wait(self, job_id: str, timeout: float = 600.0) -> Job:
        """Wait until a job is no longer active; returns it as it is then, or at the time-out."""
        ends = time.monotonic() + timeout
        while self.get(job_id).active and time.monotonic() < ends:
            time.sleep(0.05)
        return self.get(job_id)

    def close(self) -> None:
        """Stop the job at work and end the thread."""
        with self._lock:
            for signals in self._signals.values():
                signals.cancel.set()
            worker, self._worker = self._worker, None
        if worker is not None:
            self._queue.put(None)
            worker.join(timeout=60)

    def _check_room(self) -> None:
        limit, waiting = self._queue_limit(), len(self.at_work())
        if limit and waiting >= limit:
            raise Busy(f"{waiting} jobs wait or run already; this server takes {limit}.", hint="Try again later.")

    # The thread

    def _enqueue(self, job: Job) -> Job:
        job = replace(job, queued=time.time())
        with self._lock:
            (self.root / job.id).mkdir(parents=True, exist_ok=True)
            self._jobs[job.id] = job
            self._signals[job.id] = Signals()
            self._store(job)
            self._queue.put(job.id)
            if self._worker is None:
                self._worker = threading.Thread(target=self._work, name="rerender jobs", daemon=True)
                self._worker.start()
        return job

    def _work(self) -> None:
        while (job_id := self._queue.get()) is not None:
            with self._lock:
                job = self._jobs.get(job_id)
                if job is None or job.state != "queued":
                    continue
                self._update(job_id, state="running")
            self._update(job_id, **self._outcome(job), finished=time.time(), redo=(), rendering=None)

    def _outcome(self, job: Job) -> dict[str, Any]:
        try:
            self._run(job)
        except Interrupted:
            return {"state": "interrupted"}
        except RerenderError as error:
            message = without_folders(error.message, job.video, job.settings.get("mask"))
            return {"state": "failed", "error": message, "hint": error.hint}
        except OSError as error:
            failure = storage_error(error, self.root / job.id)
            return {"state": "failed", "error": failure.message, "hint": failure.hint}
        except Exception as error:  # a thread that dies would leave every later job waiting
            logger.exception("the job %s failed", job.id)
            return {"state": "failed", "error": f"{type(error).__name__}: {error}"}
        return {"state": "done"}

    def _run(self, job: Job) -> None:
        def emit(event: Event) -> None:
            self._note(job.id, event)

        def update(**changes: Any) -> None:
            self._update(job.id, **changes)

        signals = self._signals[job.id]
        Workshop(self.root / job.id, self._open_host, signals, self._one_process, emit, update).run(job)

    def _note(self, job_id: str, event: Event) -> None:
        job = self.get(job_id)
        if event.kind == "progress":
            self._update(job_id, store=False, progress=event.data)
        elif event.kind == "plan":
            self._update(job_id, plan=event.data)
        elif event.kind == "key_started":
            self._update(job_id, store=False, rendering=int(event.data["frame"]))
        elif event.kind == "key_frame":
            rendered = tuple(sorted({*job.key_frames, int(event.data["frame"])}))
            self._signals[job_id].preview = None  # the picture itself is there
            self._update(job_id, key_frames=rendered, rendering=None)
        elif event.kind == "stage" and event.data["state"] == "kept" and job.stage == event.data["stage"] in texts.KEPT:
            self.tell(job_id, texts.KEPT[job.stage])
        elif event.kind == "note" and event.data["text"] not in job.notes[-1:]:
            self._update(job_id, store=False, notes=(*job.notes, str(event.data["text"]))[-20:])
        elif event.kind == "output":
            self._update(job_id, output=Path(event.data["path"]).name)

    # On disk

    def _update(self, job_id: str, *, store: bool = True, **changes: Any) -> None:
        with self._lock:
            if job_id not in self._jobs:
                return
            self._jobs[job_id] = replace(self._jobs[job_id], **changes)
            if store:
                self._store(self._jobs[job_id])

    def _store(self, job: Job) -> None:
        write_json(self.root / job.id / "job.json", asdict(job))

    def _load(self) -> None:
        """Read the jobs of an earlier start: the one at work then counts as interrupted, waiting ones wait again."""
        waiting = []
        for path in sorted(self.root.glob("*/job.json")):
            try:
                job = job_of(json.loads(path.read_text(encoding="utf-8")))
            except (OSError, ValueError, TypeError) as error:
                logger.warning("the job %s cannot be read and is left alone: %s", path, error)
                continue
            if job.state == "running":
                job = replace(job, state="interrupted", error="The program was ended while the job ran.")
            self._jobs[job.id] = job
            if job.state == "queued":
                waiting.append(job)
        for job in sorted(waiting, key=lambda job: job.queued or job.created):
            self._enqueue(job)
