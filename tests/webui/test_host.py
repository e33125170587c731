"""The webui host in a real webui."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

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


def test_sampler_without_fixed_steps_is_refused_by_name(inside: Any) -> None:
    assert "'DPM adaptive' has no fixed number of steps" in inside("refuses", sampler="DPM adaptive")
    assert "no sampler named 'Eulr'" in inside("refuses", sampler="Eulr")


@pytest.mark.parametrize(
    ("ending", "outcome"), [("normal", "done"), ("interrupted", "Interrupted"), ("failing", "ZeroDivisionError")]
)
def test_run_leaves_no_trace(inside: Any, ending: str, outcome: str) -> None:
    assert inside("leaves_no_trace", ending=ending) == {"outcome": outcome, "different": [], "same_plain": True}


def test_attention_agrees_among_all_optimisations(inside: Any) -> None:
    found = inside("attention_optimisations")
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


@pytest.mark.parametrize(("sampler", "masked"), [("Euler", False), ("DPM++ 2M", False), ("DPM++ 2M", True)])
def test_standalone_host_renders_the_same(inside: Any, sampler: str, masked: bool, tmp_path: Path) -> None:
    from rerender.evaluate.scenes import scene
    from rerender.hosts.standalone import load_host
    from rerender.motion.flow import flow_estimator
    from rerender.settings import make_settings
    from rerender.translate import Translator

    stored = tmp_path / "webui.npy"
    checkpoint = inside("save_translation", path=str(stored), sampler=sampler, masked=masked)
    # The same values as in checks.py, which can only be imported inside a webui.
    base = {"prompt": "an oil painting of a face", "negative_prompt": "photo", "steps": 8, "cfg_scale": 2.5}
    settings = make_settings({**base, "denoising_strength": 0.6, "seed": 3, "sampler": sampler})
    webui = np.load(stored).astype(int)
    mask = np.zeros((128, 128), np.float32)
    mask[:, :64] = 1
    with Translator(load_host(Path(checkpoint)), settings, flow_estimator("dis")) as translator:
        for number, picture in enumerate(scene("translation", seed=1, size=(128, 128), frames=3).frames):
            render = translator.render_first if number == 0 else translator.render_next
            ours = render(number, picture, mask=mask if masked else None).picture.astype(int)
            assert np.abs(ours - webui[number]).mean() <= 2.0
            if masked:
                np.testing.assert_array_equal(webui[number][:, 64:], picture[:, 64:])
