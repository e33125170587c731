"""Settings laid out in groups that belong together. The tab and the script in img2img show the same groups."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import gradio as gr

from rerender.settings import SECTIONS
from rerender.ui import texts
from rerender.ui.controls import Maker


@dataclass(frozen=True)
class Constraint:
    """One of the constraints: its switch, its range, and what is worth a place beside them."""

    section: str
    switch: str
    prefix: str
    advice: str
    main: tuple[str, ...] = ()


CONSTRAINTS: tuple[Constraint, ...] = (
    Constraint("Cross-frame attention", "attention", "attention", texts.ATTENTION_INFO, ("attention_layers",)),
    Constraint("Shape-aware fusion", "shape_fusion", "shape", texts.SHAPE_INFO),
    Constraint("Pixel-aware fusion", "pixel_fusion", "pixel", texts.PIXEL_INFO, ("pixel_strength",)),
    Constraint("Colour", "color_adain", "color", texts.COLOR_INFO),
    Constraint("Detail fusion", "detail_fusion", "detail", texts.DETAIL_INFO, ("detail_strength", "detail_tolerance")),
)
_TITLES = {"color_adain": "Color AdaIN"}
_COLUMNS = (("attention", "shape", "color"), ("pixel", "detail"))


def constraint_groups(maker: Maker) -> None:
    """The constraints, each a switch with its range; the rest is folded away."""
    gr.HTML(f'<div class="rerender-title">{texts.CONSTRAINTS}</div>')
    with gr.Row(equal_height=False, elem_classes="rerender-pair"):
        for column in _COLUMNS:
            with gr.Column(min_width=230):
                for prefix in column:
                    _constraint(maker, next(each for each in CONSTRAINTS if each.prefix == prefix))
    _folded(maker, "References", "References", "flow")


def _constraint(maker: Maker, constraint: Constraint) -> None:
    with gr.Group(elem_id=maker.id(f"group_{constraint.prefix}")):
        title = _TITLES.get(constraint.switch, constraint.section)
        maker.make(constraint.switch, label=title)
        gr.HTML(f'<div class="rerender-advice">{constraint.advice}</div>')
        if maker.has(f"{constraint.prefix}_start"):
            with gr.Row():
                maker.make(*(f"{constraint.prefix}_{end}" for end in ("start", "end")), info=None, min_width=90)
        maker.make(*constraint.main)
        _folded(maker, constraint.section, f"{texts.MORE}: {title[0].lower()}{title[1:]}")


def sampling_group(maker: Maker) -> None:
    """Sampler, schedule, steps, guidance and strength: as in img2img. The seed has a row of its own."""
    with gr.Row():
        maker.make("sampler", "scheduler")
    with gr.Row():
        maker.make("steps", "cfg_scale")
    maker.make("denoising_strength")


def key_frame_group(maker: Maker) -> None:
    """How key frames are chosen."""
    with gr.Row():
        maker.make("key_mode", "key_interval")
    maker.make("scene_cuts", label=texts.SCENE_CUTS)
    _folded(maker, "Key frames", f"{texts.MORE}: choice of key frames")


def further_groups(maker: Maker, keep_mask: Callable[[Path], str]) -> None:
    """Everything that has no control yet, section by section, folded.

    Args:
        keep_mask: stores an uploaded mask; returns what the setting is to name it by.
    """
    gr.HTML(f'<div class="rerender-title">{texts.EVERYTHING_ELSE}</div>')
    titles = {"Source": texts.SOURCE_SECTION, "Generation": texts.SAMPLING_SECTION}
    for section in SECTIONS:
        with_upload = section == "Mask" and maker.has("mask")
        _folded(maker, section, titles.get(section, section), upload=keep_mask if with_upload else None)


def _folded(maker: Maker, section: str, title: str, *more: str, upload: Callable[[Path], str] | None = None) -> None:
    """A section's settings that have no control yet, and `more` of others, folded away."""
    names = [*maker.rest(section), *more]
    if not names:
        return
    element = maker.id(f"section_{section.lower().replace(' ', '_')}")
    with gr.Accordion(title, open=False, elem_id=element):
        for pair in zip(names[::2], [*names[1::2], ""], strict=False):
            with gr.Row():
                maker.make(*filter(None, pair))
        if upload is not None:
            _mask_upload(maker, upload)


def _mask_upload(maker: Maker, keep: Callable[[Path], str]) -> None:
    button = gr.UploadButton(
        texts.UPLOAD_MASK, file_types=["video", "image"], size="sm", elem_id=maker.id("mask_upload")
    )
    button.do_not_save_to_config = True
    button.upload(lambda file: keep(Path(file.name)), inputs=[button], outputs=[maker.made["mask"]])
