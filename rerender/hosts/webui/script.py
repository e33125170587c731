"""The script "Rerender A Video" of the img2img tab: that tab's prompts, seed, sampler and ControlNet units."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gradio as gr
from fastapi import HTTPException
from modules import scripts, shared
from modules.processing import Processed, fix_seed
from PIL import Image

from rerender.errors import Interrupted, RerenderError, UserError
from rerender.events import Event
from rerender.hosts.webui.controlnet import check_units
from rerender.hosts.webui.host import WebuiHost
from rerender.hosts.webui.session import stop_asked
from rerender.settings import Settings, make_settings, schema
from rerender.ui.api import Access, error_response
from rerender.ui.controls import Maker, left_out
from rerender.ui.groups import constraint_groups, further_groups, key_frame_group
from rerender.ui.labels import in_words
from rerender.ui.places import safe_name

TITLE = "Rerender A Video"
_STAGES = {"1st key frame": "first", "Key frames": "keys", "Propagation": "propagate", "All": "all"}
# What the img2img tab itself gives.
_OF_THE_TAB = (
    *("prompt", "negative_prompt", "sampler", "scheduler", "steps", "cfg_scale", "denoising_strength", "seed"),
    *("clip_skip", "short_side", "workers", "device"),
)


class RerenderScript(scripts.Script):
    """Generate runs the chosen stage; key frames come into the gallery."""

    def title(self) -> str:
        """Name in the list of scripts and in `script_name` of the API."""
        return TITLE

    def show(self, is_img2img: bool) -> bool:
        """Only in img2img."""
        return is_img2img

    def ui(self, is_img2img: bool) -> list[Any]:
        """Video, stage and all settings that the tab does not have."""
        file = gr.File(label="Video", file_types=["video", ".gif"], elem_id="rerender_script_video", height=110)
        path = gr.Textbox(label="Or a path on the server", elem_id="rerender_script_path")
        stage = gr.Radio(list(_STAGES), value="1st key frame", label="Run", elem_id="rerender_script_stage")
        maker = Maker(prefix="rerender_script", without=left_out(_OF_THE_TAB))
        key_frame_group(maker)
        constraint_groups(maker)
        further_groups(maker, lambda mask: _access().keep_mask(mask))
        made = maker.in_order()
        self.infotext_fields = [(component, _pasted(name)) for name, component in made.items()]
        return [file, path, stage, *made.values()]

    def run(self, p: Any, *args: Any) -> Processed:
        """Run a stage.

        Args:
            p: the tab's processing object; each key frame is rendered with it, but for picture and size.
            args: the values of `ui`; or, by API, one dict: video, stage and any settings.

        Raises:
            RuntimeError: what a user did wrong, in words for the page; by API an HTTPException.
        """
        try:
            video, stage, values = self._asked(args)
            values = _access().settings(values)
            fix_seed(p)
            settings = make_settings({**_from_tab(p), **values, "workers": 1})
            return _run(p, video, stage, settings)
        except RerenderError as error:
            text = f"{error.message} {error.hint}".strip()
            if getattr(p, "is_api", False):
                raise HTTPException(error_response(error).status_code, text) from error
            raise RuntimeError(in_words(text)) from error

    def _asked(self, args: Sequence[Any]) -> tuple[Path, str, dict[str, Any]]:
        if args and isinstance(args[0], dict):
            values = dict(args[0])
            return _video(None, str(values.pop("video", ""))), str(values.pop("stage", "all")), values
        names = [name for name in schema() if name not in left_out(_OF_THE_TAB)]
        if len(args) != 3 + len(names):
            raise UserError(
                f"The script {TITLE!r} takes {3 + len(names)} values, not {len(args)}.",
                hint='By API give one dict: [{"video": ..., "stage": ..., settings ...}].',
            )
        return _video(args[0], args[1]), _STAGES.get(args[2], args[2]), dict(zip(names, args[3:], strict=True))


def _infotext_name(name: str) -> str:
    return f"Rerender {name}"


def _pasted(name: str) -> Callable[[dict[str, Any]], Any]:
    """What a pasted infotext says of a setting: texts of this script leave out what has its default."""
    default = schema()[name].default

    def value(parameters: dict[str, Any]) -> Any:
        return parameters.get(_infotext_name(name), default) if parameters.get("Script") == TITLE else None

    return value


def _from_tab(p: Any) -> dict[str, Any]:
    return {
        "prompt": p.prompt,
        "negative_prompt": p.negative_prompt,
        "sampler": p.sampler_name,
        "scheduler": p.scheduler or "Automatic",
        "steps": p.steps,
        "cfg_scale": p.cfg_scale,
        "denoising_strength": p.denoising_strength,
        "seed": int(p.seed),
        "clip_skip": int(shared.opts.CLIP_stop_at_last_layers),
        "short_side": min(p.width, p.height),
    }


def _access() -> Access:
    from rerender.hosts.webui.extension import access  # which imports more than a script that is only listed needs

    return access()


def _video(file: Any, path: str) -> Path:
    if file is not None:
        return Path(file.name)
    if path and path.strip():
        return _access().video(path.strip().strip('"'))
    raise UserError("No video is chosen.", hint="Upload one, or name a path on the server.")


def _run(p: Any, video: Path, stage: str, settings: Settings) -> Processed:
    from rerender.hosts.webui.extension import root
    from rerender.pipeline import RUN_STAGES, prepare, run_stage
    from rerender.project import Project
    from rerender.video.read import source_hash

    if stage not in RUN_STAGES:
        raise UserError(f"There is no stage {stage!r}.", hint=f"Known: {', '.join(RUN_STAGES)}.")
    if settings.attention:
        check_units(p)
    host, infotexts = WebuiHost(p), {}

    def emit(event: Event) -> None:
        if event.kind == "plan":
            shared.state.job_count = int(event.data["key_frames"])
        if event.kind == "progress":
            shared.state.textinfo = "{stage}: {done:g} of {total:g} {unit}".format(**event.data)
        if event.kind == "key_frame":
            infotexts[int(event.data["frame"])] = host.infotext

    p.extra_generation_params["Script"] = TITLE
    p.extra_generation_params.update(_changed(settings))
    # One folder a source: pressing Generate again goes on with what is there.
    name = f"{Path(safe_name(video.name)).stem}-{hashlib.sha256(source_hash(video).encode()).hexdigest()[:8]}"
    folder = root() / "img2img" / name
    with Project(folder / "project") as project:
        run = prepare(project, video, settings, host=host, emit=emit, cancelled=stop_asked)
        try:
            run_stage(run, stage, folder / "result.mp4")
        except Interrupted:
            p.comment("Interrupted; what is finished is kept, and Generate goes on from there.")
        for text in host.comments:
            p.comment(text)
        keys = [key for key in run.plan.keys if project.key(key) is not None]
        pictures = [Image.fromarray(project.key_picture(key)) for key in keys]
    texts = [infotexts.get(key, "") for key in keys]
    for picture, text in zip(pictures, texts, strict=True):
        if text:
            picture.info["parameters"] = text
    p.comment(f"Project folder: {folder}")
    return Processed(p, pictures, int(settings.seed), texts[0] if texts else "", infotexts=texts or [""])


def _changed(settings: Settings) -> dict[str, Any]:
    """Settings that are not the defaults and not the tab's own, for the infotext."""
    return {
        _infotext_name(name): getattr(settings, name)
        for name, info in schema().items()
        # The mask is a path of this machine, which a picture passed on should not tell.
        if name not in (*_OF_THE_TAB, "mask") and getattr(settings, name) != info.default
    }
