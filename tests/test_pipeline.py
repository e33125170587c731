"""Whole runs on the standalone host with a tiny checkpoint: stages, resume, redo, what a change invalidates."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from rerender.errors import Interrupted, UserError
from rerender.events import Event, counted
from rerender.files import file_digest, read_picture, write_png
from rerender.hosts.standalone import StandaloneHost, load_host
from rerender.pipeline import prepare, redo, run_stage
from rerender.project import Project
from rerender.settings import make_settings
from rerender.stages import propagation, references
from rerender.stages.keys import _Loop
from rerender.stages.references import ReferenceStore
from rerender.video.probe import probe
from tests.test_cli import write_clip

SETTINGS: dict[str, Any] = {
    "prompt": "ink",
    "short_side": 0,
    "key_interval": 3,
    "steps": 4,
    "scene_cuts": False,
    "device": "cpu",
    "workers": 1,
    "propagation_preset": "fast",
}
FRAMES = 8
KEYS = [0, 3, 6, 7]


@pytest.fixture(scope="session")
def host(tiny_checkpoint: Path) -> StandaloneHost:
    return load_host(tiny_checkpoint, device="cpu")


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", FRAMES)


class Run:
    """One project on disk, run as often as a test wants."""

    def __init__(self, folder: Path, clip: Path, host: StandaloneHost) -> None:
        self.folder, self.clip, self.host = folder, clip, host
        self.output = folder / "out.mp4"
        self.events: list[Event] = []

    def __call__(self, stage: Any = "all", again: tuple[int, ...] = (), stop_after: int = 10**9, **values: Any) -> None:
        self.events = []
        with Project(self.folder) as project:
            settings = make_settings({**SETTINGS, **values})
            run = prepare(
                project,
                self.clip,
                settings,
                host=self.host,
                emit=self.events.append,
                cancelled=lambda: self.count("progress") > stop_after,
            )
            for frame in again:
                redo(run, frame)
            run_stage(run, stage, self.output)

    def count(self, kind: str) -> int:
        return sum(event.kind == kind for event in self.events)

    @property
    def notes(self) -> list[str]:
        return [event.data["text"] for event in self.events if event.kind == "note"]

    @property
    def rendered(self) -> list[int]:
        """Key frames that the last run rendered."""
        return [event.data["frame"] for event in self.events if event.kind == "key_frame"]

    @property
    def propagated(self) -> list[str]:
        return [f"{event.data['first']}-{event.data['last']}" for event in self.events if event.kind == "frames"]

    @property
    def hashes(self) -> dict[str, str]:
        """Content of everything that is a result."""
        files = [*(self.folder / "keys").glob("*.png"), *(self.folder / "frames").glob("*.png")]
        return {path.name: file_digest(path) for path in files}


@pytest.fixture
def run(tmp_path: Path, clip: Path, host: StandaloneHost) -> Run:
    return Run(tmp_path / "p", clip, host)


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory, clip: Path, host: StandaloneHost) -> Run:
    """An undisturbed run of everything."""
    run = Run(tmp_path_factory.mktemp("reference") / "p", clip, host)
    run()
    return run


def test_an_interval_that_is_too_large_for_memory_is_told(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run("keys")
    monkeypatch.setattr(propagation.psutil, "virtual_memory", lambda: SimpleNamespace(available=2**20))
    run("propagate")
    assert any("0.0 GB are free" in note and "The 4 frames 0-3 need about" in note for note in run.notes)


def test_a_run_makes_every_frame_with_the_timestamps_of_the_source(reference: Run) -> None:
    assert reference.rendered == KEYS
    assert reference.propagated == ["0-3", "3-6"]
    assert sorted(reference.hashes) == [f"{k:06d}.png" for k in range(FRAMES)]
    assert probe(reference.output).timestamps == probe(reference.clip).timestamps
    manifest = json.loads((reference.folder / "project.json").read_text(encoding="utf-8"))
    assert manifest["stages"] == {"keys": "done", "propagate": "done", "output": "done"}


def test_the_size_of_the_bank_is_told_once(reference: Run, run: Run) -> None:
    run("keys")
    assert [note for note in run.notes if "MB" in note] == [
        "Features of the reference frames: at most 0 MB, beside the model"
    ]
    run("keys", attention=False)
    assert not any("MB" in note for note in run.notes)


def test_key_frames_are_not_their_sources_and_differ_with_the_seed(reference: Run, run: Run) -> None:
    run("first", seed=5)
    other = read_picture(run.folder / "keys" / "000000.png").astype(int)
    mine = read_picture(reference.folder / "keys" / "000000.png").astype(int)
    assert np.abs(other - mine).mean() > 1


def test_stages_one_by_one_give_the_bytes_of_all_at_once(reference: Run, run: Run) -> None:
    run("first")
    assert run.rendered == [0]
    with pytest.raises(UserError, match="3 of 4 key frames are not rendered yet"):
        run("propagate")
    run("keys")
    assert run.rendered == KEYS[1:]
    run("propagate")
    assert run.hashes == reference.hashes
    assert file_digest(run.output) == file_digest(reference.output)


def test_running_again_does_nothing(reference: Run) -> None:
    before = reference.hashes, reference.output.stat().st_mtime_ns
    reference()
    assert (reference.rendered, reference.propagated) == ([], [])
    assert (reference.hashes, reference.output.stat().st_mtime_ns) == before


@pytest.mark.parametrize("stop_after", [2, 5, 9, 15, 24, 30])
def test_an_interrupted_run_goes_on_with_the_same_bytes(reference: Run, run: Run, stop_after: int) -> None:
    with pytest.raises(Interrupted):
        run(stop_after=stop_after)
    run()
    assert run.hashes == reference.hashes


def test_without_stored_features_a_resumed_run_gives_the_same_bytes(reference: Run, run: Run) -> None:
    with pytest.raises(Interrupted):
        run("keys", stop_after=11, keep_state=False)
    done = len(list((run.folder / "keys").glob("*.png")))
    assert 1 <= done < len(KEYS)
    run(keep_state=False)
    assert run.rendered == KEYS[done:]
    assert run.hashes == reference.hashes


@pytest.mark.parametrize("part", ["anchor", "since-anchor"])
def test_a_damaged_state_is_made_anew(reference: Run, run: Run, monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    monkeypatch.setattr(ReferenceStore, "is_due", property(lambda _: True))  # also where the disk is slow
    with pytest.raises(Interrupted):
        run("keys", stop_after=15)
    state = run.folder / "state" / f"{part}.safetensors"
    state.write_bytes(state.read_bytes()[:1000])
    run()
    assert run.hashes == reference.hashes


def test_a_run_goes_on_from_an_older_state(reference: Run, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    due = iter([True, False, False])
    monkeypatch.setattr(ReferenceStore, "is_due", property(lambda _: next(due, False)))
    with pytest.raises(Interrupted):
        run("keys", stop_after=15)
    done = len(run.rendered)
    assert 2 <= done < len(KEYS)
    assert [path.name for path in (run.folder / "state").iterdir()] == ["anchor.safetensors"]
    run()
    assert run.rendered == KEYS[done:]
    assert f"Rendering {counted(done - 1, 'earlier key frame')} again, for the features" in run.notes
    assert run.hashes == reference.hashes


@pytest.mark.parametrize(
    ("before", "again"),
    [
        ({"attention": False}, 1),
        ({"attention_layers": "loose"}, 1),
        ({"attention_end": 0.3}, 1),
        ({"attention_references": "anchor"}, 0),
        ({"attention_tokens": "checkerboard"}, 0),
    ],
)
def test_references_that_lack_what_attention_needs_now_are_made_anew(
    reference: Run, run: Run, before: dict[str, Any], again: int
) -> None:
    """The first key frame is the same picture with other settings of attention, but less of it was kept."""
    run("first", **before)
    run()
    assert run.rendered == KEYS[1:]
    assert sum("Rendering 1 earlier key frame again" in note for note in run.notes) == again
    assert run.hashes == reference.hashes


def test_a_run_goes_on_without_a_state_that_cannot_be_stored(
    reference: Run, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise UserError("No space left.")

    monkeypatch.setattr(references, "write_tensors", refuse)
    run()
    assert run.hashes == reference.hashes
    assert sum("No space left" in note for note in run.notes) == 1


@pytest.mark.parametrize("setting", [{"guide_color": 1.0}, {"propagation_flow": "dis_fast"}])
def test_a_setting_of_the_propagation_leaves_the_key_frames(run: Run, setting: dict[str, object]) -> None:
    run()
    before = run.hashes
    run(**setting)
    assert run.rendered == []
    assert run.propagated == ["0-3", "3-6"]
    assert {name: mark for name, mark in run.hashes.items() if int(name[:6]) in KEYS} == {
        name: mark for name, mark in before.items() if int(name[:6]) in KEYS
    }


def test_a_constraint_leaves_the_anchor_and_a_prompt_nothing(run: Run) -> None:
    run("keys")
    run("keys", color_adain=False)
    assert run.rendered == KEYS[1:]
    run("keys", color_adain=False, prompt="oil")
    assert run.rendered == KEYS
    assert len(list((run.folder / "history").iterdir())) == 3 + 4


def test_another_prompt_of_the_timeline_leaves_the_key_frames_before_it(run: Run) -> None:
    run("keys", prompt_timeline="3: oil; 6: pencil")
    assert run.rendered == KEYS
    run("keys", prompt_timeline="3: oil; 6: chalk")
    assert run.rendered == [6, 7]
    run("first", prompt="pastel", prompt_timeline="3: oil; 6: chalk")  # holds before the first entry
    assert run.rendered == [0]


def test_another_file_under_the_name_of_a_lora_reaches_the_key_frames_of_its_prompt(
    run: Run, host: StandaloneHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    def identity(prompts: Sequence[str] = ()) -> dict[str, str]:
        return {"checkpoint": "a", **({"lora:x": version} if any("chalk" in prompt for prompt in prompts) else {})}

    monkeypatch.setattr(host, "identity", identity)
    version = "1"
    run("keys", prompt_timeline="6: chalk")
    version = "2"
    run("keys", prompt_timeline="6: chalk")
    assert run.rendered == [6, 7]


def test_a_longer_range_keeps_what_is_there(run: Run) -> None:
    run(end_frame=7)
    assert run.rendered == [0, 3, 6]
    run()
    assert run.rendered == [7]
    assert run.propagated == []


def test_one_key_frame_can_be_redone(run: Run) -> None:
    run()
    before = run.hashes
    run(again=(3,))
    assert run.rendered == [3]
    assert run.propagated == ["0-3", "3-6"]
    changed = {int(name[:6]) for name in before if before[name] != run.hashes[name]}
    assert changed == {1, 2, 3, 4, 5}
    assert [path.name[:6] for path in (run.folder / "history").iterdir()] == ["000003"]
    run()
    assert run.rendered == []


def test_an_earlier_version_is_used_like_a_picture_edited_by_hand(run: Run) -> None:
    run()
    before = run.hashes
    run(again=(3,))
    with Project(run.folder) as project:
        (version,) = project.history.versions(3)
        key = project.key(3)
        assert key is not None
        assert key.seed == 1 + (version.seed or 0)
        project.bring_back(3, version.name)
    run()
    assert run.rendered == []
    assert run.propagated == ["0-3", "3-6"]
    assert run.hashes == before


def test_a_redo_that_is_stopped_stores_no_short_cut(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A redo makes do with the anchor and its predecessor; a later run must not take them for its own references."""
    run("keys", keep_state=False)
    follow = _Loop._follow_to

    def stopped_at_the_redone_frame(loop: _Loop, frame: int) -> np.ndarray:
        if frame == KEYS[-1]:
            raise Interrupted
        return follow(loop, frame)

    monkeypatch.setattr(_Loop, "_follow_to", stopped_at_the_redone_frame)
    with pytest.raises(Interrupted):
        run("keys", again=(KEYS[-1],))
    assert "Rendering 2 earlier key frames again, for the features" in run.notes  # 0 and 6, but not 3
    assert not list((run.folder / "state").glob("*.safetensors"))


def test_a_redone_anchor_is_rendered_with_its_own_seed_again_for_its_features(tmp_path, clip, host) -> None:
    kept, lost = Run(tmp_path / "kept", clip, host), Run(tmp_path / "lost", clip, host)
    for run, keep_state in ((kept, True), (lost, False)):
        run("first", keep_state=keep_state)
        run("first", again=(0,), keep_state=keep_state)
        run("keys", keep_state=keep_state)
    assert [sum("again, for the features" in note for note in run.notes) for run in (kept, lost)] == [0, 1]
    assert kept.hashes == lost.hashes


def test_redoing_something_else_is_refused(run: Run) -> None:
    with pytest.raises(UserError, match=r"Frame 4 is not a key frame.*0, 3, 6, 7".replace(r".*", r"[\s\S]*")):
        run("keys", again=(4,))


def test_a_key_frame_edited_by_hand_is_used(run: Run) -> None:
    run()
    path = run.folder / "keys" / "000006.png"
    edited = 255 - read_picture(path)
    write_png(path, edited)
    run()
    assert run.rendered == []
    assert run.propagated == ["3-6"]
    np.testing.assert_array_equal(read_picture(path), edited)


@pytest.mark.parametrize(("frames", "interval"), [(1, 10), (2, 10), (5, 1), (5, 2)])
def test_short_clips_and_every_frame_a_key(tmp_path: Path, host: StandaloneHost, frames: int, interval: int) -> None:
    run = Run(tmp_path / "p", write_clip(tmp_path / "c.mp4", frames), host)
    run(key_interval=interval)
    assert len(run.hashes) == frames
    assert probe(run.output).frames == frames


def test_a_run_without_a_checkpoint_says_so(tmp_path: Path, clip: Path) -> None:
    with Project(tmp_path) as project:
        run = prepare(project, clip, make_settings(SETTINGS), host=None)
        with pytest.raises(UserError, match="checkpoint"):
            run_stage(run, "keys", tmp_path / "o.mp4")


# A killed process


def start(clip: Path, checkpoint: Path, folder: Path) -> subprocess.Popen[str]:
    sets = [f"--set={name}={value}" for name, value in SETTINGS.items()]
    words = ["run", str(clip), "--checkpoint", str(checkpoint), "--project", str(folder), "--json"]
    return subprocess.Popen(
        [sys.executable, "-m", "rerender", *words, "--output", str(folder / "out.mp4"), *sets],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parent.parent,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def kill_after(process: subprocess.Popen[str], wanted: str, number: int) -> None:
    """Kill the process hard when it reports the `number`-th event of a kind."""
    assert process.stdout is not None
    for line in process.stdout:
        number -= json.loads(line)["event"] == wanted
        if number == 0:
            process.kill()
            break
    process.wait(60)


def test_a_killed_run_goes_on_with_the_same_bytes(
    reference: Run, tmp_path: Path, clip: Path, tiny_checkpoint: Path, host: StandaloneHost
) -> None:
    """Killed in the first key frame, in a later one, in the propagation, and while the file is written."""
    folder = tmp_path / "p"
    for event, number in (("progress", 2), ("key_frame", 2), ("frames", 1), ("progress", 4)):
        kill_after(start(clip, tiny_checkpoint, folder), event, number)
    run = Run(folder, clip, host)
    run()
    assert run.hashes == reference.hashes
    assert file_digest(run.output) == file_digest(reference.output)
    leftovers = [path for path in folder.rglob("*") if ".tmp" in path.name and path.suffix == ".png"]
    assert len(leftovers) <= 4  # a hard kill may leave a hidden temporary file, never a broken result


def test_an_interrupt_ends_with_130_and_keeps_everything(tmp_path: Path, clip: Path, tiny_checkpoint: Path) -> None:
    process = start(clip, tiny_checkpoint, tmp_path / "p")
    assert process.stdout is not None
    events = []
    for line in process.stdout:
        events.append(json.loads(line))
        if events[-1]["event"] == "key_frame" and len([e for e in events if e["event"] == "key_frame"]) == 1:
            process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    assert events[-1]["exit_status"] == 130
    with Project(tmp_path / "p") as project:
        assert project.key(0) is not None


def test_the_log_of_events_is_complete(reference: Run, run: Run) -> None:
    run()
    stages = [(e.data["stage"], e.data["state"]) for e in run.events if e.kind == "stage"]
    names = ("keys", "propagate", "output")
    assert stages == [(name, state) for name in names for state in ("started", "done")]
    for name in names:
        last = [e.data for e in run.events if e.kind == "progress" and e.data["stage"] == name][-1]
        assert last["done"] == last["total"]
    json.dumps([event.as_json() for event in run.events])


def test_frames_up_to_the_next_key_frame_are_read_once_and_followed_in_a_thread(tmp_path, clip, host, monkeypatch):
    """Beside sampling, in order; and the same bytes as key frames that are rendered one run at a time."""
    import threading

    from rerender.video.read import FrameSource

    read: list[tuple[int, str]] = []
    plain = FrameSource._source_frame

    def watched(self, index):
        read.append((index, threading.current_thread().name))
        return plain(self, index)

    monkeypatch.setattr(FrameSource, "_source_frame", watched)
    whole = Run(tmp_path / "whole", clip, host)
    whole("keys", key_interval=4)
    assert [index for index, thread in read if thread == "ahead"] == [1, 2, 3, 4, 5, 6, 7]
    assert [index for index, thread in read if thread != "ahead"] == [0]
    assert not [thread for thread in threading.enumerate() if thread.name == "ahead"]
    pieces = Run(tmp_path / "pieces", clip, host)
    pieces("first", key_interval=4)
    pieces("keys", key_interval=4)
    for key in (0, 4, 7):
        assert file_digest(whole.folder / "keys" / f"{key:06d}.png") == file_digest(
            pieces.folder / "keys" / f"{key:06d}.png"
        )


def seeds_of(run: Run, monkeypatch: pytest.MonkeyPatch, **values: Any) -> list[int]:
    """Seeds, counted from that of the settings, of all that the stage keys renders."""
    asked, usual = list[int](), run.host.render

    def render(request: Any, **more: Any) -> Any:
        asked.append(request.seed - SEED)
        return usual(request, **more)

    with monkeypatch.context() as patch:
        patch.setattr(run.host, "render", render)
        run("keys", seed=SEED, **values)
    return asked


SEED = 5


def bring_back(run: Run, frame: int, seed: int) -> None:
    with Project(run.folder) as project:
        name = next(v.name for v in project.history.versions(frame) if v.seed == SEED + seed)
        project.bring_back(frame, name)


def test_a_later_key_frame_takes_the_features_of_the_version_that_was_brought_back(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("keys", seed=SEED, end_frame=7)
    run("keys", seed=SEED, end_frame=7, again=(6,))
    bring_back(run, 6, 0)
    shutil.copytree(run.folder, run.folder.with_name("first"))
    first = Run(run.folder.with_name("first"), run.clip, run.host)
    assert seeds_of(first, monkeypatch) == [0]  # key frame 7 alone: the features of the first rendering are stored
    bring_back(run, 6, 1)
    assert seeds_of(run, monkeypatch) == [0, 1, 0]  # key frames 3 and 6 for the features, then 7
    assert run.rendered == [7]
    assert file_digest(run.folder / "keys/000007.png") != file_digest(first.folder / "keys/000007.png")
    again = Run(run.folder.with_name("again"), run.clip, run.host)
    shutil.copytree(run.folder, again.folder)
    shutil.rmtree(again.folder / "state")
    (again.folder / "keys/000007.png").unlink()
    assert seeds_of(again, monkeypatch) == [0, 0, 1, 0]  # all of the shot, where nothing is stored
    assert again.hashes == run.hashes


def test_an_anchor_that_was_brought_back_is_rendered_with_its_seed_for_the_later_ones(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("first", seed=SEED)
    run("first", seed=SEED, again=(0,))
    bring_back(run, 0, 0)
    assert seeds_of(run, monkeypatch) == [0, 0, 0, 0]  # the anchor for its features, then 3, 6 and 7
    assert run.rendered == [3, 6, 7]


def test_a_version_without_a_seed_lends_its_pixels_alone(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run("keys", seed=SEED, end_frame=7)
    shutil.copyfile(run.folder / "keys/000003.png", run.folder / "keys/000006.png.keep")
    (run.folder / "history").mkdir()
    shutil.move(run.folder / "keys/000006.png.keep", run.folder / "history/000006.other.png")
    with Project(run.folder) as project:
        project.bring_back(6, "000006.other.png")
    assert seeds_of(run, monkeypatch) == [0]
