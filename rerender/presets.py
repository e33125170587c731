"""Presets: groups of settings to start from. Some are built in, others the user keeps.

A preset covers everything that makes up a look and a way of working (`COVERED`), and nothing that belongs to one clip
or one try: prompts, seed, range, crop, mask and listed key frames stay as they are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rerender.errors import UserError
from rerender.files import write_json
from rerender.settings import make_settings, schema

_OF_THE_CLIP = frozenset(
    {
        *("start_frame", "end_frame", "frame_rate", "crop_left", "crop_top", "crop_right", "crop_bottom"),
        *(info.name for info in schema().values() if info.section == "Mask"),
        *("key_frames", "prompt", "negative_prompt", "prompt_timeline", "seed", "clip_skip"),
    }
)
COVERED: tuple[str, ...] = tuple(
    name for name, info in schema().items() if name not in _OF_THE_CLIP and info.stage != "runtime"
)
"""Settings that a preset sets."""


@dataclass(frozen=True)
class Preset:
    """A named group of settings.

    Attributes:
        advice: when to take it, in a sentence.
        values: what differs from the defaults.
    """

    name: str
    advice: str
    values: Mapping[str, Any] = field(default_factory=dict)

    def complete(self) -> dict[str, Any]:
        """All settings that a preset covers: its own, and defaults."""
        infos = schema()
        return {name: self.values.get(name, infos[name].default) for name in COVERED}


# Periods counted by noise keep their meaning when there are few, uneven steps.
_FEW_STEPS = {"steps": 8, "period_unit": "noise", "denoising_strength": 0.7}

BUILT_IN: tuple[Preset, ...] = (
    Preset("Balanced", "The paper's periods and strengths, and detail fusion. Start here."),
    Preset(
        "Strong style",
        "A look far from the source. More strength, held together by longer fusion; expect less detail.",
        {"denoising_strength": 0.9, "cfg_scale": 9.0, "shape_end": 0.2, "pixel_end": 0.85},
    ),
    Preset(
        "Close to the source",
        "Repaints surfaces and keeps faces and layout; the steadiest of all.",
        {"denoising_strength": 0.5, "cfg_scale": 7.0},
    ),
    Preset(
        "Large or quick motion",
        "Where flow cannot follow: key frames by motion, loose attention, no pixel fusion, less strength.",
        {
            "denoising_strength": 0.6,
            "key_mode": "adaptive",
            "key_max_gap": 8,
            "attention_layers": "loose",
            "pixel_fusion": False,
        },
    ),
    Preset(
        "Fast preview",
        "To judge prompt and motion: small, few steps, quick propagation. Not for the final clip.",
        {"short_side": 384, "steps": 12, "propagation_preset": "fast", "key_interval": 15, "poisson": False},
    ),
    Preset(
        "Few-step model: LCM",
        "For LCM checkpoints and LoRAs: their own sampler, few steps, low CFG.",
        {**_FEW_STEPS, "sampler": "LCM", "cfg_scale": 1.5},
    ),
    Preset(
        "Few-step model: Turbo, Lightning",
        "For other distilled checkpoints and LoRAs; some of them want Euler a in place of DPM++ SDE.",
        {**_FEW_STEPS, "sampler": "DPM++ SDE", "cfg_scale": 2.0},
    ),
)


def built_in(name: str) -> Preset:
    """A built-in preset by its name, or by how only its name begins; case does not count.

    Raises:
        UserError: there is none, or several begin like this.
    """
    wanted = name.strip().lower()
    found = [preset for preset in BUILT_IN if preset.name.lower().startswith(wanted)]
    exact = [preset for preset in found if preset.name.lower() == wanted]
    if len(exact or found) != 1:
        known = "; ".join(preset.name for preset in (found or BUILT_IN))
        raise UserError(f"There is no single preset {name!r}.", hint=f"Known: {known}.")
    return (exact or found)[0]


class PresetShelf:
    """Built-in presets, and the user's own in a folder: one JSON file each.

    Args:
        folder: made when the first preset is saved.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def names(self) -> list[str]:
        """Built-in ones first, then the user's, by name."""
        own = sorted((path.stem for path in self.folder.glob("*.json")), key=str.lower)
        return [*(preset.name for preset in BUILT_IN), *own]

    def get(self, name: str) -> Preset:
        """A preset by name.

        Raises:
            UserError: there is none, or its file cannot be read.
        """
        for preset in BUILT_IN:
            if preset.name == name:
                return preset
        path = self._path(name)
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
            known = {key: value for key, value in stored["settings"].items() if key in COVERED}
            return Preset(name, str(stored.get("advice", "")), _checked(known))
        except FileNotFoundError as error:
            raise UserError(f"There is no preset {name!r}.") from error
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"The preset {path.name} cannot be read: {error}.", hint="Save it again.") from error

    def save(self, name: str, settings: Mapping[str, Any]) -> Preset:
        """Keep the settings that a preset covers, in place of an own preset of that name.

        Raises:
            UserError: a name or value that cannot be used.
        """
        path = self._path(name)
        if self.is_built_in(path.stem):
            raise UserError(f"{path.stem!r} is a built-in preset.", hint="Choose another name.")
        values = _checked({key: value for key, value in settings.items() if key in COVERED})
        write_json(path, {"settings": values, "advice": ""})
        return Preset(path.stem, "", values)

    def delete(self, name: str) -> None:
        """Remove one of the user's presets.

        Raises:
            UserError: it is built in, or does not exist.
        """
        if self.is_built_in(name):
            raise UserError(f"{name!r} is a built-in preset and stays.")
        try:
            self._path(name).unlink()
        except FileNotFoundError as error:
            raise UserError(f"There is no preset {name!r}.") from error

    @staticmethod
    def is_built_in(name: str) -> bool:
        """Whether a preset comes with the program. Case does not count: some file systems ignore it."""
        return name.lower() in {preset.name.lower() for preset in BUILT_IN}

    def _path(self, name: str) -> Path:
        cleaned = re.sub(r"\s+", " ", re.sub(r'[<>:"/\\|?*\x00-\x1f.]', " ", name or "")).strip()[:60].strip()
        if not cleaned:
            raise UserError(f"{name!r} is no name for a preset.", hint="Use letters, digits and spaces.")
        return self.folder / f"{cleaned}.json"


def _checked(values: dict[str, Any]) -> dict[str, Any]:
    """The values as the schema types them."""
    settings = make_settings(values)
    return {name: getattr(settings, name) for name in values}
