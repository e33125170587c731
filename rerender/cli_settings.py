"""The settings of a command: from its file and its words, over those that the project remembers."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rerender.console import Reporter
from rerender.errors import UserError
from rerender.events import Event
from rerender.presets import built_in
from rerender.project import Project
from rerender.settings import Settings, make_settings, schema

_NEEDED = {
    "attention_": "attention",
    "shape_": "shape_fusion",
    "pixel_": "pixel_fusion",
    "color_start": "color_adain",
    "color_end": "color_adain",
    "detail_": "detail_fusion",
    "freeu_": "freeu",
}
"""The switch without which settings whose names begin like this do nothing."""
_KEY_MODES = {
    "key_interval": "uniform",
    "key_frames": "listed",
    "key_min_gap": "adaptive",
    "key_max_gap": "adaptive",
    "key_motion": "adaptive",
}


def idle_settings(settings: Settings, names: Iterable[str]) -> dict[str, str]:
    """Those of `names` that do nothing as the other settings are, with what they would need: "key_mode=listed"."""
    idle: dict[str, str] = {}
    for name in names:
        mode = _KEY_MODES.get(name, settings.key_mode)
        switch = next((switch for start, switch in _NEEDED.items() if name.startswith(start)), "")
        if mode != settings.key_mode:
            idle[name] = f"key_mode={mode}"
        elif switch not in ("", name) and not getattr(settings, switch):
            idle[name] = f"{switch}=true"
        elif name.startswith("mask_") and not settings.mask.strip():
            idle[name] = "a mask"
    return idle


def collect_settings(options: argparse.Namespace, project: Project, named: dict[str, Any]) -> Settings:
    """Lay preset, file and words of the command, in this order, over the settings of the project's last run.

    A new project starts from the defaults.

    Raises:
        UserError: a setting that is refused, or a settings file that cannot be read.
    """
    values = _given(options)
    if getattr(options, "preset", None) is not None:
        values = {**built_in(options.preset).complete(), **values}
    if options.command == "propagate" and "flow" in values:  # without key frames to render, nothing else has a flow
        values.setdefault("propagation_flow", "same")
    if isinstance(values.get("mask"), str) and values["mask"].strip():
        values["mask"] = str(Path(values["mask"].strip()).expanduser().resolve())  # a later command may run elsewhere
    return make_settings({**values, **named}, base=project.settings)


def _given(options: argparse.Namespace) -> dict[str, Any]:
    """Settings by --settings and --set, the latter on top."""
    values = _read_settings(options.settings) if options.settings else {}
    for text in options.set:
        name, separator, value = text.partition("=")
        if not separator:
            raise UserError(f"--set {text!r} has no value.", hint="Write it as --set name=value.")
        values[name.strip()] = value
    return values


def _read_settings(path: Path) -> dict[str, Any]:
    """A JSON object of settings; of a project.json, the settings that it holds."""
    example = 'It holds one JSON object, such as {"steps": 20, "key_interval": 8}.'
    try:
        document = json.loads(path.read_text(encoding="utf-8-sig"))  # editors on Windows put a mark in front
    except OSError as error:
        raise UserError(
            f"The settings file {path} cannot be read: {error.strerror or error}.", hint="Check the path."
        ) from error
    except ValueError as error:
        raise UserError(f"The settings file {path} cannot be read: {error}.", hint=example) from error
    if isinstance(document, dict) and isinstance(document.get("settings"), dict):
        document = document["settings"]
    if not isinstance(document, dict):
        raise UserError(f"The settings file {path} holds no object of names and values.", hint=example)
    return document


def say_what_is_idle(options: argparse.Namespace, settings: Settings, reporter: Reporter) -> None:
    """Report settings of the command that do nothing as things are: somebody expects something of them."""
    infos = schema()
    given = [name for name in _given(options) if getattr(settings, name) != infos[name].default]
    idle = idle_settings(settings, given)
    if options.command == "propagate":
        idle |= {name: "key frames to render" for name in given if _is_for_rendering(name)}
    for name, needed in idle.items():
        reporter.emit(Event("note", {"text": f"The setting {name} does nothing here: it needs {needed}"}))


def _is_for_rendering(name: str) -> bool:
    info = schema()[name]
    is_choice_of_keys = info.section == "Key frames" and name != "scene_cuts"
    return is_choice_of_keys or name == "short_side" or (info.stage in ("first", "keys") and name != "flow")
