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
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from rerender.errors import Interrupted, RerenderError, UserError
from rerender.events import Event
from rerender.files import storage_error, write_json
from rerender.host import Host
from rerender.settings import draw_seed, make_settings
from rerender.ui.places import Missing

if TYPE_CHECKING:
    from rerender.pipeline import RunStage

logger = logging.getLogger(__name__)

State = Literal["queued", "running", "done", "failed", "interrupted"]
Format = Literal["mp4", "webm", "gif"]


@dataclass(frozen=True)
class Job:
    """What is known of a job. All values can be written as JSON.

    Attributes:
        options: values for the host: in the webui styles and alwayson_scripts.
        redo: key frames to render anew at the next run.
        progress: the last progress event: stage, done, total, unit, eta_seconds.
        key_frames: frame numbers of the key frames rendered or kept so far.
        plan: frames, key_frames, width, height, shots; {} before the clip was examined.
    """

    id: str
    video: str
    settings: dict[str, Any]
    stage: RunStage = "all"
    format: Format = "mp4"
    options: dict[str, Any] = field(default_factory=dict)
    redo: tuple[int, ...] = ()
    state: State = "queued"
    progress: dict[str, Any] = field(default_factory=dict)
    plan: dict[str, Any] = field(default_factory=dict)
    key_frames: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()
    error: str = ""
    hint: str = ""
    output: str = ""
    created: float = 0.0
    finished: float = 0.0

    @property
    def active(self) -> bool:
        """Whether it waits or works."""
        return self.state in ("queued", "running")


OpenHost = Callable[[Job, Callable[[], bool]], AbstractContextManager[tuple[Host, Callable[[], bool]]]]


class Jobs:
    """All jobs below one folder, and the thread that works on them.

    Args:
        root: folder of the jobs; made when the first job comes.
        open_host: `open_host(job, cancelled)` → a context manager that holds what renders key frames, and gives it with
            the question whether to stop (the job was cancelled, or the host's own button was pressed).
        one_process: propagate without worker processes. In the webui they would start the webui's own main module.
    """

    def __init__(self, root: Path, open_host: OpenHost, *, one_process: bool = False) -> None:
        self.root = root
        self._one_process = one_process
        self._open_host = open_host
        self._jobs: dict[str, Job] = {}
        self._cancels: dict[str, threading.Event] = {}
        self._lock = threading.RLock()
        self._queue: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._worker: threading.Thread | None = None
        self._load()

    # What callers ask

    def list(self) -> list[Job]:
        """All jobs, newest first."""
        with self._lock:
            return sorted(self._jobs.values(), key=lambda job: job.created, reverse=True)

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
        """
        checked = draw_seed(make_settings(settings)).dict()
        job_id = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"
        job = Job(job_id, str(video), checked, _stage(stage), _format(format), options or {}, created=time.time())
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
        """
        job = self.get(job_id)
        if job.active:
            raise UserError(f"The job {job_id} is still {job.state}.", hint="Cancel it first, or wait.")
        checked = draw_seed(make_settings(settings or {}, base=make_settings(job.settings))).dict()
        return self._enqueue(
            replace(
                job,
                settings=checked,
                stage=_stage(stage or job.stage),
                format=_format(format or job.format),
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
            self._cancels[job_id].set()
            if job.state == "queued":
                self._update(job_id, state="interrupted", finished=time.time())
        return self.get(job_id)

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
            for cancel in self._cancels.values():
                cancel.set()
            worker, self._worker = self._worker, None
        if worker is not None:
            self._queue.put(None)
            worker.join(timeout=60)

    # The thread

    def _enqueue(self, job: Job) -> Job:
        with self._lock:
            (self.root / job.id).mkdir(parents=True, exist_ok=True)
            self._jobs[job.id] = job
            self._cancels[job.id] = threading.Event()
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
            self._update(job_id, **self._outcome(job), finished=time.time(), redo=())

    def _outcome(self, job: Job) -> dict[str, Any]:
        try:
            self._run(job)
        except Interrupted:
            return {"state": "interrupted"}
        except RerenderError as error:
            return {"state": "failed", "error": error.message, "hint": error.hint}
        except OSError as error:
            failure = storage_error(error, self.root / job.id)
            return {"state": "failed", "error": failure.message, "hint": failure.hint}
        except Exception as error:  # a thread that dies would leave every later job waiting
            logger.exception("the job %s failed", job.id)
            return {"state": "failed", "error": f"{type(error).__name__}: {error}"}
        return {"state": "done"}

    def _run(self, job: Job) -> None:
        # Imported here: a webui that only starts should not wait for the video and flow libraries.
        from rerender.pipeline import prepare, redo, run_stage
        from rerender.project import Project

        cancelled = self._cancels[job.id].is_set
        settings, video = make_settings(job.settings), Path(job.video)
        if self._one_process:
            settings = settings.copy(update={"workers": 1})
        output = self.root / job.id / f"result.{job.format}"

        def emit(event: Event) -> None:
            self._note(job.id, event)

        with Project(self.root / job.id / "project") as project:
            if job.stage != "propagate":
                # The host is let go before propagation: others may use it meanwhile.
                with self._open_host(job, cancelled) as (host, stop):
                    run = prepare(project, video, settings, host=host, emit=emit, cancelled=stop)
                    for frame in job.redo:
                        redo(run, frame)
                    prints = run.key_fingerprints()
                    valid = tuple(frame for frame in run.plan.keys if run.is_key_valid(frame, prints[frame]))
                    self._update(job.id, key_frames=valid)
                    run_stage(run, "first" if job.stage == "first" else "keys", output)
            if job.stage in ("propagate", "all"):
                run = prepare(project, video, settings, host=None, emit=emit, cancelled=cancelled)
                on_disk = tuple(frame for frame in run.plan.keys if project.key(frame) is not None)
                self._update(job.id, key_frames=on_disk)
                run_stage(run, "propagate", output)

    def _note(self, job_id: str, event: Event) -> None:
        job = self.get(job_id)
        if event.kind == "progress":
            self._update(job_id, store=False, progress=event.data)
        elif event.kind == "plan":
            self._update(job_id, plan=event.data)
        elif event.kind == "key_frame":
            self._update(job_id, key_frames=tuple(sorted({*job.key_frames, int(event.data["frame"])})))
        elif event.kind == "note":
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
                job = _job_of(json.loads(path.read_text(encoding="utf-8")))
            except (OSError, ValueError, TypeError) as error:
                logger.warning("the job %s cannot be read and is left alone: %s", path, error)
                continue
            if job.state == "running":
                job = replace(job, state="interrupted", error="The program was ended while the job ran.")
            self._jobs[job.id] = job
            if job.state == "queued":
                waiting.append(job)
        for job in sorted(waiting, key=lambda job: job.created):
            self._enqueue(job)


def _job_of(stored: dict[str, Any]) -> Job:
    known = {f.name for f in fields(Job)}
    values: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in stored.items() if n in known}
    return Job(**values)


def _stage(stage: str) -> RunStage:
    from rerender.pipeline import RunStage

    return _choice("stage", stage, get_args(RunStage))


def _format(name: str) -> Format:
    return _choice("format", name, get_args(Format))


def _choice(what: str, value: str, choices: tuple[Any, ...]) -> Any:
    if value not in choices:
        raise UserError(f"There is no {what} {value!r}.", hint=f"Known: {', '.join(choices)}.")
    return value
