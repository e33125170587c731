"""LoRA files in the kohya layout: found by name, added to the weights for one rendering, removed bit by bit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rerender.errors import UserError
from rerender.hosts.standalone.prompt import LoraTag

if TYPE_CHECKING:
    from rerender.hosts.standalone.model import Model
    from rerender.hosts.standalone.text import TextConditioner


class LoraFolder:
    """The LoRA files of a folder."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    @contextmanager
    def applied(self, tags: Sequence[LoraTag], model: Model, text: TextConditioner) -> Iterator[None]:
        """The model with the named files' weights added, for the time of a `with` block."""
        if tags:
            raise UserError(f"<lora:{tags[0].name}>: LoRA files are not supported yet")
        yield
