"""What a key frame was rendered with, and how that differs from what the project's settings give now.

The manifest holds each recipe once, by its digest; key frames and their earlier versions name theirs. Those of projects
that noted none have no recipe.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from rerender.files import digest
from rerender.settings import STAGES, Settings, schema, values_up_to

_MOST = 4  # differences that are told; more is another picture anyway


def recipe_of(settings: Settings, model: Mapping[str, str]) -> dict[str, Any]:
    """The settings that key frames depend on, and the identity of the model, as JSON values."""
    return {"settings": values_up_to(settings, "keys"), "model": dict(model)}


def note_recipe(manifest: dict[str, Any], recipe: Mapping[str, Any]) -> str:
    """Keep a recipe in a manifest as the present one; returns its digest."""
    mark = digest(recipe)
    manifest.setdefault("recipes", {})[mark] = recipe
    manifest["recipe"] = mark
    return mark


def differences(manifest: Mapping[str, Any], entry: Mapping[str, Any]) -> dict[str, Any] | None:
    """What a key frame had that is otherwise now, by name: settings, "checkpoint", "vae", "lora:NAME" and their hashes.

    The seed is left out: each redo has another one, and it is told by itself. A value None: it had no such thing.

    Args:
        entry: what the manifest notes of the key frame or of a version of it.

    Returns:
        The values of then; None where its recipe is not known.
    """
    recipes = manifest.get("recipes", {})
    then = recipes.get(entry.get("recipe") or "")
    if then is None:
        return None
    wanted = _names_up_to("keys" if entry.get("references") else "first")
    was, now = then["settings"], manifest["settings"]
    differs = {name: was[name] for name in wanted if name in was and name in now and was[name] != now[name]}
    before, after = then["model"], recipes.get(manifest.get("recipe", ""), then)["model"]
    return differs | {name: before.get(name) for name in {**after, **before} if before.get(name) != after.get(name)}


def _names_up_to(stage: str) -> list[str]:
    """Settings that a first (or, "keys", any) key frame depends on, the seed aside."""
    stages = [each for each in STAGES[: STAGES.index(stage) + 1] if each != "selection"]
    return [name for name, info in schema().items() if info.stage in stages and name != "seed"]


def differences_in_words(differs: Mapping[str, Any] | None, label: Callable[[str], str] = str) -> str:
    """Such as 'with steps 20, prompt "a meadow"', "settings unknown", or "" where nothing differs.

    Args:
        label: what a setting is called.

    >>> differences_in_words({"steps": 20, "checkpoint": "a.safetensors", "checkpoint_hash": "1a2b"})
    'with steps 20, checkpoint "a.safetensors"'
    """
    if differs is None:
        return "settings unknown"
    # A hash says nothing beside the name that it belongs to; alone it says that the file is another one.
    told = [name for name in differs if not (name.endswith("_hash") and name.removesuffix("_hash") in differs)]
    words = [f"{label(name)} {in_short(differs[name])}" for name in told[:_MOST]]
    more = [f"{len(told) - _MOST} more"] if len(told) > _MOST else []
    return f"with {', '.join([*words, *more])}" if words else ""


def in_short(value: Any) -> str:
    """A value of a setting in at most 40 characters; text in quotation marks.

    >>> in_short(True), in_short(None), in_short("oil")
    ('true', 'none', '"oil"')
    """
    text = f'"{value}"' if isinstance(value, str) else str(value).lower()
    return text if len(text) <= 40 else f'{text[:36]} …"'
