"""What a run reports while it goes: plain records that a terminal, a log of JSON lines or a UI can show."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Event:
    """One thing that happened. `kind` names it; `data` holds JSON values only.

    kinds
        plan        frames, key_frames, width, height, shots: what the run will do
        stage       stage, state ("started", "done", "kept"): a stage begins, ends, or was already done
        progress    stage, done, total, unit, eta_seconds (None until it can be told)
        key_started frame: a key frame begins to be rendered
        key_frame   frame, path, seconds: a key frame was rendered
        key_frames  paths: the pictures of a stage that ends with key frames
        frames      first, last, seconds: an interval was propagated
        note        text: something the user should know; nothing was lost
        output      path: the finished file
    """

    kind: str
    data: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The event as one flat JSON object."""
        return {"event": self.kind, **asdict(self)["data"]}


Emit = Callable[[Event], None]


def counted(number: int, what: str) -> str:
    """Such as "1 frame", "2 frames"."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


class Meter:
    """Counts the work of a stage and tells how long the rest will take.

    Work that was kept from an earlier run counts as done but not as speed.
    """

    def __init__(self, emit: Emit, stage: str, total: int, unit: str, *, done: int = 0) -> None:
        self._emit = emit
        self._stage, self._unit = stage, unit
        self._total, self._kept = total, done
        self.done: float = done
        self._started = time.monotonic()
        self._report()

    def advance(self) -> None:
        """One more unit is finished."""
        self.advance_to(self.done + 1)

    def advance_to(self, done: float) -> None:
        """`done` units are finished; parts of a unit count."""
        self.done = done
        self._report()

    def _report(self) -> None:
        made = self.done - self._kept
        elapsed = time.monotonic() - self._started
        data = {
            "stage": self._stage,
            "done": self.done,
            "total": self._total,
            "unit": self._unit,
            "eta_seconds": round(elapsed / made * (self._total - self.done), 1) if made > 0 else None,
        }
        self._emit(Event("progress", data))
