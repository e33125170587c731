"""The HTTP API under /rerender/v1: settings, uploads, jobs, results.

Endpoints are plain functions, which FastAPI runs in threads, so none of them blocks the event loop; only the upload is
asynchronous, because it streams.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse, JSONResponse, Response

from rerender._pydantic import BaseModel, Extra, Field
from rerender.errors import RerenderError, UserError
from rerender.presets import PresetShelf
from rerender.settings import json_schema, make_settings
from rerender.ui.jobs import Job, Jobs
from rerender.ui.pictures import png_bytes
from rerender.ui.places import TooLarge, confined, kept_upload, safe_name

logger = logging.getLogger(__name__)

PREFIX = "/rerender/v1"
_STAGES, _FORMATS = "first, keys, propagate or all", "mp4, webm or gif"


_SETTINGS = "As GET settings describes them; a mask is named like a video."
_DIFFERS = "Settings and model files it was rendered with that are others now, with their values; null: not known."
_OPTIONS = 'For the host; in the webui {"styles": [...], "alwayson_scripts": {...}} as in its own API.'


class Submission(BaseModel):
    """A new job."""

    video: str = Field(..., description="Name of an upload, or a path in one of the allowed folders.")
    preset: str = Field("", description='What the settings are laid over; "": the one that the settings page names.')
    settings: dict[str, Any] = Field(default_factory=dict, description=_SETTINGS)
    stage: str = Field("all", description=_STAGES)
    format: str = Field("mp4", description=_FORMATS)
    options: dict[str, Any] = Field(default_factory=dict, description=_OPTIONS)

    class Config:  # noqa: D106
        extra = Extra.forbid


class Again(BaseModel):
    """What is different when a job is taken up again."""

    settings: dict[str, Any] = Field(default_factory=dict, description="Laid over those that the job has.")
    stage: str | None = Field(None, description=_STAGES)
    format: str | None = Field(None, description=_FORMATS)
    options: dict[str, Any] | None = Field(None, description=_OPTIONS)
    redo: list[int] = Field(default_factory=list, description="Frame numbers of key frames to render anew.")

    class Config:  # noqa: D106
        extra = Extra.forbid


class KeyVersion(BaseModel):
    """An earlier version of a key frame."""

    version: str = Field(..., description="Its name, by which it is fetched and brought back.")
    seed: int | None = Field(None, description="That it was rendered with; null where that is not known.")
    time: float = Field(..., description="When the picture was made, in seconds since 1970.")
    edited: bool = Field(False, description="Whether it was edited by hand after it was rendered.")
    differs: dict[str, Any] | None = Field(None, description=_DIFFERS)


class BringBack(BaseModel):
    """Which earlier version is to be the key frame again."""

    version: str = Field(..., description="Its name, as GET versions lists it.")

    class Config:  # noqa: D106
        extra = Extra.forbid


@dataclass(frozen=True)
class Access:
    """What requests may reach.

    Attributes:
        uploads: where uploaded videos go; also an allowed folder.
        folders: further folders whose videos may be named, asked for at each request.
        upload_limit: largest upload in bytes, asked for at each request.
        check_host: raises a UserError where the host cannot render at all.
        caps: largest value of settings that limit a run ("limit_frames", …), whatever a request says; 0: no cap.
        default_preset: name of the preset that jobs start from unless they name one; "": the defaults.
    """

    uploads: Path
    folders: Callable[[], list[Path]] = lambda: []
    upload_limit: Callable[[], int] = lambda: 2 * 2**30
    check_host: Callable[[], None] = lambda: None
    caps: Callable[[], Mapping[str, int]] = dict
    default_preset: Callable[[], str] = lambda: ""

    @property
    def presets(self) -> PresetShelf:
        """All presets, the user's own among them."""
        return PresetShelf(self.uploads.parent / "presets")

    def video(self, name: str) -> Path:
        """A video that a request names.

        Raises:
            Forbidden, Missing: see `confined`.
        """
        return confined(name, [self.uploads, *self.folders()])

    def settings(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The settings of a request, within the caps; a mask that they name must lie where videos may.

        Raises:
            Forbidden, Missing: see `confined`.
            UserError: a value is refused.
        """
        mask = str(values.get("mask") or "").strip().strip('"')
        checked = {**values, "mask": str(self.video(mask))} if mask else dict(values)
        caps = {name: cap for name, cap in self.caps().items() if cap > 0}
        asked = make_settings(checked).dict() if caps else {}
        return checked | {name: min(asked[name] or cap, cap) for name, cap in caps.items()}

    def keep_mask(self, uploaded: Path) -> str:
        """Keep a mask that was uploaded on a page; returns the name by which the setting can use it."""
        return kept_upload(uploaded, self.uploads).relative_to(self.uploads).as_posix()

    def start_from(self, preset: str) -> dict[str, Any]:
        """The settings of a preset; of the default one for "".

        Raises:
            UserError: there is none of that name.
        """
        name = preset or self.default_preset()
        return dict(self.presets.get(name).values) if name else {}


def error_response(error: Exception) -> JSONResponse:
    """The status and body of an error: {"error", "hint"}."""
    if isinstance(error, RerenderError):
        status = getattr(error, "http_status", 422 if isinstance(error, UserError) else 500)
        return JSONResponse({"error": error.message, "hint": error.hint}, status_code=status)
    logger.exception("request failed", exc_info=error)
    return JSONResponse({"error": f"{type(error).__name__}: {error}", "hint": ""}, status_code=500)


def describe(job: Job) -> dict[str, Any]:
    """A job as the API shows it: without paths of this machine."""
    shown = asdict(job)
    shown["video"] = Path(job.video).name
    if job.settings.get("mask"):
        shown["settings"] = {**job.settings, "mask": Path(job.settings["mask"]).name}
    shown["result"] = bool(shown.pop("output"))
    return shown


def make_router(jobs: Jobs, access: Access, dependencies: list[Any] | None = None) -> APIRouter:
    """All routes.

    Args:
        dependencies: FastAPI dependencies of every route, such as the one that asks for credentials.
    """
    answers: Any = {status: {"model": Refusal, "description": words} for status, words in _REFUSALS.items()}
    router = APIRouter(prefix=PREFIX, dependencies=dependencies or [], tags=["Rerender A Video"], responses=answers)
    _add_jobs(router, jobs, access)
    _add_files(router, jobs)
    _add_versions(router, jobs)
    _add_upload(router, access)

    @router.get("/settings")
    def settings() -> dict[str, Any]:
        """All settings as JSON Schema."""
        return json_schema()

    @router.get("/presets")
    def presets() -> Any:
        """Names of the presets, when to take them, and what they set beside the defaults."""
        shelf = access.presets
        return _guarded(lambda: [asdict(shelf.get(name)) for name in shelf.names()])

    return router


class Refusal(BaseModel):
    """What every error looks like."""

    error: str
    hint: str = ""


_REFUSALS = {
    403: "A path outside the allowed folders",
    404: "There is no such job, key frame or file",
    413: "An upload over the limit",
    422: "A value that is refused",
    429: "The queue is full",
    501: "A host or checkpoint that is not supported",
}


def _guarded(function: Callable[[], Any]) -> Any:
    try:
        return function()
    except Exception as error:
        return error_response(error)


def _add_jobs(router: APIRouter, jobs: Jobs, access: Access) -> None:
    @router.post("/jobs")
    def submit(request: Submission) -> Any:
        """Queue a job."""

        def work() -> dict[str, Any]:
            if request.stage != "propagate":
                access.check_host()
            video = access.video(request.video)
            settings = access.settings({**access.start_from(request.preset), **request.settings})
            values = {"stage": request.stage, "format": request.format, "options": request.options}
            return describe(jobs.submit(video, settings, **values))  # type: ignore[arg-type]

        return _guarded(work)

    @router.get("/jobs")
    def listed() -> Any:
        """All jobs, newest first."""
        return [describe(job) for job in jobs.list()]

    @router.get("/jobs/{job_id}")
    def status(job_id: str) -> Any:
        """State, progress with ETA, key frames so far."""
        return _guarded(lambda: describe(jobs.get(job_id)))

    @router.post("/jobs/{job_id}/cancel")
    def cancel(job_id: str) -> Any:
        """Stop within one step; what is finished is kept."""
        return _guarded(lambda: describe(jobs.cancel(job_id)))

    @router.post("/jobs/{job_id}/skip")
    def skip(job_id: str) -> Any:
        """Leave out the key frame that is being rendered, and go on."""
        return _guarded(lambda: describe(jobs.skip(job_id)))

    @router.post("/jobs/{job_id}/resume")
    def resume(job_id: str, request: Again) -> Any:
        """Take up a job: after a stop, for another stage, with other settings, or to redo key frames."""

        def work() -> dict[str, Any]:
            values = {"stage": request.stage, "format": request.format, "options": request.options}
            redo = tuple(request.redo)
            settings = access.settings(request.settings)
            return describe(jobs.run_again(job_id, settings=settings, redo_frames=redo, **values))  # type: ignore[arg-type]

        return _guarded(work)

    @router.delete("/jobs/{job_id}")
    def delete(job_id: str, delete_files: bool = False) -> Any:
        """Remove a job with its files; only with delete_files=true."""

        def work() -> dict[str, Any]:
            if not delete_files:
                raise UserError("This removes the job and all its files.", hint="Say so with delete_files=true.")
            jobs.delete(job_id)
            return {"deleted": job_id}

        return _guarded(work)


def _add_files(router: APIRouter, jobs: Jobs) -> None:
    png: Any = {200: {"content": {"image/png": {}}}}

    @router.get("/jobs/{job_id}/result", response_class=FileResponse)
    def result(job_id: str) -> Any:
        """The finished file."""
        return _guarded(lambda: FileResponse(jobs.result_path(job_id), filename=jobs.result_path(job_id).name))

    @router.get("/jobs/{job_id}/preview", response_class=FileResponse, responses=png)
    def preview(job_id: str) -> Any:
        """The key frame at work as it is after the newest step, small; else the one that was finished last. PNG."""

        def work() -> Response:
            step = jobs.preview(job_id)
            if step is not None:
                return Response(png_bytes(step), media_type="image/png")
            frames = jobs.get(job_id).key_frames
            return FileResponse(jobs.key_path(job_id, frames[-1] if frames else 0))

        return _guarded(work)

    @router.get("/jobs/{job_id}/keys/{frame}", response_class=FileResponse, responses=png)
    def key_frame(job_id: str, frame: int) -> Any:
        """One key frame, PNG."""
        return _guarded(lambda: FileResponse(jobs.key_path(job_id, frame)))


def _add_versions(router: APIRouter, jobs: Jobs) -> None:
    png: Any = {200: {"content": {"image/png": {}}}}
    listing: Any = {200: {"model": list[KeyVersion]}}

    @router.get("/jobs/{job_id}/keys/{frame}/versions", responses=listing)
    def versions(job_id: str, frame: int) -> Any:
        """The earlier versions of a key frame, the newest first."""

        def work() -> list[dict[str, Any]]:
            shown = ("seed", "time", "edited", "differs")
            known = jobs.versions(job_id, frame)
            return [KeyVersion(version=v.name, **{name: getattr(v, name) for name in shown}).dict() for v in known]

        return _guarded(work)

    @router.get("/jobs/{job_id}/keys/{frame}/versions/{version}", response_class=FileResponse, responses=png)
    def version(job_id: str, frame: int, version: str) -> Any:
        """One earlier version of a key frame, PNG."""
        return _guarded(lambda: FileResponse(jobs.version_path(job_id, frame, version)))

    @router.post("/jobs/{job_id}/keys/{frame}/bring-back")
    def bring_back(job_id: str, frame: int, request: BringBack) -> Any:
        """Put an earlier version in the key frame's place, which is kept as one; `resume` makes what depends on it."""
        return _guarded(lambda: describe(jobs.bring_back(job_id, frame, request.version)))


def _add_upload(router: APIRouter, access: Access) -> None:
    body = {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}

    @router.post("/videos", openapi_extra={"requestBody": {"required": True, **body}})
    async def upload(request: Request, name: str = "video.mp4") -> Any:
        """Store the request's body, raw, as a video; returns the name by which a job can use it."""
        try:
            return {"video": await _receive(request, access, name)}
        except Exception as error:
            return error_response(error)


async def _receive(request: Request, access: Access, name: str) -> str:
    limit = access.upload_limit()
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > limit:
        raise _too_large(limit)  # before a byte of it is read
    path = await run_in_threadpool(_free_path, access.uploads, safe_name(name))
    size = 0
    try:
        with path.open("wb") as file:
            async for block in request.stream():
                size += len(block)
                if size > limit:
                    raise _too_large(limit)
                await run_in_threadpool(file.write, block)
        if not size:
            raise UserError("The upload is empty.")
    except BaseException:
        with suppress(OSError):
            path.unlink()
        raise
    return path.name


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"The upload is larger than {limit / 2**20:g} MB.", hint="The limit is one of the settings.")


def _free_path(folder: Path, name: str) -> Path:
    """A new, empty file: `name`, or with a number where that is taken."""
    folder.mkdir(parents=True, exist_ok=True)
    wanted, number = Path(name), 1
    while True:
        path = folder / (name if number == 1 else f"{wanted.stem}-{number}{wanted.suffix}")
        try:
            path.open("xb").close()
            return path
        except FileExistsError:
            number += 1
