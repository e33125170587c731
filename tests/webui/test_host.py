"""The webui host in a real webui."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.webui.inside import Inside
from tests.webui.place import with_full_path
from tests.webui.standalone import mean_differences, standalone_translation
from tools.make_tiny_checkpoint import make_tiny_checkpoint

pytestmark = pytest.mark.timeout(1200)

SAMPLERS = ["Euler", "DPM++ 2M", "Euler a", "Heun", "DPM++ SDE", "DDIM", "UniPC", "LCM"]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_key_frame_without_constraints_is_plain_img2img(inside: Any, sampler: str) -> None:
    found = inside("same_as_plain", sampler=sampler)
    assert found["bare"]
    assert found["hooked"]
    assert found["changed_source"] > 1.0


def test_calls_of_every_sampler_are_announced(inside: Any) -> None:
    for sampler in inside("samplers"):
        if sampler == "DPM adaptive":
            continue
        found = inside("announced_calls", sampler=sampler)
        assert len(found["made"]) == len(found["announced"]) > 0, sampler
        if found["form"] == "sigma":
            np.testing.assert_allclose(found["made"], found["announced"], rtol=1e-5, err_msg=sampler)
        assert found["first"][0], sampler
        assert found["step"] == sorted(found["step"]), sampler
        assert found["multistep"] == (sampler.startswith(("DPM++ 2M", "DPM++ 3M")) or sampler == "PLMS"), sampler
        total = found["step"][-1] + 1
        assert found["on_step"] == [[done, total] for done in range(1, total + 1)], sampler


@pytest.mark.parametrize("names", [["soft"], ["old", "soft"], []])
def test_styles_of_a_key_frame_arrive_in_img2img(inside: Any, names: list[str]) -> None:
    found = inside("sent_styles", names=names)
    assert ("soft light" in found["text"], "an old " in found["text"]) == ("soft" in names, "old" in names)
    assert (found["Prompt"], found["Negative prompt"]) == ("an oil painting of a face", "photo")
    assert sorted(found["Styles array"] or []) == sorted(names)


def test_sampler_without_fixed_steps_is_refused_by_name(inside: Any) -> None:
    assert "'DPM adaptive' has no fixed number of steps" in inside("refuses", sampler="DPM adaptive")
    assert "no sampler named 'Eulr'" in inside("refuses", sampler="Eulr")


@pytest.mark.parametrize(
    ("ending", "outcome"), [("normal", "done"), ("interrupted", "Interrupted"), ("failing", "ZeroDivisionError")]
)
def test_run_leaves_no_trace(inside: Any, ending: str, outcome: str) -> None:
    assert inside("leaves_no_trace", ending=ending) == {"outcome": outcome, "different": [], "same_plain": True}


@pytest.mark.parametrize("tokens", ["all", "checkerboard"])
def test_attention_agrees_among_all_optimisations(inside: Any, tokens: str) -> None:
    found = inside("attention_optimisations", tokens=tokens)
    assert len(found) >= 5
    for name, difference in found.items():
        assert difference["max"] <= 1, (name, difference)


def test_every_sampler_renders_key_frames_with_all_constraints(inside: Any) -> None:
    found = inside("with_every_sampler")
    assert len(found) >= 20
    assert "has no fixed number of steps" in found.pop("DPM adaptive")
    for sampler, difference in found.items():
        assert isinstance(difference, float), (sampler, difference)
        assert 1.0 < difference < 120.0, (sampler, difference)


def test_every_schedule_renders_key_frames(inside: Any) -> None:
    found = inside("with_every_schedule")
    assert len(found) >= 8
    assert set(found.values()) == {"[2, 128, 128, 3]"}


def test_row_layout_does_not_matter(inside: Any) -> None:
    for name, difference in inside("row_layouts").items():
        assert difference < 0.05, name


def test_unusual_prompts_and_merged_tokens_run(inside: Any) -> None:
    assert set(map(tuple, inside("unusual_prompts").values())) == {(2, 128, 128, 3)}


@pytest.mark.parametrize(
    ("prompt", "rows"), [("oil", 2), ("oil AND face", 3), ("[oil:ink:.5] AND face AND sky :.5", 4)]
)
def test_the_rows_of_composed_prompts_are_announced(inside: Any, prompt: str, rows: int) -> None:
    assert inside("rows_of", prompt=prompt) == {"announced": rows, "made": rows}


# The same values as in checks.py, which can only be imported inside a webui.
BASE = {
    "prompt": "an oil painting of a face",
    "negative_prompt": "photo",
    "steps": 8,
    "cfg_scale": 2.5,
    "denoising_strength": 0.6,
    "seed": 3,
}


def sources() -> list[Any]:
    """The frames of checks.py."""
    from rerender.evaluate.scenes import scene

    return list(scene("translation", seed=1, size=(128, 128), frames=3).frames)


@pytest.mark.parametrize(("sampler", "masked"), [("Euler", False), ("DPM++ 2M", False), ("DPM++ 2M", True)])
def test_standalone_host_renders_the_same(inside: Any, sampler: str, masked: bool, tmp_path: Path) -> None:
    checkpoint = inside("save_translation", path=str(tmp_path / "webui.npy"), sampler=sampler, masked=masked)
    found = list(np.load(tmp_path / "webui.npy"))
    mask = np.zeros((128, 128), np.float32)
    mask[:, :64] = 1
    expected = standalone_translation(
        Path(checkpoint), sources(), mask=mask if masked else None, **BASE, sampler=sampler
    )
    assert max(mean_differences(found, expected)) <= 2.0
    if masked:
        for picture, source in zip(found, sources(), strict=True):
            np.testing.assert_array_equal(picture[:, 64:], source[:, 64:])


def test_standalone_host_renders_the_same_where_velocity_is_predicted(webui: Path, tmp_path: Path) -> None:
    checkpoint = make_tiny_checkpoint(tmp_path / "data" / "models" / "Stable-diffusion", v_prediction=True)
    config = checkpoint.with_suffix(".yaml")
    config.write_text(with_full_path(config.read_text(), checkpoint.parent, "tiny"))
    with Inside(webui, tmp_path / "data", options={"sd_model_checkpoint": checkpoint.name}) as running:
        assert running("save_translation", path=str(tmp_path / "webui.npy"), sampler="DPM++ 2M") == str(checkpoint)
    expected = standalone_translation(checkpoint, sources(), **BASE, sampler="DPM++ 2M")
    assert max(mean_differences(list(np.load(tmp_path / "webui.npy")), expected)) <= 2.0


def test_sdxl_renders_key_frames_with_all_constraints(webui: Path, tmp_path: Path) -> None:
    # The webui would download a network for its own live previews.
    with Inside(webui, tmp_path / "data", options={"live_previews_enable": False}) as running:
        found = running("checks_sdxl.translate_with_sdxl")
    assert found["is_sdxl"]
    assert found["shape"] == [3, 128, 128, 3]
    assert found["attention changes"] > 0.005  # little: the weights are random
    assert found["bare is plain"]
