"""Earlier versions of the key frame that is selected: shown with their seeds, and brought back."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import gradio as gr
from PIL import Image

from rerender.errors import RerenderError, UserError
from rerender.files import read_picture
from rerender.history import Version
from rerender.recipes import differences_in_words
from rerender.settings import schema
from rerender.ui import texts
from rerender.ui.labels import label
from rerender.ui.places import Missing
from rerender.ui.run_view import gallery
from rerender.ui.status import error_html, status_html
from rerender.ui.surroundings import Surroundings

MOST = 24
"""Versions that are shown; each is a picture that the page has to load."""
THUMBNAIL = 256


class VersionView:
    """Handlers about earlier versions."""

    def __init__(self, around: Surroundings) -> None:
        self.around = around

    def show(self, job_id: str, frame: int, chosen: int) -> list[Any]:
        """Whether there are any, their pictures, a note, their names in this order, and the place of the chosen one.

        gradio's gallery keeps the place that is marked in it, unless it has no longer so many; so does the choice.
        """
        versions = self._known(job_id, frame)
        shown = _pictures(versions[:MOST])
        note = texts.VERSIONS_INFO
        if len(versions) > MOST:
            note += " " + texts.NEWEST_VERSIONS.format(shown=MOST, all=len(versions))
        pictures = [(picture, _caption(version)) for version, picture in shown]
        note = f'<div class="rerender-note">{note}</div>'
        names = tuple(version.name for version, _ in shown)
        return [gr.update(visible=bool(shown)), pictures, note, names, chosen if chosen < len(names) else -1]

    def pick(self, event: gr.SelectData) -> int:
        """The place of the version that was clicked."""
        return int(event.index)

    def bring_back(self, job_id: str, frame: float, names: Sequence[str], chosen: int) -> list[Any]:
        """Make the chosen version the key frame again.

        Returns:
            The job's card, the gallery of key frames; the gallery of versions emptied, so that nothing is marked in it
            when it is filled again, and that nothing is chosen.
        """
        unchanged = [gr.update(), gr.update(), gr.update()]
        jobs = self.around.jobs()
        try:
            if not 0 <= chosen < len(names):
                raise UserError(texts.NO_CHOICE, hint=texts.CHOOSE_VERSION)
            job = jobs.bring_back(job_id, int(frame or 0), names[chosen])
        except RerenderError as error:
            if job_id in {job.id for job in jobs.at_work()}:  # its card is drawn anew all the time
                jobs.tell(job_id, f"{error.message} {error.hint}")
                return [gr.update(), *unchanged]
            return [error_html(error.message, error.hint), *unchanged]
        return [status_html(job, jobs.at_work()), gallery(jobs, job), [], -1]

    def _known(self, job_id: str, frame: int) -> Sequence[Version]:
        try:
            return self.around.jobs().versions(job_id, frame)
        except (Missing, RerenderError):
            return []


def _pictures(versions: Sequence[Version]) -> list[tuple[Version, Image.Image]]:
    """Those that can be read, small."""
    found = []
    for version in versions:
        try:
            picture = Image.fromarray(read_picture(version.path))
        except RerenderError:
            continue
        picture.thumbnail((THUMBNAIL, THUMBNAIL))
        found.append((version, picture))
    return found


def _caption(version: Version) -> str:
    made, now = time.localtime(version.time), time.localtime()
    when = time.strftime("%H:%M" if made[:3] == now[:3] else "%d %b %H:%M", made)
    edited, differs = "edited" if version.edited else "", differences_in_words(version.differs, _label)
    return ", ".join(filter(None, [version.seed_in_words, when, edited, differs]))


def _label(name: str) -> str:
    return label(schema()[name]) if name in schema() else name
