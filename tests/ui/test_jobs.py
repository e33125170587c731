"""Jobs: queue, cancel, run again, restart. The pipeline is real, the host paints a colour."""

from __future__ import annotations

import threading
import time
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
from rerender.ui.places import Busy, Missing


class PaintingHost:
    """Renders the negative of the picture; no diffusion."""

    device = torch.device("cpu")
    dtype = torch.float32

    def __init__(self, gate: threading.Event | None = None) -> None:
        self.unet = torch.nn.Identity()
        self.gate = gate
        self.rendered = 0

    def identity(self, prompts: Any = ()) -> dict[str, str]:
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


def jobs_with(root: Path, host: PaintingHost, **more: Any) -> Jobs:
    @contextmanager
    def open_host(job: Job, cancelled: Callable[[], bool]) -> Iterator[Any]:
        yield host, cancelled

    return Jobs(root, open_host, one_process=True, **more)


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


def test_no_more_jobs_than_the_limit_wait(tmp_path: Path, clip: Path) -> None:
    host = PaintingHost(gate=threading.Event())
    jobs = jobs_with(tmp_path / "jobs", host, queue_limit=lambda: 2)
    first, second = jobs.submit(clip, SETTINGS, stage="first"), jobs.submit(clip, SETTINGS, stage="first")
    with pytest.raises(Busy, match="2 jobs wait or run already"):
        jobs.submit(clip, SETTINGS)
    jobs.cancel(second.id)
    third = jobs.submit(clip, SETTINGS, stage="first")
    with pytest.raises(Busy):
        jobs.run_again(second.id)
    assert host.gate is not None
    host.gate.set()
    assert [jobs.wait(job.id, 60).state for job in (first, third)] == ["done", "done"]
    jobs.close()


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


def test_what_the_host_remarks_on_is_noted_once(tmp_path: Path, clip: Path) -> None:
    host = PaintingHost()
    host.comments = ["Lora not found: ink"]  # type: ignore[attr-defined]
    jobs = jobs_with(tmp_path / "jobs", host)
    job = jobs.wait(jobs.submit(clip, SETTINGS, stage="keys").id, 60)
    assert job.notes.count("Lora not found: ink") == 1
    jobs.close()


class GatedHost(PaintingHost):
    """Waits at chosen pictures until it is let go on, or cancelled."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting = threading.Event()
        self.hold_at = 1

    def render(self, request: RenderRequest, **arguments: Any) -> Rendered:
        if self.rendered == self.hold_at:
            self.waiting.set()
            while not arguments["cancelled"]():
                time.sleep(0.005)
            self.hold_at = -1
            raise Interrupted
        return super().render(request, **arguments)


def skip_at_the_second(jobs: Jobs, host: GatedHost, **job: Any) -> Job:
    made = jobs.submit(**job)
    assert host.waiting.wait(30)
    jobs.skip(made.id)
    return jobs.wait(made.id, 60)


def test_skipped_key_frame_is_left_out_and_its_neighbours_fill_in(tmp_path: Path, clip: Path) -> None:
    host = GatedHost()
    jobs = jobs_with(tmp_path / "jobs", host)
    done = skip_at_the_second(jobs, host, video=clip, settings={**SETTINGS, "key_interval": 2})
    assert (done.state, done.key_frames) == ("done", (0, 4))
    assert (done.settings["key_mode"], done.settings["key_frames"]) == ("listed", "0, 4")
    assert any("Key frame 2 is left out" in note for note in done.notes)
    assert done.plan["frames"] == 5
    jobs.close()


def test_end_of_a_shot_cannot_be_skipped(tmp_path: Path, clip: Path) -> None:
    host = GatedHost()
    jobs = jobs_with(tmp_path / "jobs", host)
    job = jobs.submit(clip, {**SETTINGS, "key_interval": 4})
    assert host.waiting.wait(30)
    with pytest.raises(UserError, match="Key frame 4 is the first or last of its shot"):
        jobs.skip(job.id)
    jobs.cancel(job.id)
    assert jobs.wait(job.id, 60).state == "interrupted"
    with pytest.raises(UserError, match="No key frame is being rendered"):
        jobs.skip(job.id)
    jobs.close()


def test_skip_while_redoing_keeps_the_old_picture(tmp_path: Path, clip: Path) -> None:
    host = GatedHost()
    host.hold_at = -1
    jobs = jobs_with(tmp_path / "jobs", host)
    job = jobs.wait(jobs.submit(clip, {**SETTINGS, "key_interval": 2}, stage="keys").id, 60)
    before = jobs.key_path(job.id, 2).read_bytes()
    host.hold_at = host.rendered
    jobs.run_again(job.id, redo_frames=(2,))
    assert host.waiting.wait(30)
    jobs.skip(job.id)
    done = jobs.wait(job.id, 60)
    assert (done.state, done.key_frames, done.settings["key_mode"]) == ("done", (0, 2, 4), "uniform")
    assert jobs.key_path(job.id, 2).read_bytes() == before
    rendered = host.rendered
    jobs.wait(jobs.run_again(job.id).id, 60)
    assert host.rendered == rendered
    jobs.close()


def test_skip_in_a_redo_of_two_renders_the_other_once(tmp_path: Path, clip: Path) -> None:
    from rerender.project import Project

    host = GatedHost()
    host.hold_at = -1
    jobs = jobs_with(tmp_path / "jobs", host)
    job = jobs.wait(jobs.submit(clip, {**SETTINGS, "key_interval": 2}, stage="keys").id, 60)
    host.hold_at = host.rendered
    jobs.run_again(job.id, redo_frames=(2, 4))
    assert host.waiting.wait(30)
    at_work = jobs.get(job.id).rendering
    jobs.skip(job.id)
    assert jobs.wait(job.id, 60).state == "done"
    with Project(jobs.folder(job.id) / "project") as project:
        assert {frame: project.revision(frame) for frame in (2, 4)} == {2: int(at_work != 2), 4: int(at_work != 4)}
    jobs.close()


def test_waiting_jobs_are_listed_in_their_order(tmp_path: Path, clip: Path) -> None:
    host = PaintingHost(gate=threading.Event())
    jobs = jobs_with(tmp_path / "jobs", host)
    made = [jobs.submit(clip, SETTINGS, stage="first").id for _ in range(3)]
    while jobs.get(made[0]).state != "running":
        time.sleep(0.005)
    assert [job.id for job in jobs.at_work()] == made
    host.gate.set()  # type: ignore[union-attr]
    jobs.wait(made[2], 60)
    assert list(jobs.at_work()) == []
    jobs.close()
