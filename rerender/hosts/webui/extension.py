"""What the webui is told: the settings page, the routes and the tab."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr
from modules import paths, script_callbacks, sd_samplers, sd_schedulers, shared, ui

from rerender.errors import RerenderError
from rerender.hosts.webui.access import dependencies
from rerender.hosts.webui.session import webui_session
from rerender.hosts.webui.support import check_model, check_webui
from rerender.presets import PresetShelf
from rerender.ui.api import Access, make_router
from rerender.ui.jobs import Jobs
from rerender.ui.panel import Surroundings, build_panel

_SECTION = ("rerender", "Rerender A Video")
_jobs: Jobs | None = None
_lock = threading.Lock()


def register() -> None:
    """Add the callbacks; the webui clears them before it runs its scripts again."""
    script_callbacks.on_ui_settings(add_settings)
    script_callbacks.on_app_started(add_routes)
    script_callbacks.on_ui_tabs(make_tab)


def add_settings() -> None:
    """The settings page. An API client must not change what protects the server, so all but one are restricted."""

    def presets() -> dict[str, Any]:
        return {"choices": PresetShelf(root() / "presets").names()}

    options = {
        "rerender_preset": shared.OptionInfo(
            "Balanced",
            "Preset that jobs by API start from",
            gr.Dropdown,
            presets,
            section=_SECTION,
        ).info("The controls of the tab and of the script keep their own defaults: Settings, Defaults"),
        "rerender_folder": shared.OptionInfo(
            "", "Folder of jobs and results (empty: outputs/rerender)", section=_SECTION
        ).needs_restart(),
        "rerender_video_folders": shared.OptionInfo(
            "", "Folders whose videos may be named by path, separated by commas", section=_SECTION
        ),
        "rerender_upload_limit_mb": _number(2048, "Largest upload by API, in MB"),
        "rerender_queue_limit": _number(0, "Most jobs that may wait or run at once (0: no limit)"),
        "rerender_limit_frames": _number(0, "Most frames of a run, whatever it asks for (0: no limit)"),
        "rerender_limit_key_frames": _number(0, "Most key frames of a run, whatever it asks for (0: no limit)"),
        "rerender_limit_long_side": _number(0, "Longest side of rendered frames, in pixels (0: no limit)"),
    }
    for name, info in options.items():
        info.restrict_api = name != "rerender_preset"
        shared.opts.add_option(name, info)
    shared.opts.restricted_opts.update(name for name in options if name != "rerender_preset")


def _number(default: int, label: str) -> Any:
    return shared.OptionInfo(default, label, gr.Number, {"precision": 0}, section=_SECTION)


def _limit(name: str) -> int:
    return int(shared.opts.data.get(f"rerender_{name}") or 0)


def root() -> Path:
    """The folder of all jobs."""
    named = shared.opts.data.get("rerender_folder", "")
    return Path(named) if named else Path(paths.data_path) / "outputs" / "rerender"


def jobs() -> Jobs:
    """The jobs of this process; made on first use, so that starting the webui costs nothing."""
    global _jobs
    with _lock:
        if _jobs is None:
            _jobs = Jobs(root() / "jobs", webui_session, one_process=True, queue_limit=lambda: _limit("queue_limit"))
        return _jobs


def access() -> Access:
    """What requests may reach, by the settings page."""
    return Access(
        uploads=root() / "uploads",
        folders=_video_folders,
        upload_limit=lambda: int(shared.opts.data.get("rerender_upload_limit_mb", 2048)) * 2**20,
        check_host=check_host,
        caps=lambda: {name: _limit(name) for name in ("limit_frames", "limit_key_frames", "limit_long_side")},
        default_preset=lambda: str(shared.opts.data.get("rerender_preset", "")),
    )


def check_host() -> None:
    """Refuse what the method cannot work with; loads no checkpoint.

    Raises:
        Unsupported: another host, or a checkpoint without the U-Net of the original code.
    """
    check_webui()
    from modules.sd_models import model_data

    if model_data.sd_model is not None:
        check_model(model_data.sd_model)


def _video_folders() -> list[Path]:
    if shared.cmd_opts.hide_ui_dir_config:
        return []
    named = str(shared.opts.data.get("rerender_video_folders", "")).split(",")
    return [Path(folder.strip()) for folder in named if folder.strip()]


def add_routes(demo: Any, app: Any) -> None:
    """Mount /rerender/v1, and let jobs go on that were waiting when the webui was ended."""
    app.include_router(make_router(jobs(), access(), dependencies(app)))


def make_tab() -> list[tuple[Any, str, str]]:
    """The tab, or what it says where the method cannot work."""
    with gr.Blocks(analytics_enabled=False) as page:
        try:
            check_webui()
        except RerenderError as error:
            gr.HTML(f"<p>{error.message} {error.hint}</p>")
        else:
            build_panel(surroundings())
    return [(page, "Rerender", "rerender")]


def surroundings() -> Surroundings:
    """What the panel shows of this webui."""
    return Surroundings(
        jobs=jobs,
        access=access(),
        samplers=[sampler.name for sampler in sd_samplers.visible_samplers() if sampler.name != "DPM adaptive"],
        schedulers=[scheduler.label for scheduler in sd_schedulers.schedulers],
        paths_allowed=not shared.cmd_opts.hide_ui_dir_config,
        styles=lambda: list(shared.prompt_styles.styles),
        apply_styles=apply_styles,
        count_tokens=(ui.update_token_counter, ui.update_negative_prompt_token_counter),
        send=_send_to_img2img,
    )


def apply_styles(prompt: str, negative_prompt: str, names: Sequence[str]) -> tuple[str, str]:
    """Both prompts as the webui renders them with styles; its infotext has them like that, too."""
    styles = shared.prompt_styles
    return (
        styles.apply_styles_to_prompt(prompt, names),
        styles.apply_negative_styles_to_prompt(negative_prompt, names),
    )


def _send_to_img2img(button: Any, picture: Any, parameters: Any) -> None:
    """Let the webui itself connect the button, as it does for its own tabs, once all of them are built."""
    from modules import infotext_utils

    binding = infotext_utils.ParamBinding(
        paste_button=button, tabname="img2img", source_image_component=picture, source_text_component=parameters
    )
    infotext_utils.register_paste_params_button(binding)
