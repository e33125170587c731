"""Prompts that change along the clip: "0: a meadow; 40: a meadow in the snow"."""

from __future__ import annotations

import re

from rerender.errors import UserError

_ENTRY = re.compile(r"\s*(\d+)\s*:(.*)", re.DOTALL)
_START_OF_ENTRY = re.compile(r"(?:^|;)(?=\s*\d+\s*:)")


def parse_timeline(text: str) -> list[tuple[int, str]]:
    """Entries "frame: prompt" separated by semicolons → (frame, prompt), ascending by frame.

    A semicolon that no "number:" follows belongs to the prompt.

    Raises:
        UserError: text before the first entry, or two entries for one frame.
    """
    if not text.strip():
        return []
    entries: dict[int, str] = {}
    for part in filter(str.strip, _START_OF_ENTRY.split(text)):
        match = _ENTRY.fullmatch(part)
        if match is None:
            raise UserError(
                f"The setting prompt_timeline cannot be read at {part.strip()[:40]!r}.",
                hint='It is a list such as "0: a meadow; 40: a meadow in the snow", with frame numbers.',
            )
        frame = int(match[1])
        if frame in entries:
            raise UserError(f"The setting prompt_timeline has two prompts for frame {frame}.")
        entries[frame] = match[2].strip()
    return sorted(entries.items())


def prompt_at(timeline: list[tuple[int, str]], frame: int, default: str) -> str:
    """The prompt of the last entry at or before `frame`; `default` before the first one."""
    return next((prompt for start, prompt in reversed(timeline) if start <= frame), default)
