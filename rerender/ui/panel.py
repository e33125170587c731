"""The panel: one page of gradio 3.41 controls over `rerender.ui.jobs`, in the webui's tab and on its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from rerender.presets import PresetShelf
from rerender.settings import schema
from rerender.ui.clip_view import ClipView
from rerender.ui.clips import Clips
from rerender.ui.frame_view import FrameView
from rerender.ui.layout import STAGES, Parts, lay_out
from rerender.ui.newest import SETTLE_SECONDS, Newest
from rerender.ui.preset_view import PresetView
from rerender.ui.run_view import SHOWN, RunView
from rerender.ui.surroundings import Surroundings

__all__ = ["Surroundings", "build_panel"]

# Settings that decide which frames a run uses, and which of them are key frames.
_OF_THE_STRIP = tuple(
    info.name
    for info in schema().values()
    if info.stage == "selection" or info.name.startswith("crop_") or info.name == "short_side"
)


def build_panel(around: Surroundings, *, page: gr.Blocks | None = None) -> None:
    """Put the panel into the gradio Blocks that are being built.

    Args:
        page: the Blocks, where they are a page of their own: then loading it shows the running job again. In the webui
            its own script (javascript/rerender.js) presses the button instead, because a tab has no load event.
    """
    parts = lay_out(around)
    names = list(parts.settings)
    clip = ClipView(around, Clips(), names)
    run, frames = RunView(around, clip, _publisher(parts["files"])), FrameView(around, clip)
    _wire_clip(parts, clip)
    _wire_frames(parts, frames)
    _wire_versions(parts, frames)
    _wire_runs(parts, run, frames)
    _wire_restore(parts, run, page)
    _wire_presets(parts, PresetView(PresetShelf(around.preset_folder), names))
    if around.count_tokens is not None:
        for name, counter in zip(("prompt", "negative_prompt"), around.count_tokens, strict=True):
            _wire_counter(parts, name, counter)
    if around.send is None:
        parts.buttons["send"].visible = False
    else:
        around.send(parts.buttons["send"], *parts.of("picture", "parameters"))


def _wire_clip(parts: Parts, clip: ClipView) -> None:
    chosen = [*parts.of("file", "path", "job_id"), *parts.settings.values()]
    shown: dict[str, Any] = {
        "fn": clip.show,
        "inputs": [parts["newest"], *chosen],
        "outputs": parts.of("facts", "strip", "frame"),
        "show_progress": "hidden",
    }
    strip = [*parts.of("file", "job_id"), *(parts.settings[name] for name in _OF_THE_STRIP)]
    for event in (*(component.change for component in strip), parts["path"].blur, parts["path"].submit):
        _settled(parts, event, "strip").then(**shown)
    _settled(parts, parts["frame"].change, "frame").then(
        clip.look_at, inputs=[*parts.of("newest", "frame"), *chosen], outputs=[parts["look"]], show_progress="hidden"
    )
    mode, keys = parts.settings["key_mode"], parts.settings["key_frames"]
    for edit in ("add", "move", "remove"):
        parts.buttons[edit].click(
            clip.editor(edit),
            inputs=[*parts.of("selected", "frame", "automatic_mode"), *chosen],
            outputs=[mode, keys, *parts.of("automatic_mode", "strip_message", "selected")],
            show_progress="hidden",
        )
    keys.input(lambda text: "listed" if text.strip() else gr.update(), inputs=[keys], outputs=[mode])
    parts.buttons["automatic"].click(
        clip.automatic, inputs=[parts["automatic_mode"]], outputs=[mode, keys, parts["strip_message"]]
    )


def _settled(parts: Parts, event: Any, question: str, seconds: float = SETTLE_SECONDS) -> Any:
    """What follows an event once nothing moves any more: see `Newest.settle`."""

    def settle(newest: Newest) -> None:
        newest.settle(question, seconds)

    return event(settle, inputs=[parts["newest"]], outputs=[], show_progress="hidden")


def _wire_frames(parts: Parts, frames: FrameView) -> None:
    for changed in ("selected", "job_id", "file"):
        _settled(parts, parts[changed].change, "selected", seconds=0.05).then(**_selecting(parts, frames))
    parts["gallery"].select(frames.pick, inputs=[parts["job_id"]], outputs=[parts["selected"]], show_progress="hidden")
    parts.buttons["inspect"].click(frames.inspect, inputs=parts.of("job_id", "selected"), outputs=[parts["inspection"]])


def _selecting(parts: Parts, frames: FrameView) -> dict[str, Any]:
    return {
        "fn": frames.select,
        "inputs": [
            *parts.of("newest", "version_chosen", "selected", "file", "path", "job_id"),
            *parts.settings.values(),
        ],
        "outputs": [
            *parts.of("comparison", "picture", "parameters"),
            parts.buttons["send"],
            *parts.of("versions", "version_gallery", "version_note", "version_names", "version_chosen"),
        ],
        "show_progress": "hidden",
    }


def _wire_versions(parts: Parts, frames: FrameView) -> None:
    parts["version_gallery"].select(
        frames.versions.pick, inputs=[], outputs=[parts["version_chosen"]], show_progress="hidden"
    )
    parts.buttons["bring_back"].click(
        frames.versions.bring_back,
        inputs=parts.of("job_id", "selected", "version_names", "version_chosen"),
        outputs=parts.of("status", "gallery", "version_gallery", "version_chosen"),
        show_progress="hidden",
    ).then(**_selecting(parts, frames))


def _wire_runs(parts: Parts, run: RunView, frames: FrameView) -> None:
    inputs = [*parts.of("file", "path", "job_id", "format", "styles"), *parts.settings.values()]
    starters = {stage: (run.starter(stage), [parts["newest"], *inputs]) for _, stage in STAGES}
    starters["redo"] = (run.redo, [*parts.of("newest", "selected"), *inputs])
    for button, (start, given) in starters.items():
        parts.buttons[button].click(start, inputs=given, outputs=_shown(parts), show_progress="hidden").then(
            **_selecting(parts, frames)
        )
    job = [parts["job_id"]]
    parts.buttons["interrupt"].click(run.cancel, inputs=job, outputs=[], queue=False)
    parts.buttons["skip"].click(run.skip, inputs=job, outputs=[], queue=False)
    parts.buttons["zip"].click(run.zip_keys, inputs=job, outputs=[parts["files"]])
    parts.buttons["recycle"].click(run.recycle, inputs=job, outputs=[parts.settings["seed"]], show_progress="hidden")
    parts.buttons["dice"].click(lambda: -1, inputs=[], outputs=[parts.settings["seed"]], show_progress="hidden")


def _wire_restore(parts: Parts, run: RunView, page: gr.Blocks | None) -> None:
    restored = [*_shown(parts), *parts.of("format", "styles"), *parts.settings.values()]
    parts.buttons["restore"].click(run.restore, inputs=[parts["newest"]], outputs=restored, show_progress="hidden")
    for event in (parts["file"].upload, parts["path"].blur, parts["path"].submit):
        chosen = [*parts.of("newest", "file", "path", "job_id"), parts.settings["key_mode"]]
        event(run.clip_changed, inputs=chosen, outputs=_shown(parts), show_progress="hidden")
    parts["project"].input(
        run.open,
        inputs=[*parts.of("newest", "project"), parts.settings["key_mode"]],
        outputs=[*restored, *parts.of("file", "path")],
        show_progress="hidden",
    )
    if page is not None:
        page.load(run.restore, inputs=[parts["newest"]], outputs=restored, show_progress="hidden")


def _wire_presets(parts: Parts, presets: PresetView) -> None:
    covered = [parts.settings[name] for name in presets.covered]
    parts["preset"].input(
        presets.apply, inputs=[parts["preset"]], outputs=[parts["advice"], *covered], show_progress="hidden"
    )
    listed = parts.of("preset", "advice")
    parts.buttons["save"].click(
        presets.save, inputs=[parts["preset_name"], *parts.settings.values()], outputs=listed, show_progress="hidden"
    )
    parts.buttons["delete"].click(presets.delete, inputs=[parts["preset"]], outputs=listed, show_progress="hidden")


def _wire_counter(parts: Parts, name: str, counter: Any) -> None:
    shown: dict[str, Any] = {
        "fn": counter,
        "inputs": [parts.settings[name], parts.settings["steps"], parts["styles"]],
        "outputs": [parts[f"{name}_counter"]],
        "show_progress": "hidden",
    }
    parts.buttons[f"{name}_count"].click(**shown)
    for changed in ("styles", "job_id"):  # a job brings its own prompts
        parts[changed].change(**shown)


def _shown(parts: Parts) -> list[Any]:
    """The components of `rerender.ui.run_view.SHOWN`."""
    return [parts.settings[name] if name in parts.settings else parts[name] for name in SHOWN]


def _publisher(component: Any) -> Any:
    """Makes a file reachable for the page: gradio serves its own copies only, wherever the projects are."""

    def publish(path: Path) -> str:
        return "file=" + component.make_temp_copy_if_needed(str(path)).replace("\\", "/")

    return publish
