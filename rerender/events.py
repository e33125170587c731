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

    def __init__(
        self,
        emit: Emit,
        stage: str,
        total: int,
        unit: str,
        *,
        done: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._emit, self._clock = emit, clock
        self._stage, self._unit = stage, unit
        self._total, self._kept = total, done
        self.done: float = done
        self._started = clock()
        self._made = self._seconds = 0.0
        self._report()

    def advance(self, *, measured: bool = True) -> None:
        """One more unit is finished.

        Args:
            measured: the time so far is what the units so far took. Not so within a batch of units that were all
                waited for and arrive at once: its first ones would seem to have taken all that time.
        """
        self.advance_to(self.done + 1, measured=measured)

    def advance_to(self, done: float, *, measured: bool = True) -> None:
        """`done` units are finished; parts of a unit count."""
        self.done = done
        if measured:
            self._made, self._seconds = done - self._kept, self._clock() - self._started
        self._report()

    def _report(self) -> None:
        data = {
            "stage": self._stage,
            "done": self.done,
            "total": self._total,
            "unit": self._unit,
            "eta_seconds": self._eta(),
        }
        self._emit(Event("progress", data))

    def _eta(self) -> float | None:
        if self._made <= 0:
            return None
        rest = self._seconds / self._made * (self._total - self._kept - self._made)
        since = self._clock() - self._started - self._seconds
        return round(max(0.0, rest - since), 1)
