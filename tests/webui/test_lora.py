"""A LoRA in the prompt of a job: it acts on key frames as it does on pictures, and as on the standalone host."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.webui.server import Server
from tests.webui.standalone import CHECKPOINT_FILE, mean_differences, opened, standalone_keys
from tests.webui.test_server import SETTINGS
from tests.webui.tint_lora import NAME, redness, train_tint_lora

pytestmark = pytest.mark.timeout(1800)


@pytest.fixture(scope="module")
def lora_dir(server: Server, clip_frames: list[Any]) -> Path:
    folder = server.data / "models" / "Lora"
    train_tint_lora(CHECKPOINT_FILE, clip_frames[0], SETTINGS["prompt"], folder / f"{NAME}.safetensors")
    return folder


def test_lora_changes_key_frames_in_the_direction_it_was_trained_for(
    server: Server, clip: bytes, lora_dir: Path, tmp_path: Path
) -> None:
    video = server.upload(clip)
    tags = {"none": "", "less": f"<lora:{NAME}:-1>", "nothing": f"<lora:{NAME}:0>", "more": f"<lora:{NAME}:1>"}
    found = {}
    for name, tag in tags.items():
        job = server.submit(video, {**SETTINGS, "prompt": SETTINGS["prompt"] + tag}, stage="keys")
        assert server.finished(job)["state"] == "done"
        found[name] = [opened(png) for png in server.keys(job)]
    for less, none, more in zip(found["less"], found["none"], found["more"], strict=True):
        assert redness(less) + 10 < redness(none) < redness(more) - 10
    assert all(np.array_equal(one, other) for one, other in zip(found["nothing"], found["none"], strict=True))

    unknown = {**SETTINGS, "prompt": SETTINGS["prompt"] + "<lora:misspelt:1>"}
    job = server.finished(server.submit(video, unknown, stage="first"))
    assert job["notes"].count("Lora not found: misspelt") == 1

    (tmp_path / "clip.gif").write_bytes(clip)
    settings = {**SETTINGS, "prompt": SETTINGS["prompt"] + tags["more"]}
    expected = standalone_keys(tmp_path / "clip.gif", settings, tmp_path / "project", lora_dir)
    assert max(mean_differences(found["more"], expected)) <= 2.0
