"""The key frame that is selected: beside its source, and what it was made from."""

from __future__ import annotations

from typing import Any

import gradio as gr
import numpy as np
from PIL import Image

from rerender.errors import RerenderError
from rerender.files import read_picture
from rerender.settings import make_settings
from rerender.ui import texts
from rerender.ui.clip_view import ClipView
from rerender.ui.compare import empty_html, sheet_html, still_html, wipe_html
from rerender.ui.infotext import Style, infotext
from rerender.ui.job import Job
from rerender.ui.newest import Newest
from rerender.ui.places import Missing
from rerender.ui.status import error_html
from rerender.ui.surroundings import Surroundings
from rerender.ui.version_view import VersionView


class FrameView:
    """Handlers about the selected key frame."""

    def __init__(self, around: Surroundings, clip: ClipView) -> None:
        self.around, self.clip = around, clip
        self.versions = VersionView(around)

    def pick(self, job_id: str, event: gr.SelectData) -> Any:
        """The frame number of a picture in the gallery."""
        frames = self.around.jobs().get(job_id).key_frames if job_id else ()
        return frames[event.index] if event.index < len(frames) else gr.update()

    def select(
        self, newest: Newest, chosen: int, frame: float, file: Any, path: str, job_id: str, *values: Any
    ) -> list[Any]:
        """The comparison; picture and generation parameters, which can be sent on, and whether they can.

        Then its earlier versions, see `VersionView.show`.
        """
        number = int(frame or 0)
        with newest.answering("selected"):
            if not self._is_of_the_clip(job_id, file, path):
                job_id = ""
            result = self._result(job_id, number)
            try:
                plan = self.clip.plan(file, path, job_id, values)
                number = min(max(0, number), plan.info.frames - 1)
                source = self.clip.clips.frame(plan, number)
            except RerenderError:
                source = None
            versions = self.versions.show(job_id, number, chosen)
        picture = None if result is None else Image.fromarray(result)
        sendable = gr.update(interactive=picture is not None)
        return [_comparison(source, result, number), picture, self._parameters(job_id, number), sendable, *versions]

    def inspect(self, job_id: str, frame: float) -> str:
        """Flow, occlusion masks and fusion target of a key frame."""
        number = int(frame or 0)
        if self._result(job_id, number) is None:
            return empty_html(texts.NO_INSPECTION)
        try:
            from rerender.inspection import caption, inspect_key_frame

            pictures = inspect_key_frame(self.around.jobs().folder(job_id) / "project", number)
            return sheet_html({caption(name): picture for name, picture in pictures.items()})
        except RerenderError as error:
            return error_html(error.message, error.hint)

    def _parameters(self, job_id: str, frame: int) -> str:
        jobs = self.around.jobs()
        try:
            job = jobs.get(job_id)
            return infotext(make_settings(job.settings), frame, jobs.seed(job_id, frame), self._style(job))
        except RerenderError:
            return ""

    def _style(self, job: Job) -> Style | None:
        apply, names = self.around.apply_styles, job.options.get("styles")
        return None if apply is None or not names else lambda prompt, negative: apply(prompt, negative, names)

    def _is_of_the_clip(self, job_id: str, file: Any, path: str) -> bool:
        """Whether the job that is shown is of the clip that is chosen: another one may be chosen meanwhile."""
        try:
            video = self.clip.video(file, path, job_id)
            return video is None or str(video) == self.around.jobs().get(job_id).video
        except RerenderError:
            return False

    def _result(self, job_id: str, frame: int) -> np.ndarray | None:
        try:
            return read_picture(self.around.jobs().key_path(job_id, frame))
        except (Missing, RerenderError):
            return None


def _comparison(source: np.ndarray | None, result: np.ndarray | None, frame: int) -> str:
    if source is None and result is None:
        return empty_html(texts.NO_KEYS)
    if source is None or result is None:
        only = result if source is None else source
        assert only is not None
        return still_html(only, f"frame {frame}" + ("" if source is None else ", not rendered yet"))
    return wipe_html(source, result, f"frame {frame}")
