"""The panel: one page of gradio 3.41 controls over `rerender.ui.jobs`, in the webui's tab and on its own."""

from __future__ import annotations

import html
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gradio as gr

from rerender.errors import RerenderError, UserError
from rerender.settings import SECTIONS, schema
from rerender.ui.api import Access
from rerender.ui.controls import controls, sections_in_accordions
from rerender.ui.jobs import Job, Jobs
from rerender.ui.places import safe_name

_WATCH_SECONDS = 0.5
# Guards and the like, which no result depends on: they keep their defaults here.
_LEFT_OUT = tuple(info.name for info in schema().values() if info.stage == "runtime")
_STAGES = (
    ("Run 1st Key Frame", "first"),
    ("Run Key Frames", "keys"),
    ("Run Propagation", "propagate"),
    ("Run All", "all"),
)
# Where advice belongs that users only find after a bad result.
_ADVICE = (
    "Stable motion works best. For large or quick motion: lower the strength, choose loose attention, a smaller key "
    "interval, and switch off pixel-aware fusion. If colours jump, try colour AdaIN on and off."
)


@dataclass(frozen=True)
class Surroundings:
    """What the panel has to know of where it is shown.

    Attributes:
        samplers, schedulers: names to choose from.
        options: for the host, with each job.
        send: further actions on a picture: label → function of the path that returns updates; unused alone.
    """

    jobs: Callable[[], Jobs]
    access: Access
    samplers: Sequence[str]
    schedulers: Sequence[str]
    options: dict[str, Any] = field(default_factory=dict)
    paths_allowed: bool = True


@dataclass
class _Parts:
    """The panel's components that handlers read and write."""

    file: Any
    path: Any
    facts: Any
    settings: dict[str, Any]
    format: Any
    job_id: Any
    status: Any
    preview: Any
    gallery: Any
    video: Any
    redo_frame: Any

    @property
    def outputs(self) -> list[Any]:
        return [self.job_id, self.status, self.preview, self.gallery, self.video]


def build_panel(around: Surroundings, *, page: gr.Blocks | None = None) -> None:
    """Put the panel into the gradio Blocks that are being built.

    Args:
        page: the Blocks, where they are a page of their own: then loading it shows the running job again. In the webui
            its own script (javascript/rerender.js) presses the button instead, because a tab has no load event.
    """
    with gr.Row(elem_id="rerender_panel"):
        with gr.Column(scale=5):
            asked = _left(around)
        with gr.Column(scale=6):
            parts, buttons = _right(*asked)
    handlers = _Handlers(around, parts)
    inputs = [parts.file, parts.path, parts.job_id, parts.format, *parts.settings.values()]
    for source in (parts.file.change, parts.path.blur):
        source(handlers.facts, inputs=[parts.file, parts.path], outputs=[parts.facts])
    for name, stage in _STAGES:
        buttons[name].click(handlers.starter(stage), inputs=inputs, outputs=parts.outputs)
    buttons["Redo"].click(handlers.redo, inputs=[parts.redo_frame, *inputs], outputs=parts.outputs)
    buttons["Interrupt"].click(handlers.cancel, inputs=[parts.job_id], outputs=[], queue=False)
    restored = [*parts.outputs, parts.format, *parts.settings.values()]
    buttons["Restore"].click(handlers.restore, inputs=[], outputs=restored)
    if page is not None:
        page.load(handlers.restore, inputs=[], outputs=restored)


def _left(around: Surroundings) -> tuple[Any, Any, Any, dict[str, Any], Any]:
    with gr.Tabs():
        with gr.Tab("Upload"):
            file = gr.File(label="Video", file_types=["video", ".gif"], elem_id="rerender_video")
        with gr.Tab("Server path", visible=around.paths_allowed):
            path = gr.Textbox(label="Path of a video or of a folder of frames", elem_id="rerender_video_path")
    facts = gr.HTML("", elem_id="rerender_facts")
    choices = {"sampler": around.samplers, "scheduler": around.schedulers}
    made = controls("Generation", without=_LEFT_OUT, choices=choices)
    others = [section for section in SECTIONS if section not in ("Generation", "Output")]
    made.update(sections_in_accordions(others, without=_LEFT_OUT))
    with gr.Accordion("Output", open=False):
        made.update(controls("Output", without=_LEFT_OUT))
        format_ = gr.Dropdown(["mp4", "webm", "gif"], value="mp4", label="Format", elem_id="rerender_format")
    return file, path, facts, made, format_


def _right(file: Any, path: Any, facts: Any, settings: dict[str, Any], format_: Any) -> tuple[_Parts, dict[str, Any]]:
    buttons: dict[str, Any] = {}
    with gr.Row():
        for name, stage in _STAGES:
            element = "rerender_generate" if stage == "all" else f"rerender_run_{stage}"
            variant = "primary" if stage == "all" else "secondary"
            buttons[name] = gr.Button(name, variant=variant, elem_id=element)
    with gr.Row():
        buttons["Interrupt"] = gr.Button("Interrupt", elem_id="rerender_interrupt")
        buttons["Restore"] = gr.Button("Show the last job", elem_id="rerender_restore")
    job_id = gr.Textbox(value="", visible=False, elem_id="rerender_job_id")
    status = gr.HTML(f"<p>{_ADVICE}</p>", elem_id="rerender_status")
    preview = gr.Image(label="Newest key frame", interactive=False, type="filepath", elem_id="rerender_preview")
    gallery = gr.Gallery(label="Key frames", columns=4, object_fit="contain", elem_id="rerender_gallery")
    with gr.Row():
        redo_frame = gr.Number(label="Key frame to redo", precision=0, value=0, elem_id="rerender_redo_frame")
        buttons["Redo"] = gr.Button("Redo this key frame", elem_id="rerender_redo")
    video = gr.Video(label="Result", interactive=False, elem_id="rerender_result")
    return _Parts(file, path, facts, settings, format_, job_id, status, preview, gallery, video, redo_frame), buttons


class _Handlers:
    """What the buttons do. Handlers that start a run are generators: they show it until it ends."""

    def __init__(self, around: Surroundings, parts: _Parts) -> None:
        self.around = around
        self.names = list(parts.settings)

    def starter(self, stage: str) -> Callable[..., Iterator[list[Any]]]:
        """The handler of a stage's button."""

        def start(file: Any, path: str, job_id: str, format_: str, *values: Any) -> Iterator[list[Any]]:
            yield from self._show(lambda: self._start(stage, file, path, job_id, format_, values, ()))

        return start

    def redo(self, frame: float, file: Any, path: str, job_id: str, format_: str, *values: Any) -> Iterator[list[Any]]:
        """Render one key frame anew."""
        yield from self._show(lambda: self._start("keys", file, path, job_id, format_, values, (int(frame or 0),)))

    def facts(self, file: Any, path: str) -> str:
        """What kind of video was chosen, or why it cannot be used."""
        from rerender.video.probe import probe

        try:
            video = self._video(file, path)
            if video is None:
                return ""
            info = probe(video)
        except RerenderError as error:
            return _error(error.message, error.hint)
        rate, sound = float(info.rate), ", with sound" if info.audio else ""
        return f"<p>{info.width}×{info.height}, {info.frames} frames, {rate:.4g} frames a second{sound}</p>"

    def cancel(self, job_id: str) -> None:
        """Stop the job that is shown."""
        if job_id:
            self.around.jobs().cancel(job_id)

    def restore(self) -> Iterator[list[Any]]:
        """Show the job that runs, or the newest one, with its settings: after the page was loaded anew."""
        known = self.around.jobs().list()
        at_work = [job for job in known if job.active]
        if not known:
            # A generator that yields nothing would empty every control it is wired to.
            yield [gr.update()] * (6 + len(self.names))
            return
        job = (at_work or known)[0]
        controls_as_asked = [job.format, *(job.settings.get(name, gr.update()) for name in self.names)]
        for shown in self._watch(job.id):
            yield [*shown, *controls_as_asked]
            controls_as_asked = [gr.update()] * len(controls_as_asked)

    def _show(self, start: Callable[[], Job]) -> Iterator[list[Any]]:
        try:
            job = start()
        except RerenderError as error:
            yield [gr.update(), _error(error.message, error.hint), gr.update(), gr.update(), gr.update()]
            return
        yield from self._watch(job.id)

    def _start(
        self, stage: str, file: Any, path: str, job_id: str, format_: str, values: Sequence[Any], redo: tuple[int, ...]
    ) -> Job:
        jobs, around = self.around.jobs(), self.around
        if stage != "propagate":
            around.access.check_host()
        settings = around.access.settings(dict(zip(self.names, values, strict=True)))
        video = self._video(file, path)
        changes: dict[str, Any] = {"stage": stage, "settings": settings, "format": format_, "options": around.options}
        former = next((job for job in jobs.list() if job.id == job_id), None)
        if former is not None and (video is None or str(video) == former.video):
            return jobs.run_again(job_id, redo_frames=redo, **changes)
        if video is None:
            raise UserError("No video is chosen.", hint="Upload one, or name a path on the server.")
        if redo:
            raise UserError("There is no key frame to redo yet.", hint="Run the key frames first.")
        return jobs.submit(video, **changes)

    def _video(self, file: Any, path: str) -> Path | None:
        access = self.around.access
        if file is not None:
            uploaded = Path(file.name)
            # Gradio's own copy is temporary; a job must survive a restart. Its folder's name is the content's hash.
            kept = access.uploads / uploaded.parent.name[:16] / safe_name(uploaded.name)
            if not kept.exists():
                kept.parent.mkdir(parents=True, exist_ok=True)
                kept.write_bytes(uploaded.read_bytes())
            return kept
        if path and path.strip():
            return access.video(path.strip().strip('"'))
        return None

    def _watch(self, job_id: str) -> Iterator[list[Any]]:
        jobs, shown = self.around.jobs(), None
        while True:
            job = jobs.get(job_id)
            new_keys = job.key_frames != shown
            shown = job.key_frames
            keys = [str(jobs.key_path(job_id, frame)) for frame in job.key_frames] if new_keys else []
            yield [
                job_id,
                status_html(job),
                (keys[-1] if keys else None) if new_keys else gr.update(),
                [(path, f"frame {frame}") for path, frame in zip(keys, job.key_frames, strict=True)]
                if new_keys
                else gr.update(),
                str(jobs.result_path(job_id)) if job.state == "done" and job.output else gr.update(),
            ]
            if not job.active:
                return
            time.sleep(_WATCH_SECONDS)


def status_html(job: Job) -> str:
    """State, progress bar and remaining time of a job."""
    if job.state == "failed":
        return _error(job.error, job.hint)
    lines = [f"<b>{html.escape(Path(job.video).name)}</b>: {job.state}"]
    if job.plan:
        facts = "{frames} frames at {width}×{height}, {key_frames} key frames, {shots} shot(s)"
        lines.append(facts.format(**job.plan))
    if job.state == "running" and job.progress:
        lines.append(_bar(job.progress))
    lines += [html.escape(note) for note in job.notes[-3:]]
    return "".join(f"<div>{line}</div>" for line in lines)


def _bar(progress: dict[str, Any]) -> str:
    done, total = float(progress.get("done", 0)), max(float(progress.get("total", 1)), 1e-9)
    eta = progress.get("eta_seconds")
    left = f", {eta:.0f} s left" if eta is not None else ""
    text = f"{progress.get('stage', '')}: {done:.1f} of {total:g} {progress.get('unit', '')}{left}"
    return f'<progress value="{min(1.0, done / total):.4f}" max="1" style="width:100%"></progress> {html.escape(text)}'


def _error(message: str, hint: str) -> str:
    return f'<div class="error"><b>{html.escape(message)}</b><br>{html.escape(hint)}</div>'
