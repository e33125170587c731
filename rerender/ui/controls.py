"""Gradio controls for settings, all made from the one schema."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from rerender.settings import SettingInfo, schema
from rerender.ui import texts
from rerender.ui.labels import in_words, label

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
    "guide_outline": (0, 20),
    "guide_temporal": (0, 20),
}
# What a text may be, where no host has to be asked.
_CHOICES: dict[str, Sequence[str]] = {"flow": ("dis_guided", "dis", "dis_fast")}
_INFO: dict[str, str] = {"seed": texts.SEED_INFO, "key_interval": texts.INTERVAL_INFO}
# Where the label says it all.
_PLAIN = frozenset({"prompt", "negative_prompt", "sampler", "scheduler", "steps", "cfg_scale"})


@dataclass(frozen=True)
class Maker:
    """Makes the controls of settings, each once, and remembers them.

    Attributes:
        prefix: of the elements' ids.
        without: settings that get no control.
        choices: what a text may be, where the host knows (samplers).
        made: the controls by name of the setting.
    """

    prefix: str = "rerender"
    without: frozenset[str] = frozenset()
    choices: Mapping[str, Sequence[str]] = field(default_factory=dict)
    made: dict[str, Any] = field(default_factory=dict)

    def has(self, name: str) -> bool:
        """Whether the setting is to have a control that is not made yet."""
        return name in schema() and name not in self.without and name not in self.made

    def make(self, *names: str, **changes: Any) -> list[Any]:
        """The controls of some settings, in this order; those that are left out or made already are passed over.

        Args:
            changes: arguments of the component in place of the usual ones.
        """
        infos = schema()
        new = {name: self._control(infos[name], changes) for name in names if self.has(name)}
        self.made.update(new)
        return list(new.values())

    def rest(self, section: str) -> list[str]:
        """Settings of a section that have no control yet."""
        return [info.name for info in schema().values() if info.section == section and self.has(info.name)]

    def in_order(self) -> dict[str, Any]:
        """All controls in the order of the schema."""
        return {name: self.made[name] for name in schema() if name in self.made}

    def id(self, name: str) -> str:
        """The id of an element."""
        return f"{self.prefix}_{name}"

    def _control(self, info: SettingInfo, changes: Mapping[str, Any]) -> Any:
        common: dict[str, Any] = {
            "label": label(info),
            "value": info.default,
            "elem_id": self.id(info.name),
            **changes,
        }
        if info.type is bool:
            return gr.Checkbox(**common)
        if info.name not in _PLAIN:
            common.setdefault("info", _INFO.get(info.name) or in_words(info.help))
        choices = self.choices.get(info.name) or _CHOICES.get(info.name) or info.choices
        if choices:
            return gr.Dropdown(choices=list(choices), **common)
        if info.type is str:
            return gr.Textbox(**{"lines": 1, **common})
        return self._number(info, common)

    def _number(self, info: SettingInfo, common: dict[str, Any]) -> Any:
        low, high = _SLIDERS.get(info.name, (info.minimum, info.maximum))
        whole = info.type is int
        if low is None or high is None or (whole and high - low > 4096):
            return gr.Number(precision=0 if whole else None, **common)
        return gr.Slider(minimum=low, maximum=high, step=1 if whole else _step(high - low), **common)


def _step(span: float) -> float:
    return 0.01 if span <= 1 else 0.05 if span <= 5 else 0.1 if span <= 20 else 0.5


def left_out(names: Iterable[str] = ()) -> frozenset[str]:
    """Settings without a control: guards and the like, which no result depends on, and `names`."""
    return frozenset(info.name for info in schema().values() if info.stage == "runtime") | frozenset(names)
