"""Jobs: queue, cancel, run again, restart. The pipeline is real, the host paints a colour."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rerender.errors import Interrupted, UserError
from rerender.host import ModelCall, Rendered, RenderRequest, Sampling
from rerender.ui.jobs import Job, Jobs
from rerender.ui.places import Missing


class PaintingHost:
    """Renders the negative of the picture; no diffusion."""

    device = torch.device("cpu")
    dtype = torch.float32

    def __init__(self, gate: threading.Event | None = None) -> None:
        self.unet = torch.nn.Identity()
        self.gate = gate
        self.rendered = 0

    def identity(self) -> dict[str, str]:
        return {"checkpoint": "paint"}

    def encode(self, image: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.avg_pool2d(image, 8)[:, [0, 1, 2, 0]]

    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.interpolate(latent[:, :3], scale_factor=8).clamp(-1, 1)

    def render(
        self,
        request: RenderRequest,
        *,
        attach: Any = None,
        on_step: Any = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> Rendered:
        denoiser = torch.nn.Identity()
        alphas = torch.linspace(0.999, 0.01, 1000)
        sampling = Sampling(denoiser, "sigma", alphas, [ModelCall(0, True, 1.0)], self.unet, False)
        height, width = request.picture.shape[:2]
        latent = torch.zeros(1, 4, height // 8, width // 8)
        while self.gate is not None and not self.gate.wait(0.01):
            if cancelled is not None and cancelled():
                raise Interrupted
        with attach(sampling) if attach is not None else nullcontext():
            denoiser(latent)
        self.rendered += 1
        return Rendered(255 - request.picture, latent)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """A folder of frames: the simplest video."""
    from PIL import Image

    folder = tmp_path / "clip"
    folder.mkdir()
    rng = np.random.default_rng(0)
    base = rng.integers(0, 255, (32, 40, 3), dtype=np.uint8)
    for number in range(5):
        Image.fromarray(np.roll(base, number, axis=1)).save(folder / f"{number:04d}.png")
    return folder


SETTINGS = {
    "short_side": 0,
    "key_interval": 4,
    "attention": False,
    "shape_fusion": False,
    "pixel_fusion": False,
    "color_adain": False,
    "detail_fusion": False,
    "scene_cuts": False,
    "propagation_preset": "fast",
    "workers": 1,
    "seed": 1,
}


def jobs_with(root: Path, host: PaintingHost) -> Jobs:
    @contextmanager
    def open_host(job: Job, cancelled: Callable[[], bool]) -> Iterator[Any]:
        yield host, cancelled

    return Jobs(root, open_host, one_process=True)


def test_job_runs_to_a_finished_file(tmp_path: Path, clip: Path) -> None:
    jobs = jobs_with(tmp_path / "jobs", PaintingHost())
    job = jobs.wait(jobs.submit(clip, SETTINGS).id, 60)
    assert (job.state, job.error) == ("done", "")
    assert job.key_frames == (0, 4)
    assert job.plan["frames"] == 5
    assert jobs.result_path(job.id).stat().st_size > 0
    assert jobs.key_path(job.id, 4).is_file()
    jobs.close()


def test_bad_setting_is_refused_before_anything_is_made(tmp_path: Path, clip: Path) -> None:
    jobs = jobs_with(tmp_path / "jobs", PaintingHost())
    with pytest.raises(UserError, match="no setting named 'stepps'"):
        jobs.submit(clip, {"stepps": 3})
    with pytest.raises(UserError, match="no stage 'some'"):
        jobs.submit(clip, {}, stage="some")  # type: ignore[arg-type]
    assert jobs.list() == []
    assert not (tmp_path / "jobs").exists()


def test_cancel_running_and_waiting_job_then_resume(tmp_path: Path, clip: Path) -> None:
    host = PaintingHost(gate=threading.Event())
    jobs = jobs_with(tmp_path / "jobs", host)
    first = jobs.submit(clip, SETTINGS, stage="keys")
    second = jobs.submit(clip, SETTINGS, stage="keys")
    assert jobs.cancel(second.id).state == "interrupted"
    with pytest.raises(UserError, match="still"):
        jobs.delete(first.id)
    jobs.cancel(first.id)
    assert jobs.wait(first.id, 60).state == "interrupted"
    host.gate.set()  # type: ignore[union-attr]
    assert jobs.wait(jobs.run_again(first.id).id, 60).state == "done"
    jobs.close()


def test_next_stage_and_redo_keep_what_is_valid(tmp_path: Path, clip: Path) -> None:
    host = PaintingHost()
    jobs = jobs_with(tmp_path / "jobs", host)
    job = jobs.submit(clip, SETTINGS, stage="first")
    assert jobs.wait(job.id, 60).key_frames == (0,)
    assert jobs.wait(jobs.run_again(job.id, stage="keys").id, 60).key_frames == (0, 4)
    assert host.rendered == 2 + _repeats(host, 2)
    before = host.rendered
    jobs.wait(jobs.run_again(job.id, stage="keys").id, 60)
    assert host.rendered == before
    redone = jobs.wait(jobs.run_again(job.id, stage="keys", redo_frames=(4,)).id, 60)
    assert (redone.state, redone.redo) == ("done", ())
    assert host.rendered > before
    jobs.close()


def _repeats(host: PaintingHost, least: int) -> int:
    """Renderings made again only for their features."""
    return host.rendered - least


def test_jobs_survive_a_restart(tmp_path: Path, clip: Path) -> None:
    root = tmp_path / "jobs"
    host = PaintingHost(gate=threading.Event())
    jobs = jobs_with(root, host)
    running, waiting = jobs.submit(clip, SETTINGS, stage="keys"), jobs.submit(clip, SETTINGS, stage="keys")
    while jobs.get(running.id).state != "running":
        pass
    # What a killed process leaves: job.json as it is now.
    stored = {job.id: (root / job.id / "job.json").read_bytes() for job in (running, waiting)}
    jobs.close()
    for job_id, content in stored.items():
        (root / job_id / "job.json").write_bytes(content)
    again = jobs_with(root, PaintingHost())
    assert again.get(running.id).state == "interrupted"
    assert again.wait(waiting.id, 60).state == "done"
    again.close()


def test_delete_removes_the_folder(tmp_path: Path, clip: Path) -> None:
    jobs = jobs_with(tmp_path / "jobs", PaintingHost())
    job = jobs.wait(jobs.submit(clip, SETTINGS, stage="first").id, 60)
    jobs.delete(job.id)
    assert not (tmp_path / "jobs" / job.id).exists()
    with pytest.raises(Missing):
        jobs.get(job.id)
    jobs.close()
