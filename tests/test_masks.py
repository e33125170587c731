"""Masked runs: outside the mask every frame is the source's, inside it is rendered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rerender.cli import main
from rerender.diffusion.edits import edits
from rerender.diffusion.keep import KeepSource
from rerender.errors import UserError
from rerender.evaluate.scenes import scene
from rerender.files import file_digest, read_picture, write_png
from rerender.hosts.standalone import load_host
from rerender.inspection import inspect_key_frame
from rerender.pipeline import prepare, run_stage
from rerender.project import Project
from rerender.settings import make_settings
from rerender.translate.translator import request_for
from tests.diffusion.toys import SAMPLERS, ToyHost
from tests.test_translate import TruthFlow, make, render, same

SIZE = (48, 64)
FRAMES = 7
VALUES: dict[str, Any] = {
    "short_side": 0,
    "key_interval": 3,
    "steps": 4,
    "scene_cuts": False,
    "device": "cpu",
    "workers": 1,
    "propagation_preset": "fast",
}


@pytest.fixture(scope="module")
def clip():
    return scene("translation", seed=3, size=SIZE, frames=12)


@pytest.fixture(scope="module")
def folder(clip, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    for number, frame in enumerate(clip.frames[:FRAMES]):
        write_png(folder / f"{number:03d}.png", frame)
    return folder


@pytest.fixture(scope="module")
def host(tiny_checkpoint):
    return load_host(tiny_checkpoint, device="cpu")


def moving_mask(frame: int) -> np.ndarray:
    """A white block that moves by two pixels a frame."""
    mask = np.zeros((*SIZE, 3), np.uint8)
    mask[10:34, 8 + 2 * frame : 36 + 2 * frame] = 255
    return mask


@pytest.fixture(scope="module")
def mask(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("mask")
    for number in range(FRAMES):
        write_png(folder / f"{number:03d}.png", moving_mask(number))
    return folder


def whole_run(project: Path, folder: Path, host, stage: Any = "all", **values) -> list[int]:
    """Run, and give the key frames that were rendered."""
    events = []
    with Project(project) as opened:
        settings = make_settings({**VALUES, **values})
        run = prepare(opened, folder, settings, host=host, emit=events.append)
        run_stage(run, stage, project / "out.mp4")
    return [event.data["frame"] for event in events if event.kind == "key_frame"]


def frame_of(project: Path, number: int) -> np.ndarray:
    name = f"{number:06d}.png"
    return read_picture(next(p for p in (project / "keys" / name, project / "frames" / name) if p.exists()))


@pytest.mark.parametrize(("side", "feather"), [("inside", 0), ("inside", 3), ("outside", 0)])
def test_outside_the_mask_every_frame_is_the_source(clip, folder, mask, host, tmp_path, side, feather):
    whole_run(tmp_path, folder, host, mask=str(mask), mask_side=side, mask_feather=feather)
    for number in range(FRAMES):
        inside = moving_mask(number)[..., 0] > 0
        if side == "outside":
            inside = ~inside
        far = np.zeros(SIZE, bool)
        for dy, dx in np.ndindex(2 * feather + 1, 2 * feather + 1):
            far |= np.roll(inside, (dy - feather, dx - feather), (0, 1))
        picture = frame_of(tmp_path, number)
        np.testing.assert_array_equal(picture[~far], clip.frames[number][~far])
        assert np.abs(picture.astype(int) - clip.frames[number])[inside].mean() > 5


def test_a_mask_belongs_to_frames_of_the_source_where_a_run_begins_later(clip, folder, mask, host, tmp_path):
    assert whole_run(tmp_path, folder, host, "keys", mask=str(mask), mask_feather=0, start_frame=2) == [2, 5, 6]
    for number in (2, 5, 6):
        inside, picture = moving_mask(number)[..., 0] > 0, frame_of(tmp_path, number)
        np.testing.assert_array_equal(picture[~inside], clip.frames[number][~inside])


def test_a_white_mask_changes_nothing(clip, host, folder, tmp_path):
    write_png(tmp_path / "white.png", np.full((*SIZE, 3), 255, np.uint8))
    whole_run(tmp_path / "a", folder, host)
    whole_run(tmp_path / "b", folder, host, mask=str(tmp_path / "white.png"))
    for number in range(FRAMES):
        np.testing.assert_array_equal(frame_of(tmp_path / "a", number), frame_of(tmp_path / "b", number))


def test_a_changed_mask_renders_anew_and_an_equal_one_does_not(folder, host, mask, tmp_path):
    def keys(path: Path, **values) -> list[int]:
        return whole_run(tmp_path / "p", folder, host, "keys", mask=str(path), **values)

    assert keys(mask) == [0, 3, 6]
    other = tmp_path / "mask"
    for path in mask.glob("*.png"):
        write_png(other / path.name, read_picture(path))
    assert keys(other) == []
    write_png(other / "005.png", moving_mask(0))
    assert keys(other) == [0, 3, 6]
    assert keys(other, mask_feather=0) == [0, 3, 6]
    assert keys(other, mask_background="render") == [0, 3, 6]
    assert keys(other, mask_background="render", mask_feather=1) == []


def test_a_relative_path_holds_in_other_folders_too(clip, folder, tmp_path, monkeypatch):
    write_png(tmp_path / "here" / "mask.png", moving_mask(0))
    write_png(tmp_path / "keys" / "0.png", 255 - clip.frames[0])
    words = ["propagate", str(folder), "--keys", str(tmp_path / "keys"), "--project", str(tmp_path / "p"), "--json"]
    values = {**VALUES, "end_frame": 2, "mask_feather": 0}
    monkeypatch.chdir(tmp_path / "here")
    assert main([*words, "--set=mask=mask.png", *(f"--set={name}={value}" for name, value in values.items())]) == 0
    monkeypatch.chdir(tmp_path)
    assert main([*words, "--overwrite"]) == 0
    outside = moving_mask(0)[..., 0] == 0
    np.testing.assert_array_equal(frame_of(tmp_path / "p", 1)[outside], clip.frames[1][outside])


def test_keys_of_another_tool_are_masked_too(clip, folder, mask, tmp_path):
    for number in (0, 6):
        write_png(tmp_path / "keys" / f"{number}.png", 255 - clip.frames[number])
    words = ["propagate", str(folder), "--keys", str(tmp_path / "keys"), "--project", str(tmp_path / "p"), "--json"]
    sets = {**VALUES, "mask": mask, "mask_feather": 0}
    assert main([*words, *(f"--set={name}={value}" for name, value in sets.items())]) == 0
    for number in range(FRAMES):
        inside = moving_mask(number)[..., 0] > 0
        picture = frame_of(tmp_path / "p", number)
        np.testing.assert_array_equal(picture[~inside], clip.frames[number][~inside])
    np.testing.assert_array_equal(frame_of(tmp_path / "p", 6)[inside], 255 - clip.frames[6][inside])


def test_a_resumed_masked_run_gives_the_same_bytes(folder, host, mask, tmp_path):
    whole_run(tmp_path / "a", folder, host, "keys", mask=str(mask))
    whole_run(tmp_path / "b", folder, host, "first", mask=str(mask))
    assert whole_run(tmp_path / "b", folder, host, "keys", mask=str(mask)) == [3, 6]
    for number in (0, 3, 6):
        name = f"{number:06d}.png"
        assert file_digest(tmp_path / "a" / "keys" / name) == file_digest(tmp_path / "b" / "keys" / name)


def test_the_inspection_shows_the_mask(clip, folder, host, mask, tmp_path):
    whole_run(tmp_path, folder, host, "keys", mask=str(mask), mask_feather=0)
    view = inspect_key_frame(tmp_path, 3)["mask"]
    inside = moving_mask(3)[..., 0] > 0
    np.testing.assert_array_equal(view[inside], clip.frames[3][inside])
    assert view[~inside].mean() < 0.5 * clip.frames[3][~inside].mean()


def test_a_mask_that_is_too_short_stops_the_run_before_it_begins(folder, host, mask, tmp_path):
    for path in sorted(mask.glob("*.png"))[:4]:
        write_png(tmp_path / "short" / path.name, read_picture(path))
    with pytest.raises(UserError, match="4 frames"):
        whole_run(tmp_path / "p", folder, host, mask=str(tmp_path / "short"))
    assert whole_run(tmp_path / "p", folder, host, "keys", mask=str(tmp_path / "short"), end_frame=4) == [0, 3]


# In latent space


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_final_latent_is_the_sources_outside(clip, sampler):
    """On every sampler, and the inside still answers to what is around it."""
    host = ToyHost()
    settings = make_settings({"sampler": sampler, "steps": 8, "seed": 5})
    request = request_for(settings, 0, clip.frames[0])
    style = torch.zeros(6, 8)
    style[1:4, 2:6] = 1
    source = torch.randn(1, 4, 6, 8, generator=torch.Generator().manual_seed(0))
    kept = host.render(request, attach=lambda s: edits(s, [KeepSource(source, style)])).latent
    # DDIM stops at the first training timestep, where a little noise is left.
    left = 0.3 if sampler == "ddim" else 0.01
    torch.testing.assert_close(kept[..., style == 0], source[..., style == 0], atol=left, rtol=0)
    plain = host.render(request).latent
    assert not torch.allclose(kept[..., style == 1], plain[..., style == 1], atol=1e-3)


def test_the_background_of_a_masked_frame_does_not_depend_on_the_seed(clip):
    """What is outside is the source, in the references too; so it is no source of flicker."""
    flow = TruthFlow(clip)
    style = moving_mask(0)[..., 0] / np.float32(255)
    keys = [render(make(flow, seed=seed), clip, [0, 3], mask=style) for seed in (1, 2)]
    assert same(*keys) == [False, False]
    for a, b in zip(*keys, strict=True):
        np.testing.assert_array_equal(a.picture[style == 0], b.picture[style == 0])
        np.testing.assert_array_equal(a.picture[style == 0], clip.frames[a.index][style == 0])


@pytest.mark.parametrize("passes", ["one_pass", "shared", "two_pass"])
def test_a_mask_costs_one_encoding(clip, passes):
    flow, style = TruthFlow(clip), moving_mask(0)[..., 0] / np.float32(255)
    plain = render(make(flow, passes=passes), clip, [0, 3])[1].cost
    masked = render(make(flow, passes=passes), clip, [0, 3], mask=style)[1].cost
    assert (masked.unet, masked.encode, masked.decode) == (plain.unet, plain.encode + 1, plain.decode)
