"""Events of a run on a terminal, or as JSON lines."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable
from typing import IO, Any, Protocol

from tqdm import tqdm

from rerender.errors import RerenderError
from rerender.events import Event, counted

STAGE_NAMES = {"first": "First key frame", "keys": "Key frames", "propagate": "Propagation", "output": "Output"}


class Reporter(Protocol):
    """Shows what a run reports."""

    def emit(self, event: Event) -> None:
        """Show one event."""

    def fail(self, error: RerenderError) -> None:
        """Show why the run ended."""

    def close(self) -> None:
        """The run is over; leave the terminal tidy."""


class JsonReporter:
    """One JSON object a line on standard output, an error as {"event": "error", …}."""

    def __init__(self, stream: IO[str] | None = None) -> None:
        self._stream = stream or sys.stdout

    def emit(self, event: Event) -> None:
        """Print one event."""
        self._print(event.as_json())

    def fail(self, error: RerenderError) -> None:
        """Print the error."""
        facts = {"message": error.message, "hint": error.hint, "exit_status": error.exit_status}
        self._print({"event": "error", **facts})

    def close(self) -> None:
        """Nothing to do."""

    def _print(self, document: dict[str, object]) -> None:
        print(json.dumps(document, ensure_ascii=False), file=self._stream, flush=True)


SECONDS_BETWEEN_LINES = 30.0
"""How often progress is told where no terminal can show a bar: enough for a log, not so much that it fills it."""


class TerminalReporter:
    """Progress with the remaining time on standard error; the paths of results on standard output, one a line.

    Args:
        quiet: leave out everything but errors and results.
        clock: seconds, monotonic.
    """

    def __init__(self, *, quiet: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        self._quiet, self._clock = quiet, clock
        self._bar: tqdm | None = None
        self._stage = ""
        self._told = 0.0

    def emit(self, event: Event) -> None:
        """Show one event."""
        data = event.data
        if event.kind == "plan":
            shots = f" in {data['shots']} shots" if data["shots"] > 1 else ""
            frames, keys = counted(data["frames"], "frame"), counted(data["key_frames"], "key frame")
            self._say(f"{frames} at {data['width']}x{data['height']}, {keys}{shots}")
        elif event.kind == "stage":
            self._show_stage(data["stage"], data["state"])
        elif event.kind == "progress":
            self._show_progress(data)
        elif event.kind == "note":
            self._say(f"{data['text']}.")
        elif event.kind in ("output", "key_frames"):
            self.close()
            for path in data.get("paths") or [data["path"]]:
                print(path, flush=True)  # noqa: T201

    def fail(self, error: RerenderError) -> None:
        """Show the message and the way out."""
        self.close()
        prefix = "" if error.exit_status == 130 else "error: "
        for text in filter(None, (f"{prefix}{error.message}", error.hint and f"{' ' * len(prefix)}{error.hint}")):
            tqdm.write(text, file=sys.stderr)

    def close(self) -> None:
        """End the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _show_stage(self, stage: str, state: str) -> None:
        if state == "kept":
            self._say(f"{STAGE_NAMES[stage]}: nothing to do, all is there")
        if state in ("done", "kept"):
            self.close()

    def _show_progress(self, data: dict[str, Any]) -> None:
        if not sys.stderr.isatty():
            self._tell_progress(data)
            return
        if self._bar is None or self._stage != data["stage"]:
            self.close()
            self._stage = data["stage"]
            self._bar = tqdm(
                total=float(data["total"]),
                initial=float(data["done"]),
                desc=f"{STAGE_NAMES[self._stage]:15}",
                bar_format="{desc} {percentage:3.0f}%|{bar}| {n:.0f}/{total:.0f} " + data["unit"] + "{postfix}",
                disable=self._quiet,
            )
        self._bar.set_postfix_str(_remaining(data["eta_seconds"]), refresh=False)
        self._bar.update(float(data["done"]) - self._bar.n)

    def _tell_progress(self, data: dict[str, Any]) -> None:
        """A line now and then, for a log file."""
        now = self._clock()
        if self._stage != data["stage"]:
            self._stage, self._told = data["stage"], now
        if now - self._told >= SECONDS_BETWEEN_LINES:
            self._told = now
            left = _remaining(data["eta_seconds"])
            done = f"{STAGE_NAMES[self._stage]}: {int(data['done'])} of {data['total']} {data['unit']}"
            self._say(f"{done}, {left}" if left else done)

    def _say(self, text: str) -> None:
        if not self._quiet:
            tqdm.write(text, file=sys.stderr)


class LogHandler(logging.Handler):
    """The log on standard error, clear of the bar; what was told once is not told again."""

    def __init__(self, *, verbose: bool) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("%(name)s: %(message)s" if verbose else "%(levelname)s: %(message)s"))
        self._told: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        """Show one record."""
        text = self.format(record)
        if text not in self._told:
            self._told.add(text)
            tqdm.write(text.replace("WARNING: ", "warning: ", 1), file=sys.stderr)


def _remaining(seconds: object) -> str:
    return "" if seconds is None else f"{tqdm.format_interval(float(str(seconds)))} left"
