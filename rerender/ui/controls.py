"""Gradio controls for settings, all made from the one schema."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import gradio as gr

from rerender.settings import SettingInfo, schema

# Ranges that make a slider useful; what lies outside can still be given by API and command line.
_SLIDERS: dict[str, tuple[float, float]] = {
    "short_side": (0, 2048),
    "key_interval": (1, 100),
    "key_min_gap": (1, 50),
    "key_max_gap": (1, 100),
    "attention_update_every": (1, 20),
    "guide_color": (0, 20),
    "guide_position": (0, 20),
    "guide_edge": (0, 20),
    "guide_temporal": (0, 20),
}


def control(info: SettingInfo, *, choices: Sequence[str] = (), prefix: str = "rerender") -> Any:
    """The control of one setting.

    Args:
        choices: what a text may be, where the host knows (samplers).
        prefix: of the element's id.
    """
    common = {
        "label": info.label,
        "value": info.default,
        "elem_id": f"{prefix}_{info.name}",
    }
    if info.type is bool:
        return gr.Checkbox(**common)
    common["info"] = info.help
    if choices or info.choices:
        return gr.Dropdown(choices=list(choices or info.choices), **common)
    if info.type is str:
        lines = 3 if "prompt" in info.name else 1
        return gr.Textbox(lines=lines, **common)
    low, high = _SLIDERS.get(info.name, (info.minimum, info.maximum))
    whole = info.type is int
    if low is None or high is None or (whole and high - low > 4096):
        return gr.Number(precision=0 if whole else None, **common)
    return gr.Slider(minimum=low, maximum=high, step=1 if whole else 0.01, **common)


def controls(
    section: str,
    *,
    without: Iterable[str] = (),
    choices: Mapping[str, Sequence[str]] | None = None,
    prefix: str = "rerender",
) -> dict[str, Any]:
    """The controls of a section of the schema, by name of the setting, in order."""
    left_out = set(without)
    return {
        info.name: control(info, choices=(choices or {}).get(info.name, ()), prefix=prefix)
        for info in schema().values()
        if info.section == section and info.name not in left_out
    }


def sections_in_accordions(
    sections: Iterable[str], *, without: Iterable[str] = (), prefix: str = "rerender"
) -> dict[str, Any]:
    """The controls of several sections, each in a closed accordion."""
    made: dict[str, Any] = {}
    for section in sections:
        with gr.Accordion(section, open=False, elem_id=f"{prefix}_section_{section.lower().replace(' ', '_')}"):
            made.update(controls(section, without=without, prefix=prefix))
    return made
