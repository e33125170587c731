"""The clip that is chosen: its facts, and the strip of key frames that a run would render."""

from __future__ import annotations

import html
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from rerender.errors import Interrupted, RerenderError, UserError
from rerender.settings import Settings, make_settings, schema
from rerender.ui import texts
from rerender.ui.clips import Clips
from rerender.ui.newest import Newest
from rerender.ui.places import kept_upload, without_folders
from rerender.ui.status import error_html
from rerender.ui.strip import Edit, edited_keys, empty_strip, listed, strip_html
from rerender.ui.surroundings import Surroundings

if TYPE_CHECKING:  # the libraries of video and flow are left for the first use: a webui that starts must not wait
    from rerender.planning import Plan
    from rerender.video.probe import VideoInfo

REDRAW_SECONDS = 0.4
GATHER_SECONDS = 0.1
"""A former project changes many controls at once, each of which asks for the strip; only the last one is answered."""


class ClipView:
    """Handlers about the clip.

    Args:
        names: of the settings whose values the handlers get, in order.
    """

    def __init__(self, around: Surroundings, clips: Clips, names: Sequence[str]) -> None:
        self.around, self.clips, self.names = around, clips, list(names)

    def video(self, file: Any, path: str, job_id: str) -> Path | None:
        """The clip that is chosen: an upload, a path, or that of the project.

        Raises:
            UserError: a path that may not be named.
        """
        access = self.around.access
        if file is not None:
            return kept_upload(Path(file.name), access.uploads)
        if path and path.strip():
            return access.video(path.strip().strip('"'))
        jobs = self.around.jobs()
        known = next((job for job in jobs.list() if job.id == job_id), None)
        return Path(known.video) if known is not None and Path(known.video).exists() else None

    def asked(self, values: Sequence[Any]) -> dict[str, Any]:
        """The settings on the page by name; a number that was deleted is its default.

        Raises:
            UserError: a mask that may not be named.
        """
        infos = schema()
        given = zip(self.names, values, strict=True)
        asked = {name: infos[name].default if value is None else value for name, value in given}
        return self.around.access.settings(asked)

    def settings(self, values: Sequence[Any]) -> Settings:
        """The settings on the page.

        Raises:
            UserError: a value that is refused, or a mask that may not be named.
        """
        return make_settings(self.asked(values))

    def plan(self, file: Any, path: str, job_id: str, values: Sequence[Any]) -> Plan:
        """What a run would do.

        Raises:
            UserError: no clip is chosen, or something does not fit it.
        """
        video = self.video(file, path, job_id)
        if video is None:
            raise UserError("No video is chosen.", hint="Upload one, or name a path on the server.")
        return self.clips.plan(video, self.settings(values), lambda: False)

    def show(self, newest: Newest, file: Any, path: str, job_id: str, *values: Any) -> Iterator[list[Any]]:
        """Facts, strip and the slider of frames; the strip fills as pictures are decoded."""
        nothing = [gr.update(), gr.update(), gr.update()]
        with newest.answering("strip") as outdated:
            yield nothing
            time.sleep(GATHER_SECONDS)
            if not outdated():
                yield from self._shown(file, path, job_id, values, outdated)
            if outdated():
                yield nothing  # see `Newest`

    def _shown(
        self, file: Any, path: str, job_id: str, values: Sequence[Any], outdated: Callable[[], bool]
    ) -> Iterator[list[Any]]:
        named: list[Path | str | None] = []
        try:
            video = self.video(file, path, job_id)
            if video is None:
                yield ["", empty_strip(), gr.update()]
                return
            named.append(video)
            info = self.clips.info(video)
            slider = gr.update(maximum=max(1, info.frames - 1))
            yield [facts_html(info), gr.update(), slider]
            settings = self.settings(values)
            named.append(settings.mask)
            for strip in self._strips(video, settings, outdated):
                yield [gr.update(), strip, gr.update()]
        except Interrupted:
            return
        except RerenderError as error:
            yield [gr.update(), error_html(without_folders(error.message, *named), error.hint), gr.update()]

    def _strips(self, video: Path, settings: Settings, outdated: Callable[[], bool]) -> Iterator[str]:
        if not self.clips.is_known(video, settings):
            quick = self.clips.quick_plan(video, settings)
            if quick is None:
                yield empty_strip(texts.LOOKING)
            else:
                yield from self._filling(quick, outdated, busy=True)
        yield from self._filling(self.clips.plan(video, settings, outdated), outdated)

    def _filling(self, plan: Plan, outdated: Callable[[], bool], *, busy: bool = False) -> Iterator[str]:
        pictures: dict[int, str] = {}
        drawn = time.monotonic()
        for frame, picture in self.clips.thumbnails(plan, plan.keys):
            if outdated():
                raise Interrupted
            pictures[frame] = picture
            if time.monotonic() - drawn > REDRAW_SECONDS:
                drawn = time.monotonic()
                yield strip_html(plan, pictures, busy=busy)
        yield strip_html(plan, pictures, busy=busy)

    def look_at(self, newest: Newest, frame: float, file: Any, path: str, job_id: str, *values: Any) -> str:
        """A picture of the frame under the slider."""
        try:
            with newest.answering("frame"):
                plan = self.plan(file, path, job_id, values)
                frame = min(max(0, int(frame or 0)), plan.info.frames - 1)
                (found,) = self.clips.thumbnails(plan, [frame])
        except RerenderError:
            return ""
        return f'<figure class="rerender-look"><img src="{found[1]}" alt=""><figcaption>{frame}</figcaption></figure>'

    def editor(self, edit: Edit) -> Callable[..., list[Any]]:
        """The handler of a button that edits the strip."""

        def change(selected: float, frame: float, mode: str, file: Any, path: str, job_id: str, *values: Any) -> Any:
            """Returns key_mode, key_frames, the mode to go back to, a message, the selected frame."""
            try:
                plan = self.plan(file, path, job_id, values)
            except RerenderError as error:
                return [gr.update(), gr.update(), gr.update(), error_html(error.message, error.hint), gr.update()]
            former = self.settings(values).key_mode
            chosen, target = int(selected or 0), int(frame or 0)
            keys = edited_keys(plan, edit, selected=chosen, frame=target)
            return [
                "listed",
                listed(keys),
                mode if former == "listed" else former,
                _message(plan, edit, chosen),
                gr.update() if edit == "remove" else target,
            ]

        return change

    def automatic(self, mode: str) -> list[Any]:
        """Let the program choose key frames again. Returns key_mode, key_frames, a message."""
        return [mode or "uniform", "", ""]


def facts_html(info: VideoInfo) -> str:
    """Name, size, length, rate and sound of a clip."""
    rate = float(info.rate)
    facts = [
        html.escape(info.path.name),
        f"{info.width}×{info.height}, {info.frames} frames",
        f"{float(info.duration):.1f} s at {rate:.4g} frames a second",
        *(["uneven frame rate"] if info.is_variable else []),
        "with sound" if info.audio else "no sound",
    ]
    return '<div class="rerender-clip">' + "".join(f"<span>{fact}</span>" for fact in facts) + "</div>"


def _message(plan: Plan, edit: Edit, selected: int) -> str:
    if edit == "add":
        return ""
    if selected not in plan.keys:
        return error_html(f"Frame {selected} is no key frame.", "Select one in the strip.")
    if any(selected in (shot[0], shot[-1]) for shot in plan.shots):
        return f'<div class="rerender-note">{texts.STAYS.format(frame=selected)}</div>'
    return ""
