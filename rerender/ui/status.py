"""What is said about a job: state, progress, the queue, errors."""

from __future__ import annotations

import html
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rerender.events import counted
from rerender.ui import texts
from rerender.ui.job import Job
from rerender.ui.labels import in_words
from rerender.ui.pictures import data_uri
from rerender.ui.strip import clip_mark

_STATES = {
    "queued": "waiting",
    "running": "running",
    "done": "done",
    "failed": "failed",
    "interrupted": "interrupted",
}
_PASSING = ("Looking for scene cuts", "Measuring the motion")
_STAGES = {"first": "1st key frame", "keys": "Key frames", "propagate": "Propagation", "output": "Writing the file"}


def status_html(job: Job, queue: Sequence[Job] = (), preview: np.ndarray | None = None) -> str:
    """A job's card.

    Args:
        queue: the jobs that run or wait, in their order.
        preview: of the step at work, small, uint8 RGB (h, w, 3).
    """
    others = _frames(job) + _queue(job, queue)
    if job.state == "failed":
        return error_html(job.error, job.hint) + others
    head = f'<b>{html.escape(job.name)}</b><span class="rerender-state {job.state}">{_STATES[job.state]}</span>'
    head += f'<span class="rerender-id" title="{texts.JOB_ID}">{job.id}</span>'
    lines = [f'<div class="rerender-head">{head}</div>', f'<div class="rerender-facts">{_facts(job)}</div>']
    if job.state == "running":
        lines.append(_progress(job))
    if job.state == "interrupted":
        lines.append('<div class="rerender-facts">What is finished is kept; the same button goes on.</div>')
    lines += [f'<div class="rerender-note">{html.escape(in_words(note))}</div>' for note in _notes(job)]
    shown = f'<img class="rerender-step" alt="preview" src="{data_uri(preview)}">' if preview is not None else ""
    return f'<div class="rerender-card"><div>{"".join(lines)}</div>{shown}</div>{others}'


def error_html(message: str, hint: str = "") -> str:
    """A card for something that went wrong."""
    message, hint = (html.escape(in_words(text)) for text in (message, hint))
    more = f"<span>{hint}</span>" if hint else ""
    return f'<div class="rerender-card error" role="alert"><div><b>{message}</b>{more}</div></div>'


def hint_html(text: str) -> str:
    """A card for a page on which nothing has happened yet."""
    return f'<div class="rerender-card hint"><div>{html.escape(text)}</div></div>'


def project_label(job: Job) -> str:
    """A job in a list: name, date, state, and the end of its id."""
    when = time.strftime("%d %b %Y %H:%M", time.localtime(job.created))
    return f"{job.name} · {when} · {_STATES[job.state]}{project_mark(job)}"


def project_mark(job: Job) -> str:
    """What a job's label ends with, whatever its state."""
    return f" · {job.id[-6:]}"


def _facts(job: Job) -> str:
    if not job.plan:
        return texts.LOOKING if job.state == "running" else ""
    shots = f", {job.plan['shots']} shots" if job.plan.get("shots", 1) > 1 else ""
    keys = counted(job.plan["key_frames"], "key frame")
    size = f"{counted(job.plan['frames'], 'frame')} at {job.plan['width']}×{job.plan['height']}"
    return f"{size}, {keys}{shots}, seed {job.settings.get('seed')}"


def _frames(job: Job) -> str:
    """For the strip: which key frames are rendered, and which one is being rendered (javascript/rerender.js)."""
    at = "" if job.rendering is None else job.rendering
    rendered = " ".join(map(str, job.key_frames))
    return (
        f'<i class="rerender-frames" hidden data-clip="{clip_mark(Path(job.video))}" '
        f'data-rendered="{rendered}" data-rendering="{at}"></i>'
    )


def _notes(job: Job) -> list[str]:
    """What is worth saying: of the passes over the clip only while they are made."""
    lasting = [note for note in job.notes if note not in _PASSING]
    return (lasting if job.progress or not job.active else list(job.notes))[-3:]


def _progress(job: Job) -> str:
    progress = job.progress
    if not progress:
        return _bar(0.0)
    done, total = float(progress.get("done", 0)), max(float(progress.get("total", 1)), 1e-9)
    stage = str(progress.get("stage", ""))
    far = {"first": f"{100 * done / total:.0f} %", "keys": f"{done:.1f} of {total:g}"}
    at = f", frame {job.rendering}" if job.rendering is not None else ""
    counted = f"{done:.0f} of {total:g} {progress.get('unit', '')}"
    text = f"{_STAGES.get(stage, '')}: {far.get(stage, counted)}{at}"
    left = f"<span>{_time_left(progress)}</span>"
    return f'{_bar(min(1.0, done / total))}<div class="rerender-bar-text"><span>{html.escape(text)}</span>{left}</div>'


def _bar(share: float) -> str:
    percent = f"{100 * share:.1f}"
    return (
        f'<div class="rerender-bar" role="progressbar" aria-valuenow="{percent}" aria-valuemin="0" aria-valuemax="100">'
        f'<i style="width:{percent}%"></i></div>'
    )


def _time_left(progress: dict[str, Any]) -> str:
    seconds = progress.get("eta_seconds")
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    hours = minutes // 60
    if hours:
        return f"{hours} h {minutes % 60:02d} min left"
    return f"{minutes} min {rest:02d} s left" if minutes else f"{rest} s left"


def _queue(shown: Job, queue: Sequence[Job]) -> str:
    others = [job for job in queue if job.id != shown.id]
    if not others:
        return ""
    items = "".join(f"<li>{html.escape(job.name)} <i>{_STATES[job.state]}</i></li>" for job in others)
    return f'<div class="rerender-queue"><b>Queue</b><ol>{items}</ol></div>'
