"""Source against result: a still under a wipe, and two videos that play in step. Drawn by javascript/rerender.js."""

from __future__ import annotations

import html
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rerender.files import digest
from rerender.ui import texts
from rerender.ui.pictures import data_uri

if TYPE_CHECKING:
    from rerender.planning import Plan

PROXY_QUALITY = 20


def wipe_html(before: np.ndarray, after: np.ndarray, caption: str) -> str:
    """Two pictures of one size, uint8 RGB, with a line between them that can be dragged."""
    return (
        f'<rerender-wipe before="{data_uri(before)}" after="{data_uri(after, quality=92)}" '
        f'caption="{_attribute(caption)}"></rerender-wipe>'
    )


def still_html(picture: np.ndarray, caption: str) -> str:
    """One picture, uint8 RGB."""
    words = _attribute(caption)
    shown = f'<img src="{data_uri(picture)}" alt="{words}">'
    return f'<figure class="rerender-still">{shown}<figcaption>{words}</figcaption></figure>'


def player_html(result: str, source: str = "", *, name: str) -> str:
    """The finished clip, and its source where there is one to show.

    Args:
        result, source: addresses in the page.
        name: file name for the download.
    """
    if result.endswith(".gif"):
        return f'<figure class="rerender-still"><img src="{_attribute(result)}" alt="{_attribute(name)}"></figure>'
    return (
        f'<rerender-player result="{_attribute(result)}" source="{_attribute(source)}" name="{_attribute(name)}">'
        f'<video src="{_attribute(result)}" controls loop playsinline></video></rerender-player>'
    )


def sheet_html(pictures: Mapping[str, np.ndarray]) -> str:
    """Pictures with their labels, side by side, as many as fit."""
    figures = "".join(still_html(picture, label) for label, picture in pictures.items())
    return f'<div class="rerender-sheet">{figures}</div>'


def empty_html(text: str = texts.NO_RESULT) -> str:
    """What stands in the place of pictures that are not there yet."""
    return f'<div class="rerender-empty">{html.escape(text)}</div>'


def source_proxy(plan: Plan, folder: Path) -> Path:
    """The frames of a run as a video that browsers play, with the result's size and times. Made once.

    Raises:
        UserError: the folder cannot be written to.
    """
    from rerender.video.read import FrameSource
    from rerender.video.write import open_writer

    geometry, selection = plan.geometry, plan.selection
    mark = digest([plan.source_hash, list(selection.indices), geometry.box, geometry.width, geometry.height])[:12]
    path = folder / f"source-{mark}.mp4"
    if path.exists():
        return path
    for outdated in folder.glob("source-*.mp4"):
        outdated.unlink(missing_ok=True)
    times, ends = selection.times, selection.length
    with (
        FrameSource(plan.info, selection, geometry) as source,
        open_writer(
            path, width=geometry.width, height=geometry.height, times=times, end=ends, quality=PROXY_QUALITY
        ) as writer,
    ):
        for (_, picture), time, duration in zip(source.read(), times, selection.durations, strict=True):
            writer.write(picture, time, duration)
    return path


def _attribute(text: str) -> str:
    return html.escape(text, quote=True)
