"""What the panel has to know of where it is shown, and who of several visits asked last."""

from __future__ import annotations

import threading
from collections import OrderedDict
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
        send: makes a button send the picture of an image component to img2img; None: there is no img2img.
        presets: folder of the user's presets; None: beside the uploads.
    """

    jobs: Callable[[], Jobs]
    access: Access
    samplers: Sequence[str]
    schedulers: Sequence[str]
    options: dict[str, Any] = field(default_factory=dict)
    paths_allowed: bool = True
    styles: Callable[[], Sequence[str]] | None = None
    send: Callable[[Any, Any], None] | None = None
    presets: Path | None = None

    @property
    def preset_folder(self) -> Path:
        """Where the user's presets are."""
        return self.presets or self.access.uploads.parent / "presets"


class Newest:
    """Tells an answer that it is out of date: the same page has asked the same question again since.

    Moving a slider asks many times a second, and a page that shows another job no longer watches the first. A generator
    that is out of date must end by yielding no change: gradio sends the last thing it yielded once more when it ends,
    and would bring back what the newer answer has replaced.
    """

    def __init__(self) -> None:
        self._claims: OrderedDict[tuple[str, str], object] = OrderedDict()
        self._lock = threading.Lock()

    def claim(self, request: Any, question: str) -> Callable[[], bool]:
        """Become the newest asker; returns a function that says whether another has come since."""
        key, mine = (str(getattr(request, "session_hash", "")), question), object()
        with self._lock:
            self._claims[key] = mine
            self._claims.move_to_end(key)
            while len(self._claims) > 1000:
                self._claims.popitem(last=False)
        return lambda: self._claims.get(key) is not mine
