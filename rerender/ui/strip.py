"""The strip of key frames: how it is drawn, and what its buttons change."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rerender.events import counted
from rerender.files import digest
from rerender.ui import texts

if TYPE_CHECKING:
    from rerender.planning import Plan

Edit = Literal["add", "move", "remove"]


def edited_keys(plan: Plan, edit: Edit, *, selected: int, frame: int) -> tuple[int, ...]:
    """Key frames after an edit, by frame number.

    Args:
        selected: the key frame to move or remove.
        frame: the frame to add, or to move to; the nearest one that is used is taken.
    """
    keys, target = set(plan.keys), min(plan.frames, key=lambda used: abs(used - frame))
    if edit in ("move", "remove"):
        keys.discard(selected)
    if edit in ("add", "move"):
        keys.add(target)
    return tuple(sorted(keys))


def listed(keys: Iterable[int]) -> str:
    """Key frames as the setting key_frames takes them."""
    return ", ".join(map(str, keys))


def strip_html(plan: Plan, pictures: Mapping[int, str], *, note: str = "", busy: bool = False) -> str:
    """The strip of a plan.

    Args:
        pictures: data addresses by frame number; a key frame without one gets an empty place.
        busy: more is to come.
    """
    anchors, cuts = {shot[0] for shot in plan.shots}, set(plan.cuts)
    tiles = "".join(_tile(frame, pictures.get(frame, ""), frame in anchors, frame in cuts) for frame in plan.keys)
    shots = f", {len(plan.shots)} shots" if len(plan.shots) > 1 else ""
    head = f"{counted(len(plan.keys), 'key frame')} of {counted(len(plan.frames), 'frame')}{shots}"
    words = "".join(f'<span class="rerender-note">{html.escape(text)}</span>' for text in (note,) if text)
    spinner = f'<span class="rerender-busy">{texts.LOOKING}</span>' if busy else ""
    return (
        f'<div class="rerender-strip-head"><span>{head}</span>{words}{spinner}</div>'
        f'<rerender-strip data-clip="{clip_mark(plan.info.path)}">{tiles}</rerender-strip>'
    )


def _tile(frame: int, picture: str, is_anchor: bool, is_cut: bool) -> str:
    badge = '<i class="cut">cut</i>' if is_cut else '<i class="anchor">anchor</i>' if is_anchor else ""
    image = f'<img src="{picture}" alt="frame {frame}" draggable="false">' if picture else "<b></b>"
    title = "A new shot begins here" if is_cut else "First of its shot: the others follow its look" if is_anchor else ""
    return f'<button type="button" data-frame="{frame}" title="{title}">{image}{badge}<span>{frame}</span></button>'


def clip_mark(video: Path) -> str:
    """Tells the page whether a strip and a job are of the same clip, without a path of this machine."""
    return digest([str(video)])[:12]


def empty_strip(text: str = texts.NO_CLIP) -> str:
    """What stands in the strip's place before a clip is chosen."""
    return f'<div class="rerender-empty">{html.escape(text)}</div>'
