"""Runs: the buttons that start and stop them, and what the page shows of them while they go."""

from __future__ import annotations

import logging
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from rerender.errors import RerenderError, UserError
from rerender.files import replacing
from rerender.settings import make_settings
from rerender.ui import texts
from rerender.ui.clip_view import ClipView
from rerender.ui.compare import empty_html, player_html, source_proxy
from rerender.ui.job import Job
from rerender.ui.jobs import Jobs
from rerender.ui.newest import Newest
from rerender.ui.places import Missing
from rerender.ui.status import error_html, hint_html, project_label, project_mark, status_html
from rerender.ui.surroundings import Surroundings

logger = logging.getLogger(__name__)

WATCH_SECONDS = 0.5
SHOWN = ("job_id", "project", "status", "gallery", "player", "files", "results", "key_mode", "key_frames")
"""What a run changes on the page while it goes, in the order of the outputs."""
Publish = Callable[[Path], str]


class RunView:
    """Handlers about runs. Those that start one are generators: they show it until it ends.

    Args:
        publish: makes a file reachable for the page; returns its address there.
    """

    def __init__(self, around: Surroundings, clip: ClipView, publish: Publish) -> None:
        self.around, self.clip, self.publish = around, clip, publish
        self.names = clip.names

    def starter(self, stage: str) -> Callable[..., Iterator[list[Any]]]:
        """The handler of a stage's button."""

        def start(newest: Newest, *inputs: Any) -> Iterator[list[Any]]:
            yield from self._show(newest, lambda: self._start(stage, inputs, ()))

        return start

    def redo(self, newest: Newest, frame: float, *inputs: Any) -> Iterator[list[Any]]:
        """Render one key frame anew."""
        yield from self._show(newest, lambda: self._start("keys", inputs, (int(frame or 0),)))

    def cancel(self, job_id: str) -> None:
        """Stop the job that is shown."""
        if job_id:
            self.around.jobs().cancel(job_id)

    def skip(self, job_id: str) -> None:
        """Leave out the key frame at work; why that is not possible is told in the job's card."""
        jobs = self.around.jobs()
        try:
            jobs.skip(job_id)
        except Missing:
            return
        except UserError as error:
            jobs.tell(job_id, f"{error.message} {error.hint}")

    def recycle(self, job_id: str) -> Any:
        """The seed that the job has used."""
        known = self._known(job_id)
        return gr.update() if known is None else known.settings.get("seed", gr.update())

    def restore(self, newest: Newest) -> Iterator[list[Any]]:
        """Show the job that runs, or the newest one, with its settings: after the page was loaded anew."""
        jobs = self.around.jobs()
        chosen = [*jobs.at_work(), *jobs.list()][:1]
        if not chosen:
            # A generator that yields nothing would empty every control it is wired to.
            yield [gr.update()] * (len(SHOWN) + 2 + len(self.names))
            return
        yield from self._open(newest, chosen[0])

    def open(self, newest: Newest, label: str, key_mode: str) -> Iterator[list[Any]]:
        """Go on with a former project, which replaces upload and path (the last two outputs), or begin a new one."""
        # By the id alone: the state in the label may have changed since the list was made.
        known = self.around.jobs().list()
        job = next((job for job in known if label.endswith(project_mark(job))), None)
        if job is None:
            newest.claim("watch")
            # An upload stays: the new project may well be for the clip that was just chosen.
            yield [*self._blank(key_mode), *[gr.update()] * (2 + len(self.names) + 2)]
            return
        for shown in self._open(newest, job):
            yield [*shown, None, ""]

    def clip_changed(self, newest: Newest, file: Any, path: str, job_id: str, key_mode: str) -> list[Any]:
        """Begin a new project where another clip was chosen than that of the project that is shown.

        One that is at work stays in sight until the next run begins.
        """
        unchanged: list[Any] = [gr.update()] * len(SHOWN)
        known = self._known(job_id)
        if known is None or known.active:
            return unchanged
        try:
            video = self.clip.video(file, path, job_id)
        except RerenderError:  # the strip tells it
            return unchanged
        if video is None or str(video) == known.video:
            return unchanged
        newest.claim("watch")
        return self._blank(key_mode)

    def zip_keys(self, job_id: str) -> Any:
        """All key frames of the project in one file."""
        job = self._known(job_id)
        if job is None or not job.key_frames:
            return gr.update()
        jobs = self.around.jobs()
        path = jobs.folder(job_id) / "key-frames.zip"
        with replacing(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
            for frame in job.key_frames:
                picture = jobs.key_path(job_id, frame)
                archive.write(picture, picture.name)
        return [*self._result(job), str(path)]

    def projects(self) -> list[str]:
        """What the list of former projects offers."""
        return [texts.NEW_PROJECT, *(project_label(job) for job in self.around.jobs().list())]

    # Starting

    def _show(self, newest: Newest, start: Callable[[], Job]) -> Iterator[list[Any]]:
        try:
            job = start()
        except RerenderError as error:
            shown = dict.fromkeys(SHOWN, gr.update()) | {"status": error_html(error.message, error.hint)}
            yield list(shown.values())
            return
        yield from self._watch(newest, job.id, begun=True)

    def _start(self, stage: str, inputs: Sequence[Any], redo: tuple[int, ...]) -> Job:
        file, path, job_id, format_, styles, *values = inputs
        jobs, around = self.around.jobs(), self.around
        if stage != "propagate":
            around.access.check_host()
        settings = self.clip.asked(values)
        video = self.clip.video(file, path, job_id)
        options = {**around.options, **({"styles": list(styles or [])} if around.styles is not None else {})}
        changes: dict[str, Any] = {"stage": stage, "settings": settings, "format": format_, "options": options}
        former = self._known(job_id)
        if former is not None and (video is None or str(video) == former.video):
            if former.active:  # started before, maybe by another page, which this one shows from now on
                jobs.tell(job_id, texts.AT_WORK)
                return former
            if not set(redo) <= set(former.key_frames):
                raise UserError(f"Frame {redo[0]} is no rendered key frame.", hint="Select one that is marked with ✓.")
            if settings.get("seed") == -1 and stage != "first":
                settings["seed"] = former.settings["seed"]  # a new one would throw away what is rendered
            return jobs.run_again(job_id, redo_frames=redo, **changes)
        if video is None:
            raise UserError("No video is chosen.", hint="Upload one, or name a path on the server.")
        if redo:
            raise UserError("There is no key frame to redo yet.", hint="Run the key frames first.")
        return jobs.submit(video, **changes)

    # Showing

    def _open(self, newest: Newest, job: Job) -> Iterator[list[Any]]:
        values = [job.settings.get(name, gr.update()) for name in self.names]
        as_asked = [job.format, list(job.options.get("styles", [])), *values]
        for shown in self._watch(newest, job.id):
            yield [*shown, *as_asked]
            as_asked = [gr.update()] * len(as_asked)

    def _blank(self, key_mode: str) -> list[Any]:
        project = gr.update(choices=self.projects(), value=texts.NEW_PROJECT)
        # Key frames that were listed by hand belong to the project that is left.
        keys = ["uniform", ""] if key_mode == "listed" else [gr.update(), gr.update()]
        return ["", project, hint_html(texts.ADVICE), [], empty_html(), None, gr.update(), *keys]

    def _watch(self, newest: Newest, job_id: str, *, begun: bool = False) -> Iterator[list[Any]]:
        """Show a job until it ends. begun: it was started just now, and may have ended before it is looked at."""
        outdated = newest.claim("watch")
        last: Job | None = None
        while not outdated() and (job := self._known(job_id)) is not None:
            yield self._changes(job, last, begun)
            last = job
            if not job.active:
                break
            time.sleep(WATCH_SECONDS)
        if last is not None and last.output and not last.active and not outdated():
            shown = dict.fromkeys(SHOWN, gr.update()) | {"player": self._player(last)}
            yield list(shown.values())
        if outdated():
            yield [gr.update()] * len(SHOWN)  # see `Newest`

    def _changes(self, job: Job, last: Job | None, begun: bool) -> list[Any]:
        jobs = self.around.jobs()
        shown: dict[str, Any] = dict.fromkeys(SHOWN, gr.update())
        shown["job_id"] = job.id
        shown["status"] = status_html(job, jobs.at_work(), jobs.preview(job.id))
        if last is None or last.state != job.state:
            shown["project"] = gr.update(choices=self.projects(), value=project_label(job))
            shown["files"] = self._result(job) or None
            if job.output and not job.active:
                shown["player"] = player_html(self.publish(Path(self._result(job)[0])), name=_download_name(job))
            shown["results"] = _tab(job, was_active=begun if last is None else last.active)
        if last is None or last.key_frames != job.key_frames:
            shown["gallery"] = gallery(jobs, job)
        if last is not None and last.settings != job.settings:  # a key frame was skipped
            shown["key_mode"], shown["key_frames"] = job.settings["key_mode"], job.settings["key_frames"]
        return list(shown.values())

    def _player(self, job: Job) -> str:
        """The result beside its source; alone, where the source cannot be read any more."""
        result = self.publish(Path(self._result(job)[0]))
        try:
            # Frames and size are all that is asked for: nothing that takes a pass over the clip.
            few = {"scene_cuts": False, "key_mode": "uniform", "key_interval": 1000}
            settings = make_settings({**job.settings, **few})
            plan = self.clip.clips.plan(Path(job.video), settings, lambda: False)
            source = self.publish(source_proxy(plan, self.around.jobs().folder(job.id)))
        except (RerenderError, OSError) as error:
            logger.warning("no comparison for the job %s: %s", job.id, error)
            source = ""
        return player_html(result, source, name=_download_name(job))

    def _result(self, job: Job) -> list[str]:
        try:
            return [str(self.around.jobs().result_path(job.id))]
        except Missing:
            return []

    def _known(self, job_id: str) -> Job | None:
        try:
            return self.around.jobs().get(job_id)
        except Missing:
            return None


def gallery(jobs: Jobs, job: Job) -> list[tuple[str, str]]:
    """The key frames of a job, with captions."""
    pictures = []
    for frame in job.key_frames:
        try:
            pictures.append((str(jobs.key_path(job.id, frame)), f"frame {frame}"))
        except Missing:  # it was removed by hand
            continue
    return pictures


def _tab(job: Job, was_active: bool) -> Any:
    """The tab of what a run makes, when it begins and when it ends; whoever turns elsewhere meanwhile stays there."""
    if job.active and job.stage in ("first", "keys"):
        return gr.Tabs.update(selected="keys")
    ended = was_active and job.state == "done"
    return gr.Tabs.update(selected="result") if ended and job.stage in ("propagate", "all") else gr.update()


def _download_name(job: Job) -> str:
    return f"{Path(job.name).stem}-rerendered{Path(job.output).suffix}"
