"""ControlNet, where it is installed: the user's own units work as they are.

A unit without an image takes the init picture of each `process_images` call, which is the key frame's source; a unit
with an image keeps it. So nothing has to be set, and nothing is imported from the extension.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rerender.errors import UserError


def active_units(p: Any) -> Iterator[Any]:
    """The switched-on ControlNet units of a processing object: objects, or dicts where they came by API."""
    for script in getattr(p.scripts, "alwayson_scripts", ()):
        if script.title().lower() != "controlnet":
            continue
        for unit in p.script_args[script.args_from : script.args_to]:
            if _value(unit, "enabled", True) and _value(unit, "module", None) is not None:
                yield unit


def check_units(p: Any) -> None:
    """Refuse the preprocessors that use self-attention themselves.

    Raises:
        UserError: a reference-only unit; names it.
    """
    for unit in active_units(p):
        module = str(_value(unit, "module", ""))
        if module.lower().startswith("reference"):
            raise UserError(
                f"The ControlNet unit {module!r} cannot be combined with cross-frame attention: both replace the keys "
                "and values of self-attention.",
                hint="Switch off that unit, or cross-frame attention.",
            )


def _value(unit: Any, name: str, default: Any) -> Any:
    if isinstance(unit, dict):
        return unit.get(name, default)
    return getattr(unit, name, default)
