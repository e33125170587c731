"""Presets on the page: apply, save, delete."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

import gradio as gr

from rerender.errors import RerenderError
from rerender.presets import BUILT_IN, COVERED, PresetShelf
from rerender.ui.status import error_html


class PresetView:
    """Handlers about presets.

    Args:
        names: of the settings on the page, in order.
    """

    def __init__(self, shelf: PresetShelf, names: Sequence[str]) -> None:
        self.shelf, self.names = shelf, list(names)
        self.covered = [name for name in self.names if name in COVERED]

    def apply(self, name: str) -> list[Any]:
        """Advice, then the settings that a preset covers."""
        try:
            preset = self.shelf.get(name)
        except RerenderError as error:
            return [error_html(error.message, error.hint), *[gr.update()] * len(self.covered)]
        values = preset.complete()
        return [advice_html(preset.advice), *(values[name] for name in self.covered)]

    def save(self, name: str, *values: Any) -> list[Any]:
        """Keep the settings on the page. Returns the list of presets, advice."""
        try:
            preset = self.shelf.save(name, dict(zip(self.names, values, strict=True)))
        except RerenderError as error:
            return [gr.update(), error_html(error.message, error.hint)]
        return [gr.update(choices=self.shelf.names(), value=preset.name), advice_html(f"Saved as “{preset.name}”.")]

    def delete(self, name: str) -> list[Any]:
        """Remove an own preset. Returns the list of presets, advice."""
        try:
            self.shelf.delete(name)
        except RerenderError as error:
            return [gr.update(), error_html(error.message, error.hint)]
        return [gr.update(choices=self.shelf.names(), value=BUILT_IN[0].name), advice_html(f"Deleted “{name}”.")]


def advice_html(text: str) -> str:
    """A line under the list of presets."""
    return f'<div class="rerender-note">{html.escape(text)}</div>'
