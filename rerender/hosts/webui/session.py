"""The webui, held for one run: its queue lock and its job state, so that other requests wait their turn."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from modules import shared
from modules.call_queue import queue_lock

from rerender.host import Host
from rerender.hosts.webui.controlnet import check_units
from rerender.hosts.webui.host import WebuiHost
from rerender.hosts.webui.processing import new_template
from rerender.ui.jobs import Job


def stop_asked() -> bool:
    """Whether one of the webui's own buttons asked to stop."""
    state = shared.state
    return bool(state.interrupted or state.skipped or state.stopping_generation)


@contextmanager
def webui_session(job: Job, cancelled: Callable[[], bool]) -> Iterator[tuple[Host, Callable[[], bool]]]:
    """Hold the webui for the key frames of a job; an `OpenHost` of `rerender.ui.jobs`.

    Raises:
        UserError: the job's options or the loaded checkpoint do not fit.
    """
    with queue_lock:
        shared.state.begin(job=f"rerender {job.id}")
        try:
            template = new_template(job.options.get("alwayson_scripts"), styles=list(job.options.get("styles", [])))
            if job.settings.get("attention"):
                check_units(template)
            yield WebuiHost(template), lambda: cancelled() or stop_asked()
        finally:
            shared.state.end()
            shared.total_tqdm.clear()
