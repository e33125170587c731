"""The panel without a webui: a page of its own, on the standalone host."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape
from pathlib import Path
from typing import Any

from rerender.errors import UserError
from rerender.host import Host
from rerender.ui.jobs import Job, Jobs

_WIDE = "\n.gradio-container { max-width: 1700px !important; }\n"


def make_app(
    checkpoint: Path,
    root: Path,
    *,
    vae: Path | None = None,
    lora_dir: Path | None = None,
    one_process: bool = False,
) -> Any:
    """The FastAPI application: the panel at /, the API at /rerender/v1.

    Args:
        checkpoint: opened when the first key frame is rendered.
        root: folder of jobs and uploads.
        one_process: propagate without worker processes.

    Raises:
        UserError: gradio 3.41 is not installed, or the checkpoint does not exist.
    """
    try:
        import gradio as gr
        from fastapi import FastAPI

        from rerender.ui.api import Access, make_router
        from rerender.ui.panel import Surroundings, build_panel
    except ImportError as error:
        raise UserError(f"{error.name} is not installed.", hint="pip install -r requirements/panel.txt") from error
    from rerender.hosts.standalone.samplers import SAMPLERS
    from rerender.hosts.standalone.schedules import SCHEDULES

    if not checkpoint.is_file():
        raise UserError(f"The checkpoint {checkpoint} does not exist.", hint="Check the path.")
    jobs = Jobs(root / "jobs", _opener(checkpoint, vae, lora_dir), one_process=one_process)
    # Whoever serves the page on this machine may name any file of it: the page is only served to this machine.
    access = Access(uploads=root / "uploads", folders=lambda: [Path.home(), Path.cwd()])
    around = Surroundings(
        jobs=lambda: jobs,
        access=access,
        samplers=[sampler.name for sampler in SAMPLERS],
        schedulers=["Automatic", *SCHEDULES],
    )
    with gr.Blocks(title="Rerender A Video", analytics_enabled=False, css=_asset("style.css") + _WIDE) as page:
        gr.HTML(f'<div class="rerender-masthead"><b>Rerender A Video</b><span>{escape(checkpoint.name)}</span></div>')
        build_panel(around, page=page)
        page.load(None, None, None, _js=f"() => {{ {_asset('javascript/rerender.js')} }}")
    app = FastAPI(title="Rerender A Video")
    app.include_router(make_router(jobs, access))
    app.router.add_event_handler("shutdown", jobs.close)
    return gr.mount_gradio_app(app, page.queue(64), path="/")


def _asset(name: str) -> str:
    """A file that the webui loads by itself from the extension's folder; "" where only the package is installed."""
    path = Path(__file__).parents[2] / name
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def serve(
    checkpoint: Path,
    root: Path,
    *,
    port: int = 7861,
    vae: Path | None = None,
    lora_dir: Path | None = None,
    announce: Callable[[str], None] = lambda address: None,
) -> None:
    """Serve the page on this machine until it is stopped.

    Args:
        announce: told the address, once everything is ready.

    Raises:
        UserError: see `make_app`.
    """
    app = make_app(checkpoint, root.resolve(), vae=vae, lora_dir=lora_dir)
    import uvicorn

    announce(f"http://127.0.0.1:{port}")
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")


def _opener(checkpoint: Path, vae: Path | None, lora_dir: Path | None) -> Any:
    hosts: list[Host] = []

    @contextmanager
    def open_host(job: Job, cancelled: Callable[[], bool]) -> Iterator[tuple[Host, Callable[[], bool]]]:
        from rerender.hosts.standalone import load_host

        if not hosts:  # kept: reading a checkpoint takes longer than a key frame
            hosts.append(load_host(checkpoint, vae=vae, lora_dir=lora_dir, device=job.settings.get("device", "auto")))
        yield hosts[0], cancelled

    return open_host
