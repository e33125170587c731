"""What is known of a job: a plain record that goes to disk and to the API."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from rerender.errors import UserError

if TYPE_CHECKING:
    from rerender.pipeline import RunStage

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
        rendering: frame number of the key frame at work, or None.
        plan: frames, key_frames, width, height, shots; {} before the clip was examined.
        queued: when it was put into the queue last.
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
    rendering: int | None = None
    notes: tuple[str, ...] = ()
    error: str = ""
    hint: str = ""
    output: str = ""
    created: float = 0.0
    queued: float = 0.0
    finished: float = 0.0

    @property
    def active(self) -> bool:
        """Whether it waits or works."""
        return self.state in ("queued", "running")

    @property
    def name(self) -> str:
        """The video's file name."""
        return Path(self.video).name


def job_of(stored: dict[str, Any]) -> Job:
    """A job as it was written to disk.

    Raises:
        TypeError: something that every job has is missing.
    """
    known = {f.name for f in fields(Job)}
    values: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in stored.items() if n in known}
    return Job(**values)


def checked_stage(stage: str) -> RunStage:
    """The stage of that name.

    Raises:
        UserError: there is none.
    """
    from rerender.pipeline import RunStage

    return _choice("stage", stage, get_args(RunStage))


def checked_format(name: str) -> Format:
    """The format of that name.

    Raises:
        UserError: there is none.
    """
    return _choice("format", name, get_args(Format))


def _choice(what: str, value: str, choices: tuple[Any, ...]) -> Any:
    if value not in choices:
        raise UserError(f"There is no {what} {value!r}.", hint=f"Known: {', '.join(choices)}.")
    return value
