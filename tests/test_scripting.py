"""What scripts rely on: what commands remember and say, what goes to which stream, and what is left behind."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from rerender.cli import main
from rerender.console import LogHandler, TerminalReporter
from rerender.events import Event, Meter
from rerender.files import read_picture, write_png
from rerender.project import Project
from rerender.video.probe import probe
from tests.test_cli import ROOT, SIZE, fails, write_clip

QUICK = ("key_interval=3", "steps=3", "short_side=0", "scene_cuts=off", "workers=1", "propagation_preset=fast")


@pytest.fixture
def clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clip in the working directory."""
    monkeypatch.chdir(tmp_path)
    return write_clip(tmp_path / "a.mp4")


def quick(*settings: str) -> list[str]:
    return [word for setting in (*QUICK, *settings) for word in ("--set", setting)]


def start(checkpoint: Path, *words: str) -> int:
    return main(["run", "a.mp4", "--checkpoint", str(checkpoint), *quick(), "--output", "o.mp4", *words])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--set", "sampler=Eular"], "'Eular'"),
        (["--set", "scheduler=Karas"], "'Karas'"),
        (["--set", "flow=diss"], "'diss'"),
        (["--set", "prompt_timeline=4 a; 2: b"], "'4 a'"),
        (["--prompt", "a <lora:none:1>"], "lora:none"),
        (["--redo", "0", "--redo", "2"], "--redo 2"),
    ],
)
def test_what_is_refused_is_not_remembered(
    capsys: pytest.CaptureFixture[str], clip: Path, tiny_checkpoint: Path, words: list[str], message: str
) -> None:
    assert start(tiny_checkpoint, "--stage", "first") == 0
    before = Path("o.rerender/project.json").read_text()
    assert start(tiny_checkpoint, "--stage", "first", *words) == 2
    assert message in capsys.readouterr().err
    if "--redo" not in words:
        assert Path("o.rerender/project.json").read_text() == before
    assert start(tiny_checkpoint, "--stage", "first") == 0
    with Project(Path("o.rerender")) as project:
        assert project.revision(0) == 0


def test_a_refused_command_leaves_nothing_behind(
    capsys: pytest.CaptureFixture[str], clip: Path, tiny_checkpoint: Path
) -> None:
    assert start(tiny_checkpoint, "--set", "sampler=Eular") == 2
    assert "error: " in fails(capsys, "run", "a.mp4", "--output", "p/o.mp4", "--set", "start_frame=6")
    assert not Path("o.rerender").exists()
    assert not Path("p/o.rerender").exists()


def test_what_changed_and_what_it_costs_is_said(
    capsys: pytest.CaptureFixture[str], clip: Path, tiny_checkpoint: Path
) -> None:
    start(tiny_checkpoint, "--stage", "keys", "--prompt", "ink")
    write_png(Path("o.rerender/keys/000003.png"), np.zeros((SIZE[1], SIZE[0], 3), np.uint8))
    capsys.readouterr()
    start(tiny_checkpoint, "--stage", "keys", "--prompt", "oil", "--set", "workers=2")
    told = capsys.readouterr().err
    assert 'Changed since the last run: prompt "ink" → "oil".' in told
    assert "3 key frames, 1 of them edited by hand, made anew" in told
    start(tiny_checkpoint, "--stage", "keys")
    assert "hanged" not in capsys.readouterr().err
    assert len(list(Path("o.rerender/history").iterdir())) == 3


def test_key_frames_are_told_on_standard_output(
    capsys: pytest.CaptureFixture[str], clip: Path, tiny_checkpoint: Path
) -> None:
    assert start(tiny_checkpoint, "--stage", "first") == 0
    assert capsys.readouterr().out.split() == ["o.rerender/keys/000000.png"]
    for _ in range(2):  # also where all of them are there already
        assert start(tiny_checkpoint, "--stage", "keys", "--quiet") == 0
        captured = capsys.readouterr()
        assert captured.out.split() == [f"o.rerender/keys/{k:06d}.png" for k in (0, 3, 5)]
        assert captured.err == ""
    assert start(tiny_checkpoint, "--stage", "keys", "--json") == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [len(event["paths"]) for event in events if event["event"] == "key_frames"] == [3]


def test_quiet_still_tells_errors(capsys: pytest.CaptureFixture[str], clip: Path) -> None:
    assert "--checkpoint" in fails(capsys, "run", "a.mp4", "--quiet")


def test_a_redo_that_is_asked_for_again_before_it_is_rendered_is_one(
    clip: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert start(tiny_checkpoint, "--stage", "keys") == 0
    before = read_picture(Path("o.rerender/keys/000003.png"))

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("rerender.stages.keys._Loop.render", killed)
        assert start(tiny_checkpoint, "--stage", "keys", "--redo", "3") == 130
    assert start(tiny_checkpoint, "--stage", "keys", "--redo", "3") == 0
    with Project(Path("o.rerender")) as project:
        assert project.revision(3) == 1
    assert (read_picture(Path("o.rerender/keys/000003.png")) != before).any()
    assert start(tiny_checkpoint, "--stage", "keys", "--redo", "3") == 0
    with Project(Path("o.rerender")) as project:
        assert project.revision(3) == 2


def test_an_earlier_version_is_listed_and_brought_back(
    capsys: pytest.CaptureFixture[str], clip: Path, tiny_checkpoint: Path
) -> None:
    for seed in ("5", "6"):
        assert start(tiny_checkpoint, "--stage", "first", "--set", f"seed={seed}") == 0
    key, after = Path("o.rerender/keys/000000.png"), "o.rerender/history"
    (name,) = (path.name for path in Path(after).iterdir())
    former = (Path(after) / name).read_bytes()
    capsys.readouterr()
    assert start(tiny_checkpoint, "--versions", "0") == 0
    assert capsys.readouterr().out.startswith(f"{name}  ")
    assert start(tiny_checkpoint, "--versions", "0", "--json") == 0
    listed = json.loads(capsys.readouterr().out)
    assert (listed["version"], listed["seed"], listed["path"]) == (name, 5, f"{after}/{name}")
    assert listed["differs"] == {}
    for words, message in (
        (["--versions", "3"], "Key frame 3 has no earlier versions"),
        (["--bring-back", "000000.none.png"], "no earlier version '000000.none.png'"),
        (["--bring-back", "none"], "'none' names no version"),
        (["--bring-back", name, "--redo", "0"], "and another picture, too"),
    ):
        assert start(tiny_checkpoint, *words) == 2
        assert message in capsys.readouterr().err
    assert key.read_bytes() != former
    assert start(tiny_checkpoint, "--stage", "first", "--bring-back", name) == 0
    assert key.read_bytes() == former
    assert start(tiny_checkpoint, "--stage", "first", "--set", "steps=4", "--set", "cfg_scale=3") == 0
    capsys.readouterr()
    assert start(tiny_checkpoint, "--versions", "0") == 0
    told = capsys.readouterr().out.splitlines()
    assert len(told) == 2
    assert all("  with steps " in line and "cfg_scale 7.5" in line for line in told)


@pytest.mark.parametrize(("stage", "frame"), [("propagate", "0"), ("first", "3")])
def test_a_redo_that_the_stage_does_not_render_is_refused(
    capsys: pytest.CaptureFixture[str], clip: Path, tiny_checkpoint: Path, stage: str, frame: str
) -> None:
    assert start(tiny_checkpoint, "--stage", "keys") == 0
    capsys.readouterr()
    assert start(tiny_checkpoint, "--stage", stage, "--redo", frame) == 2
    assert f"--redo {frame}" in capsys.readouterr().err
    with Project(Path("o.rerender")) as project:
        assert project.revision(int(frame)) == 0


def test_an_output_of_that_name_in_another_directory_is_not_the_projects_own(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_png(tmp_path / "keys" / "0.png", np.zeros((SIZE[1], SIZE[0], 3), np.uint8))
    words = ["propagate", str(clip), "--keys", str(tmp_path / "keys"), "--project", str(tmp_path / "p"), *quick()]
    assert main([*words, "--output", "o.mp4"]) == 0
    assert main([*words, "--output", str(tmp_path / "o.mp4")]) == 0  # the same file by another path
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    Path("o.mp4").write_text("precious")
    capsys.readouterr()
    assert "--overwrite" in fails(capsys, *words, "--output", "o.mp4")
    assert Path("o.mp4").read_text() == "precious"


@pytest.mark.parametrize("output", ["pictures", "pictures/%06d.png"])
def test_pictures_of_somebody_else_are_not_replaced(
    capsys: pytest.CaptureFixture[str], clip: Path, output: str
) -> None:
    """Numbered pictures with higher numbers are removed from an output: they must be its own."""
    write_png(Path("keys/0.png"), np.zeros((SIZE[1], SIZE[0], 3), np.uint8))
    for number in range(10):
        write_png(Path(f"pictures/{number:06d}.png"), np.full((8, 8, 3), 7, np.uint8))
    words = ["propagate", "a.mp4", "--keys", "keys", *quick(), "--output", output]
    message = fails(capsys, *words)
    assert "000000.png" in message
    assert "--overwrite" in message
    assert [read_picture(path).max() for path in Path("pictures").iterdir()] == [7] * 10
    assert not list(Path().glob("*.rerender"))
    assert main([*words, "--overwrite"]) == 0
    assert len(list(Path("pictures").iterdir())) == 6
    assert main([*words, "--set", "end_frame=4"]) == 0  # its own by now
    assert len(list(Path("pictures").iterdir())) == 4


def test_an_output_that_appears_during_the_run_is_not_replaced(
    capsys: pytest.CaptureFixture[str], clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_png(Path("keys/0.png"), np.zeros((SIZE[1], SIZE[0], 3), np.uint8))
    words = ["propagate", "a.mp4", "--keys", "keys", *quick(), "--output", "o.mp4"]
    with monkeypatch.context() as patched:
        patched.setattr("rerender.stages.propagation.propagate", lambda run: Path("o.mp4").write_text("precious"))
        patched.setattr("rerender.stages.context.RunContext.results", lambda run: iter(()))
        assert main(words) == 2
    assert "exists already" in capsys.readouterr().err
    assert Path("o.mp4").read_text() == "precious"
    assert main([*words, "--overwrite"]) == 0


def test_all_outputs_of_a_project_are_its_own(capsys: pytest.CaptureFixture[str], clip: Path) -> None:
    write_png(Path("keys/0.png"), np.zeros((SIZE[1], SIZE[0], 3), np.uint8))
    words = ["propagate", "a.mp4", "--keys", "keys", *quick()]
    for name in ("o.mp4", "o.gif", "o.mp4"):
        assert main([*words, "--output", name]) == 0
    assert capsys.readouterr().err.endswith("Output: nothing to do, all is there\n")
    Path("o.webm").write_text("precious")
    assert "o.webm" in fails(capsys, *words, "--output", "o.webm")


def test_a_key_frame_is_inspected_from_another_directory(
    tmp_path: Path, clip: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert start(tiny_checkpoint, "--stage", "first") == 0
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    assert main(["inspect", str(tmp_path / "o.rerender"), "--frame", "0", "--output", "views"]) == 0


@pytest.mark.parametrize(
    ("output", "project"),
    [
        ("clip.v1.mp4", "clip.v1.rerender"),
        ("frames", "frames.rerender"),
        ("my.frames/%06d.png", "my.frames.rerender"),
        (".hidden.webm", ".hidden.rerender"),
    ],
)
def test_every_output_has_a_project_of_its_own(clip: Path, output: str, project: str) -> None:
    write_png(Path("keys/0.png"), np.zeros((SIZE[1], SIZE[0], 3), np.uint8))
    assert main(["propagate", "a.mp4", "--keys", "keys", "--output", output, *quick()]) == 0
    assert [path.name for path in Path().glob("*.rerender")] == [project]
    assert not list(Path(output).parent.glob("%*"))


def test_what_a_killed_run_left_half_written_is_removed(tmp_path: Path) -> None:
    folder = tmp_path / "p"
    (folder / "state").mkdir(parents=True)
    rubbish = [folder / ".project.0123abcd.tmp.json", folder / "state" / ".anchor.89abcdef.tmp.safetensors"]
    kept = [folder / ".mine.tmp.json", folder / "notes.txt"]
    for path in (*rubbish, *kept):
        path.touch()
    with Project(folder):
        pass
    assert [path.exists() for path in (*rubbish, *kept)] == [False, False, True, True]


def test_the_settings_of_another_run_are_read_from_its_manifest(
    capsys: pytest.CaptureFixture[str], clip: Path, tiny_checkpoint: Path
) -> None:
    assert start(tiny_checkpoint, "--stage", "first", "--prompt", "ink", "--set", "seed=7") == 0
    words = ["--checkpoint", str(tiny_checkpoint), "--settings", "o.rerender/project.json", "--output", "b.mp4"]
    assert main(["run", "a.mp4", *words, "--stage", "first"]) == 0
    assert "does nothing" not in capsys.readouterr().err  # though all settings are given
    first, second = (Path(f"{name}.rerender/keys/000000.png").read_bytes() for name in ("o", "b"))
    assert first == second


def test_a_settings_file_may_begin_with_a_byte_order_mark(
    capsys: pytest.CaptureFixture[str], clip: Path, tmp_path: Path
) -> None:
    (tmp_path / "s.json").write_text('{"steps": 0}', encoding="utf-8-sig")
    assert "1 to 150" in fails(capsys, "run", "a.mp4", "--settings", "s.json")


def test_a_preset_is_a_start_for_what_is_set(
    capsys: pytest.CaptureFixture[str], clip: Path, tiny_checkpoint: Path
) -> None:
    assert start(tiny_checkpoint, "--stage", "first", "--preset", "fast", "--set", "seed=7") == 0
    with Project(Path("o.rerender")) as project:
        chosen = project.settings
    assert chosen is not None
    assert (chosen.poisson, chosen.propagation_preset, chosen.seed) == (False, "fast", 7)
    assert (chosen.steps, chosen.key_interval) == (3, 3)  # of the command, not 12 and 15 of the preset
    for name, known in (("few", "LCM; Few-step model: Turbo"), ("none", "Balanced")):
        assert start(tiny_checkpoint, "--preset", name) == 2
        assert known in capsys.readouterr().err


def test_settings_are_found_by_a_word(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["settings", "pixel_s", "freeu_b1"]) == 0
    names = [line.split()[1] for line in capsys.readouterr().out.splitlines()[2:]]
    assert names == ["freeu_b1", "pixel_start", "pixel_strength", "pixel_smooth_edges"]
    assert main(["settings", "freeu_b1", "--format", "json"]) == 0
    assert list(json.loads(capsys.readouterr().out)["properties"]) == ["freeu_b1"]
    assert "Did you mean steps?" in fails(capsys, "settings", "stepz")


@pytest.mark.parametrize("words", [["run", ""], ["run", "a.mp4", "--output", ""], ["info", " "]])
def test_an_empty_path_is_not_the_working_directory(
    capsys: pytest.CaptureFixture[str], clip: Path, words: list[str]
) -> None:
    assert "the path is empty" in fails(capsys, *words)


def test_a_key_frame_of_another_size_is_rendered_again_once_it_is_removed(
    capsys: pytest.CaptureFixture[str], clip: Path, tiny_checkpoint: Path
) -> None:
    assert start(tiny_checkpoint, "--stage", "keys") == 0
    key = Path("o.rerender/keys/000003.png")
    before = key.read_bytes()
    write_png(key, np.zeros((8, 8, 3), np.uint8))
    capsys.readouterr()
    assert start(tiny_checkpoint) == 2
    assert "remove it" in capsys.readouterr().err
    key.unlink()
    assert start(tiny_checkpoint) == 0
    assert key.read_bytes() == before


def test_a_missing_settings_file_is_told_in_words(capsys: pytest.CaptureFixture[str], clip: Path) -> None:
    message = fails(capsys, "run", "a.mp4", "--settings", "no.json")
    assert "no.json" in message
    assert "Errno" not in message


def test_a_project_of_a_version_with_other_settings_can_be_used(tmp_path: Path) -> None:
    (tmp_path / "project.json").write_text(
        '{"version": 1, "settings": {"steps": 7, "forgotten": 1}, "keys": {}, "intervals": {}, "stages": {}}'
    )
    with Project(tmp_path) as project:
        assert project.settings is not None
        assert project.settings.steps == 7


@pytest.mark.parametrize(
    ("setting", "needed"),
    [
        ("key_frames=1", "key_mode=listed"),
        ("key_max_gap=9", "key_mode=adaptive"),
        ("mask_feather=2", "a mask"),
        ("freeu_b1=1.2", "freeu=true"),
    ],
)
def test_settings_that_do_nothing_are_told(
    capsys: pytest.CaptureFixture[str], clip: Path, tiny_checkpoint: Path, setting: str, needed: str
) -> None:
    assert start(tiny_checkpoint, "--stage", "first", "--set", setting) == 0
    name = setting.partition("=")[0]
    assert f"The setting {name} does nothing here: it needs {needed}." in capsys.readouterr().err


def test_listed_key_frames_outside_the_range_are_told(
    capsys: pytest.CaptureFixture[str], clip: Path, tiny_checkpoint: Path
) -> None:
    listed = ["--set", "key_mode=listed", "--set", "key_frames=0-2, 4", "--set", "start_frame=2"]
    assert start(tiny_checkpoint, "--stage", "keys", *listed) == 0
    captured = capsys.readouterr()
    assert "not among the frames of the run are left out: 0, 1." in captured.err
    assert captured.out.split() == [f"o.rerender/keys/{k:06d}.png" for k in (2, 4, 5)]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is such a device")
def test_a_device_that_is_missing_has_a_way_out(
    capsys: pytest.CaptureFixture[str], clip: Path, tiny_checkpoint: Path
) -> None:
    assert start(tiny_checkpoint, "--set", "device=cuda") == 2
    assert "auto or cpu" in capsys.readouterr().err


def test_propagation_alone_tells_settings_that_are_for_rendering(
    capsys: pytest.CaptureFixture[str], clip: Path
) -> None:
    write_png(Path("keys/0.png"), np.zeros((SIZE[1], SIZE[0], 3), np.uint8))
    words = ["propagate", "a.mp4", "--keys", "keys", "--output", "o.mp4", "--set", "workers=1"]
    assert main([*words, "--set", "steps=3", "--set", "flow=dis"]) == 0
    told = capsys.readouterr().err
    assert "The setting steps does nothing here" in told
    assert "flow" not in told


def write_frames(folder: str, numbers: list[int]) -> None:
    for number in numbers:
        write_png(Path(folder) / f"{number:04d}.png", np.full((SIZE[1], SIZE[0], 3), 20 * number, np.uint8))


def test_a_folder_plays_at_the_rate_that_is_asked_for(clip: Path) -> None:
    write_frames("frames", [1, 2, 3, 4])
    write_frames("keys", [1])
    words = ["propagate", "frames", "--keys", "keys", "--output", "o.mp4", *quick()]
    assert main(words) == 0
    assert (probe("o.mp4").frames, probe("o.mp4").rate) == (4, 25)
    assert main([*words, "--set", "frame_rate=12.5"]) == 0
    assert (probe("o.mp4").frames, probe("o.mp4").rate) == (4, Fraction(25, 2))


def test_gaps_in_a_folder_and_how_keys_belong_to_it_are_told(capsys: pytest.CaptureFixture[str], clip: Path) -> None:
    write_frames("frames", [1, 2, 5, 6])
    write_frames("keys", [5])
    assert main(["propagate", "frames", "--keys", "keys", "--output", "o.mp4", *quick()]) == 0
    told = capsys.readouterr().err
    assert "The source's pictures lack the numbers 3-4; frames are counted in order, from 0." in told
    assert "The key frames belong to the source's pictures of the same names." in told
    assert [path.name for path in Path("o.rerender/keys").iterdir()] == ["000002.png"]


def test_a_file_whose_name_begins_with_a_dash(capsys: pytest.CaptureFixture[str], clip: Path) -> None:
    clip.rename("-a.mp4")
    assert "./-a.mp4" in fails(capsys, "info", "-a.mp4")
    assert main(["info", "./-a.mp4"]) == 0


def test_progress_in_a_log_file_is_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    log = io.StringIO()
    monkeypatch.setattr("sys.stderr", log)
    now = iter([0.0, 10.0, 31.0, 40.0, 62.0])
    reporter = TerminalReporter(clock=lambda: next(now))
    for done in range(5):
        data = {"stage": "keys", "done": done + 0.5, "total": 6, "unit": "key frames", "eta_seconds": 90 - 10 * done}
        reporter.emit(Event("progress", data))
    assert log.getvalue().splitlines() == [
        "Key frames: 2 of 6 key frames, 01:10 left",
        "Key frames: 4 of 6 key frames, 00:50 left",
    ]


def test_the_remaining_time_is_not_taken_in_by_frames_that_arrive_at_once() -> None:
    """Two intervals of 4 frames in worker processes, each of which takes 8 seconds."""
    now, left = [0.0], list[float | None]()
    meter = Meter(lambda event: left.append(event.data["eta_seconds"]), "propagate", 12, "frames", clock=lambda: now[0])
    for now[0] in (8.0, 16.0):
        for frame in range(4):
            meter.advance(measured=frame == 3)
    assert left == [None, None, None, None, 16.0, 8.0, 8.0, 8.0, 8.0]
    now[0] = 30.0
    meter.advance(measured=False)
    assert left[-1] == 0.0


def test_a_reader_that_has_seen_enough_ends_a_command_without_a_word(clip: Path) -> None:
    code = "import sys; from rerender.cli import main; sys.exit(main(['settings']))"
    words = [sys.executable, "-c", code]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(60) == 1


def test_a_panel_without_its_checkpoint_is_not_announced(capsys: pytest.CaptureFixture[str], clip: Path) -> None:
    fails(capsys, "ui", "--checkpoint", "none.safetensors")


def test_a_warning_is_told_once_and_without_names_of_modules(capsys: pytest.CaptureFixture[str]) -> None:
    log = logging.Logger("rerender.somewhere")
    log.addHandler(LogHandler(verbose=False))
    for _ in range(3):
        log.warning("the weight is %s", "odd")
    assert capsys.readouterr().err == "warning: the weight is odd\n"


def test_a_missing_folder_of_lora_files_is_refused(
    capsys: pytest.CaptureFixture[str], clip: Path, tiny_checkpoint: Path
) -> None:
    assert start(tiny_checkpoint, "--lora-dir", "nowhere", "--stage", "first") == 2
    assert "nowhere" in capsys.readouterr().err
    assert not Path("o.rerender").exists()


def test_one_is_no_plural(capsys: pytest.CaptureFixture[str]) -> None:
    facts = {"frames": 1, "width": 64, "height": 48, "key_frames": 1, "shots": 1}
    TerminalReporter().emit(Event("plan", facts))
    assert capsys.readouterr().err == "1 frame at 64x48, 1 key frame\n"
