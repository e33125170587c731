"""The command line: bad input ends with one clear message, exit status 2, and nothing made or lost."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import wave
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from rerender.cli import main
from rerender.files import read_picture, write_png
from rerender.settings import schema
from rerender.stages import propagation
from rerender.video.probe import probe
from rerender.video.write import open_writer

ROOT = Path(__file__).parent.parent
SIZE = (48, 32)


def write_clip(path: Path, frames: int = 6, seed: int = 0) -> Path:
    """A short clip of moving colours, 10 frames a second."""
    times = [Fraction(k, 10) for k in range(frames)]
    ramp = np.add.outer(np.arange(SIZE[1]), np.arange(SIZE[0])).astype(np.float32)
    with open_writer(path, width=SIZE[0], height=SIZE[1], times=times) as writer:
        for k, time in enumerate(times):
            waves = [128 + 100 * np.sin((ramp + 2 * k + 11 * c + seed) / (3 + c)) for c in range(3)]
            writer.write(np.stack(waves, -1).astype(np.uint8), time, Fraction(1, 10))
    return path


def fails(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """Run a command that must end with exit status 2; gives its message."""
    assert main(words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert "Traceback" not in captured.err
    return captured.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "COMMAND"),
        (["render"], "render"),
        (["run"], "VIDEO"),
        (["run", "a.mp4", "--stage", "some"], "some"),
        (["info", "nowhere.mp4"], "nowhere.mp4"),
        (["run", "nowhere.mp4"], "nowhere.mp4"),
    ],
)
def test_usage_errors(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert message in fails(capsys, *words)
    assert list(tmp_path.iterdir()) == []


def test_errors_are_json_events_too(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["run", str(tmp_path / "no.mp4"), "--json"]) == 2
    event = json.loads(capsys.readouterr().out)
    assert event["event"] == "error"
    assert event["exit_status"] == 2
    assert "no.mp4" in event["message"]


@pytest.mark.parametrize(
    ("setting", "message"),
    [("stepz=3", "Did you mean steps?"), ("steps", "no value"), ("steps=0", "1 to 150"), ("end_frame=99", "99")],
)
def test_bad_settings(capsys: pytest.CaptureFixture[str], tmp_path: Path, setting: str, message: str) -> None:
    clip = write_clip(tmp_path / "a.mp4")
    words = ["propagate", str(clip), "--keys", str(tmp_path), "--output", str(tmp_path / "o.mp4"), "--set", setting]
    write_png(tmp_path / "keys" / "0.png", np.zeros((SIZE[1], SIZE[0], 3), np.uint8))
    words[3] = str(tmp_path / "keys")
    assert message in fails(capsys, *words)
    assert not (tmp_path / "o.mp4").exists()


@pytest.mark.parametrize("text", ["", "[1]", "{", '{"nope": 1}'])
def test_bad_settings_files(capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str) -> None:
    clip = write_clip(tmp_path / "a.mp4")
    (tmp_path / "s.json").write_text(text)
    message = fails(capsys, "run", str(clip), "--output", str(tmp_path / "o.mp4"), "--settings", f"{tmp_path}/s.json")
    assert "s.json" in message or "nope" in message


def _video_cases(folder: Path) -> dict[str, tuple[Path, str]]:
    text = folder / "text.mp4"
    text.write_text("this is no video")
    empty = folder / "empty.mp4"
    empty.touch()
    cut = folder / "cut.mp4"
    cut.write_bytes(write_clip(folder / "whole.mp4", 40).read_bytes()[:3000])
    bare = folder / "bare"
    bare.mkdir()
    mixed = folder / "mixed"
    write_png(mixed / "1.png", np.zeros((16, 16, 3), np.uint8))
    write_png(mixed / "2.png", np.zeros((16, 24, 3), np.uint8))
    return {
        "text": (text, "text.mp4"),
        "empty": (empty, "empty.mp4"),
        "cut": (cut, "cut.mp4"),
        "bare": (bare, "bare"),
        "mixed": (mixed, "2.png"),
    }


@pytest.mark.parametrize("case", ["text", "empty", "cut", "bare", "mixed"])
def test_bad_videos(capsys: pytest.CaptureFixture[str], tmp_path: Path, case: str) -> None:
    video, message = _video_cases(tmp_path)[case]
    words = ["run", str(video), "--stage", "propagate", "--output", str(tmp_path / "out" / "o.mp4")]
    assert message in fails(capsys, *words)
    assert not (tmp_path / "out" / "o.mp4").exists()


def test_an_output_over_the_source_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.mp4")
    before = clip.read_bytes()
    link = tmp_path / "link.mp4"
    link.symlink_to(clip)
    for target in (clip, link):
        message = fails(capsys, "propagate", str(clip), "--keys", str(tmp_path), "--output", str(target), "--overwrite")
        assert "overwrite the source" in message
    assert clip.read_bytes() == before


def test_an_output_of_somebody_else_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.mp4")
    (tmp_path / "o.mp4").write_text("precious")
    message = fails(capsys, "propagate", str(clip), "--keys", str(tmp_path), "--output", str(tmp_path / "o.mp4"))
    assert "exists already" in message
    assert (tmp_path / "o.mp4").read_text() == "precious"


def test_unwritable_places_are_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.mp4")
    (tmp_path / "file").touch()
    message = fails(
        capsys, "propagate", str(clip), "--keys", str(tmp_path), "--output", str(tmp_path / "file" / "o.mp4")
    )
    assert "file" in message


def test_propagation_of_given_key_frames(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = tmp_path / "mein “Ordner” 视频"
    folder.mkdir()
    clip = write_clip(folder / "it's a clip.mp4")
    for number, value in ((0, 30), (5, 200)):
        write_png(folder / "keys" / f"{number}.png", np.full((SIZE[1], SIZE[0], 3), value, np.uint8))
    output = folder / "out & about.mp4"
    words = ["propagate", str(clip), "--keys", str(folder / "keys"), "--output", str(output)]
    assert main(words) == 0
    assert capsys.readouterr().out.strip() == str(output)
    assert probe(output).timestamps == probe(clip).timestamps
    project = folder / "out & about.rerender"
    assert sorted(path.name for path in (project / "frames").iterdir()) == [f"{k:06d}.png" for k in (1, 2, 3, 4)]
    np.testing.assert_array_equal(read_picture(project / "keys" / "000005.png"), 200)

    before = {path: path.read_bytes() for path in (project / "frames").iterdir()}
    assert main([*words, "--json"]) == 0  # everything is there: nothing is made again
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [e["state"] for e in events if e["event"] == "stage"] == ["kept", "kept"]
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize(
    ("asked", "followed"),
    [
        ([], "dis"),
        (["--flow", "dis_fast"], "dis_fast"),
        (["--set", "flow=dis_fast"], "dis_fast"),
        (["--set", "propagation_flow=same"], "dis_guided"),
        (["--set", "flow=dis_fast", "--set", "propagation_flow=dis"], "dis"),
    ],
)
def test_propagation_alone_follows_the_flow_that_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: list[str], followed: str
) -> None:
    clip, names = write_clip(tmp_path / "a.mp4", frames=3), list[str]()
    write_png(tmp_path / "keys" / "0.png", np.full((SIZE[1], SIZE[0], 3), 30, np.uint8))
    known = propagation.flow_estimator
    monkeypatch.setattr(propagation, "flow_estimator", lambda name: names.append(name) or known(name))
    words = ["propagate", str(clip), "--keys", str(tmp_path / "keys"), "--output", str(tmp_path / "o.mp4")]
    assert main([*words, *asked, "--set", "workers=1", "--set", "propagation_preset=fast"]) == 0
    assert names == [followed]
    assert main([*words, "--overwrite"]) == 0  # the project remembers it: nothing is made again
    assert names == [followed]


def test_a_truncated_key_frame_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    clip, key = write_clip(tmp_path / "a.mp4"), tmp_path / "keys" / "0.png"
    write_png(key, np.random.default_rng(0).integers(0, 256, (SIZE[1], SIZE[0], 3), dtype=np.uint8))
    key.write_bytes(key.read_bytes()[:1500])
    assert main(["propagate", str(clip), "--keys", str(key.parent), "--output", str(tmp_path / "o.mp4")]) == 2
    assert "0.png cannot be read" in capsys.readouterr().err


def test_an_edited_key_frame_reaches_the_frames_around_it(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.mp4", frames=7)
    keys = tmp_path / "keys"
    for number in (0, 3, 6):
        write_png(keys / f"{number}.png", np.full((SIZE[1], SIZE[0], 3), 50, np.uint8))
    words = ["propagate", str(clip), "--keys", str(keys), "--output", str(tmp_path / "o.mp4")]
    assert main(words) == 0
    write_png(keys / "6.png", np.full((SIZE[1], SIZE[0], 3), 250, np.uint8))
    assert main(words) == 0
    frames = tmp_path / "o.rerender" / "frames"
    means = {k: float(read_picture(frames / f"{k:06d}.png").mean()) for k in (1, 2, 4, 5)}
    assert means[1] == means[2] == 50
    assert means[5] > 100
    assert len(list((tmp_path / "o.rerender" / "history").iterdir())) == 1


def test_a_project_of_another_clip_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    write_png(keys / "0.png", np.zeros((SIZE[1], SIZE[0], 3), np.uint8))
    common = ["--keys", str(keys), "--project", str(tmp_path / "p")]
    first = write_clip(tmp_path / "a.mp4")
    assert main(["propagate", str(first), *common, "--output", str(tmp_path / "1.mp4")]) == 0
    capsys.readouterr()
    other = write_clip(tmp_path / "b.mp4", seed=9)
    assert "another source" in fails(capsys, "propagate", str(other), *common, "--output", str(tmp_path / "2.mp4"))
    shutil.move(first, tmp_path / "moved.mp4")  # the same content under another name is the same source
    assert main(["propagate", f"{tmp_path}/moved.mp4", *common, "--output", str(tmp_path / "3.mp4")]) == 0


def test_info_as_json(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["info", str(write_clip(tmp_path / "a.mp4")), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["frames"], facts["width"], facts["height"]) == (6, *SIZE)


def test_settings_prints_table_and_json_schema(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["settings"]) == 0
    table, _, document = capsys.readouterr().out.partition("\n\n")
    assert len(table.splitlines()) == len(schema()) + 2
    assert set(json.loads(document)["properties"]) == set(schema())


def test_nothing_heavy_is_loaded_before_it_is_needed() -> None:
    code = "import sys, rerender.cli as c; c.build_parser(); print([m for m in ('torch', 'numba') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"


def _checkpoint_cases(folder: Path, whole: Path) -> dict[str, tuple[Path, str]]:
    cut = folder / "cut.safetensors"
    cut.write_bytes(whole.read_bytes()[:100_000])
    lora = folder / "style.safetensors"
    save_file({"lora_unet_mid_block_attentions_0_proj_in.lora_up.weight": torch.zeros(4, 4)}, lora)
    pickled = folder / "evil.ckpt"
    torch.save({"state_dict": {"x": Path("a")}}, pickled)
    return {
        "missing": (folder / "none.safetensors", "none.safetensors does not exist"),
        "folder": (folder, "is a folder"),
        "truncated": (cut, "truncated"),
        "lora": (lora, "LoRA"),
        "pickled": (pickled, "not opened"),
    }


@pytest.mark.parametrize("case", ["missing", "folder", "truncated", "lora", "pickled"])
def test_bad_checkpoints(capsys: pytest.CaptureFixture[str], tmp_path: Path, tiny_checkpoint: Path, case: str) -> None:
    checkpoint, message = _checkpoint_cases(tmp_path, tiny_checkpoint)[case]
    words = ["run", str(write_clip(tmp_path / "a.mp4")), "--checkpoint", str(checkpoint)]
    assert message in fails(capsys, *words, "--output", str(tmp_path / "o.mp4"))
    assert not (tmp_path / "o.mp4").exists()


def test_a_run_without_a_checkpoint_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.mp4")
    assert "--checkpoint" in fails(capsys, "run", str(clip), "--output", str(tmp_path / "o.mp4"))


def test_an_audio_only_file_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "song.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(bytes(16000))
    assert "song.wav" in fails(capsys, "info", str(path))
