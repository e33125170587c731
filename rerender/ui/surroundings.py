"""What the panel has to know of where it is shown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rerender.ui.api import Access
from rerender.ui.jobs import Jobs


@dataclass(frozen=True)
class Surroundings:
    """What the panel has to know of where it is shown.

    Attributes:
        samplers, schedulers: names to choose from.
        options: for the host, with each job.
        paths_allowed: whether videos may be named by path.
        styles: names of the host's prompt styles, asked for when the page is built; None: it has none.
        apply_styles: what the host makes of a prompt and a negative prompt with styles of these names.
        count_tokens: the host's counters of a prompt's and a negative prompt's tokens: HTML for text, steps, styles.
        send: makes a button send an image component's picture and a text component's generation parameters to img2img;
            None: there is no img2img.
        presets: folder of the user's presets; None: beside the uploads.
    """

    jobs: Callable[[], Jobs]
    access: Access
    samplers: Sequence[str]
    schedulers: Sequence[str]
    options: dict[str, Any] = field(default_factory=dict)
    paths_allowed: bool = True
    styles: Callable[[], Sequence[str]] | None = None
    apply_styles: Callable[[str, str, Sequence[str]], tuple[str, str]] | None = None
    count_tokens: tuple[Callable[..., str], Callable[..., str]] | None = None
    send: Callable[[Any, Any, Any], None] | None = None
    presets: Path | None = None

    @property
    def preset_folder(self) -> Path:
        """Where the user's presets are."""
        return self.presets or self.access.uploads.parent / "presets"
