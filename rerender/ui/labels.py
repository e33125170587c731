"""What settings are called on the page, and texts about them in those words."""

from __future__ import annotations

import functools
import re

from rerender.settings import SettingInfo, schema

# Names that read better than the setting's own.
_LABELS: dict[str, str] = {
    "cfg_scale": "CFG scale",
    "steps": "Sampling steps",
    "scheduler": "Schedule type",
    "sampler": "Sampling method",
    "poisson": "Poisson blending",
    "freeu": "FreeU",
    "flow": "Flow of the key frames",
    **{f"freeu_{name}": f"FreeU {name}" for name in ("b1", "b2", "s1", "s2")},
}


def label(info: SettingInfo) -> str:
    """The setting's label."""
    return _LABELS.get(info.name, info.label)


def in_words(text: str) -> str:
    """A help text or message with the labels of settings in place of their names.

    Only names with an underscore are replaced: no other word looks like them. Those that are part of a path stay.

    >>> in_words("The setting end_frame (5) leaves nothing.")
    'The setting “End frame” (5) leaves nothing.'
    """
    return _names().sub(lambda found: f"“{label(schema()[found[0]])}”", text)


@functools.cache
def _names() -> re.Pattern[str]:
    names = sorted((name for name in schema() if "_" in name), key=len, reverse=True)
    return re.compile(rf"(?<![\w./\\-])({'|'.join(names)})(?![\w/\\=-]|\.\w)")
