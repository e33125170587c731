"""Where everything is on the page. Wiring is in `rerender.ui.panel`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, get_args

import gradio as gr

from rerender.presets import BUILT_IN, PresetShelf
from rerender.ui import texts
from rerender.ui.compare import empty_html
from rerender.ui.controls import Maker, left_out
from rerender.ui.groups import constraint_groups, further_groups, key_frame_group, sampling_group
from rerender.ui.job import Format
from rerender.ui.newest import Newest
from rerender.ui.preset_view import advice_html
from rerender.ui.status import hint_html
from rerender.ui.strip import empty_strip
from rerender.ui.surroundings import Surroundings

STAGES = (
    (texts.RUN_FIRST, "first"),
    (texts.RUN_KEYS, "keys"),
    (texts.RUN_PROPAGATION, "propagate"),
    (texts.RUN_ALL, "all"),
)


@dataclass
class Parts:
    """The components that handlers read and write, by name; buttons apart."""

    at: dict[str, Any] = field(default_factory=dict)
    buttons: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Any:
        return self.at[name]

    def of(self, *names: str) -> list[Any]:
        """Several components."""
        return [self.at[name] for name in names]


def lay_out(around: Surroundings) -> Parts:
    """Build the page inside the gradio Blocks at hand."""
    parts = Parts()
    choices = {"sampler": around.samplers, "scheduler": around.schedulers}
    maker = Maker(without=left_out(), choices=choices)
    parts.at["newest"] = gr.State(Newest())
    parts.at["job_id"] = gr.Textbox(value="", visible=False, elem_id="rerender_job_id")
    with gr.Row(elem_id="rerender_top"):
        with gr.Column(scale=6, min_width=400):
            _prompts(parts, around, maker)
        with gr.Column(scale=4, min_width=340):
            _buttons(parts)
    with gr.Row(elem_id="rerender_panel"):
        with gr.Column(scale=1, min_width=480, elem_id="rerender_left"):
            _clip(parts, around)
            _strip(parts, maker)
            _settings(parts, around, maker)
        with gr.Column(scale=1, min_width=480, elem_id="rerender_right"):
            _results(parts)
    parts.settings = maker.in_order()
    for component in parts.at.values():
        component.do_not_save_to_config = True  # the webui's ui-config.json is for defaults, not for a run's state
    return parts


def _prompts(parts: Parts, around: Surroundings, maker: Maker) -> None:
    placeholders = {"prompt": "What the result should look like", "negative_prompt": "What to keep out of the picture"}
    for name, words in placeholders.items():
        with gr.Row(elem_id=f"rerender_{name}_row"):
            # The class is what the webui's Ctrl+Up and Ctrl+Down look for.
            maker.make(name, lines=2, placeholder=words, show_label=False, elem_classes="prompt")
        if around.count_tokens is not None:
            _token_counter(parts, name)
    names = list(around.styles()) if around.styles is not None else []
    parts.at["styles"] = gr.Dropdown(
        names, value=[], multiselect=True, label=texts.STYLES, visible=bool(names), elem_id="rerender_styles"
    )


def _token_counter(parts: Parts, name: str) -> None:
    """The number of tokens over a prompt; the webui's own script moves it there and asks for it."""
    element = f"rerender_{name}_counter"
    parts.at[f"{name}_counter"] = gr.HTML(
        "<span>0/75</span>", visible=False, elem_id=element, elem_classes="token-counter"
    )
    parts.buttons[f"{name}_count"] = gr.Button(visible=False, elem_id=f"rerender_{name}_count")


def _buttons(parts: Parts) -> None:
    with gr.Row(elem_id="rerender_stages"):
        for label, stage in STAGES:
            element = "rerender_generate" if stage == "all" else f"rerender_run_{stage}"
            variant = "primary" if stage == "all" else "secondary"
            parts.buttons[stage] = gr.Button(label, variant=variant, elem_id=element, min_width=140)
    with gr.Row(elem_id="rerender_stops"):
        for label, name in ((texts.INTERRUPT, "interrupt"), (texts.SKIP, "skip")):
            parts.buttons[name] = gr.Button(label, elem_id=f"rerender_{name}", min_width=140)
    # Pressed by the page itself after a reload: see javascript/rerender.js.
    parts.buttons["restore"] = gr.Button(texts.SHOW_LAST, elem_id="rerender_restore", elem_classes="rerender-hidden")


def _clip(parts: Parts, around: Surroundings) -> None:
    with gr.Tabs(elem_id="rerender_sources"):
        with gr.Tab(texts.UPLOAD):
            parts.at["file"] = gr.File(
                label=texts.VIDEO, file_types=["video", ".gif"], elem_id="rerender_video", height=110
            )
        with gr.Tab(texts.SERVER_PATH, visible=around.paths_allowed):
            parts.at["path"] = gr.Textbox(
                label=texts.PATH_LABEL, placeholder=texts.PATH_HINT, elem_id="rerender_video_path"
            )
        with gr.Tab(texts.FORMER):
            parts.at["project"] = gr.Dropdown(
                [texts.NEW_PROJECT],
                value=texts.NEW_PROJECT,
                label=texts.PROJECT,
                info=texts.PROJECT_INFO,
                elem_id="rerender_project",
            )
    parts.at["facts"] = gr.HTML("", elem_id="rerender_facts")


def _strip(parts: Parts, maker: Maker) -> None:
    with gr.Column(elem_id="rerender_strip_area"):
        gr.HTML(f'<div class="rerender-title">{texts.STRIP}</div>')
        parts.at["strip"] = gr.HTML(empty_strip(), elem_id="rerender_strip")
        parts.at["automatic_mode"] = gr.State("uniform")
        with gr.Accordion(texts.EDIT_STRIP, open=False, elem_id="rerender_edit_strip"):
            with gr.Row():
                parts.at["frame"] = gr.Slider(
                    0, 1, value=0, step=1, label=texts.FRAME, info=texts.FRAME_INFO, elem_id="rerender_frame"
                )
                parts.at["look"] = gr.HTML("", elem_id="rerender_frame_picture")
            with gr.Row():
                for label, name in ((texts.ADD, "add"), (texts.MOVE, "move"), (texts.REMOVE, "remove")):
                    parts.buttons[name] = gr.Button(label, size="sm", min_width=100, elem_id=f"rerender_key_{name}")
                parts.buttons["automatic"] = gr.Button(
                    texts.AUTOMATIC, size="sm", min_width=100, elem_id="rerender_key_automatic"
                )
            parts.at["strip_message"] = gr.HTML("", elem_id="rerender_strip_message")
    key_frame_group(maker)


def _settings(parts: Parts, around: Surroundings, maker: Maker) -> None:
    _presets(parts, PresetShelf(around.preset_folder))
    gr.HTML(f'<div class="rerender-title">{texts.SAMPLING}</div>')
    sampling_group(maker)
    with gr.Row(elem_id="rerender_seed_row"):
        maker.make("seed", scale=8, value=-1)  # as in the webui: every first key frame is another try
        for label, name in ((texts.DICE, "dice"), (texts.RECYCLE, "recycle")):
            parts.buttons[name] = gr.Button(
                label, scale=1, min_width=42, elem_id=f"rerender_seed_{name}", elem_classes="tool"
            )
    constraint_groups(maker)
    further_groups(maker, around.access.keep_mask)
    parts.at["format"] = gr.Dropdown(
        list(get_args(Format)), value="mp4", label=texts.OUTPUT_FORMAT, elem_id="rerender_format"
    )


def _presets(parts: Parts, shelf: PresetShelf) -> None:
    with gr.Row(elem_id="rerender_presets"):
        parts.at["preset"] = gr.Dropdown(
            shelf.names(), value=BUILT_IN[0].name, label=texts.PRESET, scale=5, elem_id="rerender_preset"
        )
        parts.at["preset_name"] = gr.Textbox(
            label=texts.PRESET_NAME, placeholder="My preset", scale=4, max_lines=1, elem_id="rerender_preset_name"
        )
        for label, name in ((texts.SAVE, "save"), (texts.DELETE, "delete")):
            parts.buttons[name] = gr.Button(label, scale=1, min_width=64, size="sm", elem_id=f"rerender_preset_{name}")
    parts.at["advice"] = gr.HTML(advice_html(BUILT_IN[0].advice), elem_id="rerender_preset_advice")


def _results(parts: Parts) -> None:
    parts.at["status"] = gr.HTML(hint_html(texts.ADVICE), elem_id="rerender_status")
    with gr.Tabs(elem_id="rerender_results") as parts.at["results"]:
        with gr.Tab(texts.KEY_FRAMES, id="keys"):
            _key_frames(parts)
        with gr.Tab(texts.RESULT, id="result"):
            parts.at["player"] = gr.HTML(empty_html(), elem_id="rerender_result")
            parts.at["files"] = gr.File(
                label=texts.DOWNLOADS, file_count="multiple", interactive=False, elem_id="rerender_files"
            )
            parts.buttons["zip"] = gr.Button(texts.ZIP, size="sm", elem_id="rerender_zip")


def _key_frames(parts: Parts) -> None:
    parts.at["gallery"] = gr.Gallery(
        label=texts.KEY_FRAMES,
        show_label=False,
        columns=4,
        object_fit="contain",
        allow_preview=False,
        elem_id="rerender_gallery",
    )
    with gr.Row(elem_id="rerender_selected_row"):
        parts.at["selected"] = gr.Number(
            label=texts.SELECTED, precision=0, value=0, scale=2, min_width=120, elem_id="rerender_redo_frame"
        )
        for label, name in ((texts.REDO, "redo"), (texts.SEND_TO_IMG2IMG, "send")):
            parts.buttons[name] = gr.Button(label, scale=3, min_width=120, elem_id=f"rerender_{name}")
    parts.buttons["send"].interactive = False  # until a rendered one is selected
    _versions(parts)
    gr.HTML(f'<div class="rerender-title">{texts.COMPARE}</div>')
    parts.at["comparison"] = gr.HTML(empty_html(texts.NO_KEYS), elem_id="rerender_comparison")
    parts.at["parameters"] = gr.Textbox(visible=False, elem_id="rerender_selected_parameters")
    parts.at["picture"] = gr.Image(type="pil", visible=False, elem_id="rerender_selected_picture")
    with gr.Accordion(texts.INSPECT, open=False, elem_id="rerender_inspect"):
        parts.buttons["inspect"] = gr.Button(texts.INSPECT_BUTTON, size="sm", elem_id="rerender_inspect_button")
        parts.at["inspection"] = gr.HTML("", elem_id="rerender_inspection")


def _versions(parts: Parts) -> None:
    """In sight only where the selected key frame has some."""
    parts.at["version_names"] = gr.State(())
    parts.at["version_chosen"] = gr.State(-1)
    with gr.Accordion(texts.VERSIONS, open=False, visible=False, elem_id="rerender_versions") as parts.at["versions"]:
        parts.at["version_gallery"] = gr.Gallery(
            label=texts.VERSIONS,
            show_label=False,
            columns=4,
            object_fit="contain",
            allow_preview=False,
            elem_id="rerender_version_gallery",
        )
        with gr.Row(elem_id="rerender_version_row"):
            parts.at["version_note"] = gr.HTML("", elem_id="rerender_version_note")
            parts.buttons["bring_back"] = gr.Button(texts.BRING_BACK, size="sm", elem_id="rerender_bring_back")
