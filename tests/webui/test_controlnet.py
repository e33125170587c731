"""The ControlNet extension (sd-webui-controlnet 1.1.455) in a real webui: its units work as they are."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.webui.inside import Inside
from tests.webui.place import with_full_path
from tools.make_tiny_checkpoint import make_tiny_checkpoint

pytestmark = pytest.mark.timeout(1800)

# The extension expects the thirteen outputs of Stable Diffusion 1.5's encoder, which the demo's is too small for.
TOPOLOGY = {"channel_mult": [1, 2, 4, 4], "num_res_blocks": 2, "attention_resolutions": [4, 2, 1]}


@pytest.fixture(scope="module")
def controlled(webui: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    """A webui with the ControlNet extension."""
    named = os.environ.get("WEBUI_CONTROLNET")
    extension = Path(named) if named else webui / "extensions" / "sd-webui-controlnet"
    if not (extension / "scripts" / "controlnet.py").is_file():
        pytest.skip("no ControlNet extension in the webui, and WEBUI_CONTROLNET names none")
    data = tmp_path_factory.mktemp("controlnet")
    checkpoint = make_tiny_checkpoint(data / "models" / "Stable-diffusion", unet=TOPOLOGY)
    config = checkpoint.with_suffix(".yaml")
    config.write_text(with_full_path(config.read_text(), checkpoint.parent, "tiny"))
    with Inside(webui, data, extensions=[extension], options={"sd_model_checkpoint": checkpoint.name}) as running:
        yield running


def test_units_get_each_key_frames_own_source_and_keep_their_own_pictures(controlled: Inside) -> None:
    found = controlled("checks_controlnet.units_see_each_key_frame")
    assert found["first unit"] == [True] * 3
    assert found["second unit"] == [True] * 3
    assert found["shape"] == [3, 128, 128, 3]
    assert found["effect"] > 1.0


def test_control_maps_are_not_among_the_results(controlled: Inside, clip: bytes) -> None:
    video = controlled.data / "outputs" / "rerender" / "uploads" / "clip.gif"
    video.parent.mkdir(parents=True)
    video.write_bytes(clip)
    found = controlled("checks_controlnet.script_appends_no_maps", video=video.name)
    assert (found["images"], found["units"]) == (2, 2)
    assert "ControlNet 0" in found["infotext"]


def test_interrupted_run_takes_the_units_hook_off_the_network(controlled: Inside) -> None:
    assert controlled("checks_controlnet.interrupted_run_leaves_no_hook") == {"during": True, "after": False}


def test_reference_only_is_refused_by_name_while_attention_is_on(controlled: Inside) -> None:
    found = controlled("checks_controlnet.reference_only")
    assert "'reference_only'" in found["on"]
    assert found["off"] == "[3, 128, 128, 3]"
