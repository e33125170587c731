"""Events of a run on a terminal, or as JSON lines."""

from __future__ import annotations

import json
import sys
from typing import IO, Protocol

from tqdm import tqdm

from rerender.errors import RerenderError
from rerender.events import Event

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


class TerminalReporter:
    """A progress bar with the remaining time on standard error; the path of the result on standard output."""

    def __init__(self) -> None:
        self._bar: tqdm | None = None
        self._stage = ""

    def emit(self, event: Event) -> None:
        """Show one event."""
        data = event.data
        if event.kind == "plan":
            self._say(
                f"{data['frames']} frames at {data['width']}x{data['height']}, {data['key_frames']} key frames"
                + (f" in {data['shots']} shots" if data["shots"] > 1 else "")
            )
        elif event.kind == "stage":
            self._show_stage(data["stage"], data["state"])
        elif event.kind == "progress":
            self._show_progress(data)
        elif event.kind == "note":
            self._say(f"{data['text']}.")
        elif event.kind == "output":
            self.close()
            print(data["path"], flush=True)  # noqa: T201

    def fail(self, error: RerenderError) -> None:
        """Show the message and the way out."""
        self.close()
        prefix = "" if error.exit_status == 130 else "error: "
        self._say(f"{prefix}{error.message}")
        if error.hint:
            self._say(f"{' ' * len(prefix)}{error.hint}")

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

    def _show_progress(self, data: dict[str, object]) -> None:
        if self._bar is None or self._stage != data["stage"]:
            self.close()
            self._stage = str(data["stage"])
            # A row of numbers would fill a log file: without a terminal there is no bar.
            self._bar = tqdm(
                total=float(str(data["total"])),
                initial=float(str(data["done"])),
                desc=f"{STAGE_NAMES[self._stage]:15}",
                bar_format="{desc} {percentage:3.0f}%|{bar}| {n:.0f}/{total:.0f} " + str(data["unit"]) + "{postfix}",
                disable=None,
            )
        self._bar.set_postfix_str(_remaining(data["eta_seconds"]), refresh=False)
        self._bar.update(float(str(data["done"])) - self._bar.n)

    def _say(self, text: str) -> None:
        tqdm.write(text, file=sys.stderr)


def _remaining(seconds: object) -> str:
    return "" if seconds is None else f"{tqdm.format_interval(float(str(seconds)))} left"
