from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rerender import planning
from rerender.errors import Interrupted, UserError
from rerender.external import find_keys, plan_around
from rerender.files import write_png
from rerender.fingerprints import interval_fingerprint, key_fingerprints, output_fingerprint
from rerender.planning import Plan, plan_run
from rerender.settings import make_settings
from rerender.translate.timeline import parse_timeline, prompt_at
from rerender.video.probe import VideoInfo


def clip(frames: int, width: int = 64, height: int = 48) -> VideoInfo:
    """A clip of 10 frames a second that nobody has to decode."""
    return VideoInfo(
        path=Path("clip.mp4"),
        kind="file",
        width=width,
        height=height,
        timestamps=tuple(Fraction(k, 10) for k in range(frames)),
        duration=Fraction(frames, 10),
        rate=Fraction(10),
        is_variable=False,
        codec="h264",
    )


def plan(frames: int, **values: object) -> Plan:
    chosen = make_settings({"scene_cuts": False, "short_side": 0, **values})
    return plan_run(clip(frames), "hash", chosen, analysis={}, cancelled=lambda: False)[0]


@settings(max_examples=60)
@given(frames=st.integers(1, 60), interval=st.integers(1, 70), start=st.integers(0, 59))
def test_every_frame_is_a_key_frame_or_propagated_exactly_once(frames: int, interval: int, start: int) -> None:
    start %= frames
    made = plan(frames, key_interval=interval, start_frame=start)
    inner = [frame for stretch in made.intervals for frame in stretch.inner]
    assert sorted([*made.keys, *inner]) == list(range(start, frames))
    assert {made.keys[0], made.keys[-1]} == {start, frames - 1}


def test_listed_key_frames_are_numbers_in_the_source() -> None:
    made = plan(30, key_mode="listed", key_frames="12, 20-24:2", start_frame=10, end_frame=26)
    assert made.keys == (10, 12, 20, 22, 24, 25)


def adaptive(monkeypatch: pytest.MonkeyPatch, motion: list[float], cuts: list[int], **values: object) -> Plan:
    monkeypatch.setattr(planning, "_pass_over", lambda *_: (cuts, motion))
    return plan(len(motion), key_mode="adaptive", scene_cuts=bool(cuts), **values)


def test_adaptive_key_frames_stand_denser_where_more_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    motion = [0.0] + [0.1] * 20 + [2.0] * 20
    made = adaptive(monkeypatch, motion, [], key_min_gap=2, key_max_gap=15, key_motion=4.0)
    assert made.keys == (0, 15, *range(22, 41, 2))


def test_the_jump_at_a_cut_is_no_motion(monkeypatch: pytest.MonkeyPatch) -> None:
    motion = [0.0] + [0.2] * 30
    motion[11] = 80.0
    made = adaptive(monkeypatch, motion, [11], key_min_gap=3, key_max_gap=10, key_motion=4.0)
    assert made.shots == ((0, 10), (11, 21, 30))


@pytest.mark.parametrize(("threshold", "keys"), [(2.0, tuple(range(0, 13, 2))), (6.0, (0, 6, 12)), (50.0, (0, 12))])
def test_the_motion_of_an_adaptive_key_frame_is_a_setting(monkeypatch, threshold: float, keys: tuple[int, ...]) -> None:
    made = adaptive(monkeypatch, [0.0] + [1.0] * 12, [], key_min_gap=1, key_max_gap=12, key_motion=threshold)
    assert made.keys == keys


def test_cuts_are_numbers_in_the_source(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are found among the frames of the run, which may begin later."""
    monkeypatch.setattr(planning, "_pass_over", lambda *_: ([5], []))
    made = plan(20, scene_cuts=True, start_frame=4)
    assert (made.cuts, made.shots) == ((9,), ((4, 8), (9, 19)))


@pytest.mark.parametrize("frames", [1, 2])
def test_adaptive_key_frames_of_the_shortest_clips(frames: int) -> None:
    assert plan(frames, key_mode="adaptive").keys == tuple(range(frames))


def test_listed_without_a_list_is_refused() -> None:
    with pytest.raises(UserError, match="needs frame numbers"):
        plan(30, key_mode="listed")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"limit_frames": 20}, ["30 frames", "limit is 20", "limit_frames=30"]),
        ({"limit_key_frames": 3}, ["4 key frames", "limit is 3", "limit_key_frames=4"]),
        ({"short_side": 7}, ["8x8 pixels", "16 at least", "Raise short_side"]),
        ({"limit_long_side": 32}, ["64 pixels", "limit is 32", "limit_long_side=64"]),
        ({"start_frame": 30}, ["30"]),
        ({"end_frame": 31}, ["31"]),
        ({"crop_left": 64}, ["crop", "64"]),
    ],
)
def test_limits_bite_with_a_clear_message(values: dict[str, object], words: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        plan(30, **values)
    for word in words:
        assert word in str(caught.value)


def test_a_limit_of_zero_is_none() -> None:
    assert len(plan(30, limit_frames=0, limit_key_frames=0, limit_long_side=0).frames) == 30


def test_a_cancelled_analysis_stops(tmp_path: Path) -> None:
    from rerender.video.probe import probe

    for number in range(4):
        write_png(tmp_path / f"{number}.png", np.full((16, 16, 3), number, np.uint8))
    with pytest.raises(Interrupted):
        plan_run(probe(tmp_path), "hash", make_settings({"short_side": 0}), analysis={}, cancelled=lambda: True)


# Fingerprints: what a change reaches


def prints(made: Plan, revisions: dict[int, int] | None = None, **values: object) -> dict[int, str]:
    chosen = make_settings(values)
    return key_fingerprints(
        made, chosen, lambda prompt: {"checkpoint": "a"}, lambda frame: (revisions or {}).get(frame, 0)
    )


def test_a_constraint_leaves_the_anchor_alone() -> None:
    made = plan(30)
    before, after = prints(made), prints(made, pixel_strength=0.2)
    assert {key for key in before if before[key] != after[key]} == {10, 20, 29}


def test_prompt_and_model_reach_everything_and_limits_nothing() -> None:
    made = plan(30)
    before = prints(made)
    assert not set(before.values()) & set(prints(made, prompt="ink").values())
    assert before == prints(made, limit_frames=7, workers=3, device="cpu")
    other = key_fingerprints(made, make_settings({}), lambda prompt: {"checkpoint": "b"}, lambda frame: 0)
    assert not set(before.values()) & set(other.values())


def timed_prints(made: Plan, timeline: str, lora: str = "1", **values: object) -> dict[int, str]:
    """As a run has them; the LoRA file "ink" may be another one under its name."""
    entries = parse_timeline(timeline)

    def model(prompt: str) -> dict[str, str]:
        return {"checkpoint": "a", **({"lora:ink": lora} if "ink" in prompt else {})}

    def prompt(frame: int) -> str:
        return prompt_at(entries, frame, "plain")

    chosen = make_settings({"prompt": "plain", "prompt_timeline": timeline, **values})
    return key_fingerprints(made, chosen, model, lambda frame: 0, prompt if entries else None)


def test_a_prompt_of_the_timeline_reaches_the_frames_it_holds_for_and_those_behind_them() -> None:
    made = plan(40)
    before = timed_prints(made, "10: a; 20: b")
    for timeline, changed in (
        ("10: a; 20: c", [20, 30, 39]),
        ("10: a; 20: b; 30: c", [30, 39]),
        ("10: c; 20: b", [10, 20, 30, 39]),
        (" 10:a;20 : b ; 25: b", []),
        ("5: d; 10: a; 20: b", []),  # for no key frame
    ):
        after = timed_prints(made, timeline)
        assert [key for key in made.keys if before[key] != after[key]] == changed
    assert {key for key in made.keys if before[key] == timed_prints(made, "")[key]} <= {0}


def test_a_lora_of_the_timeline_reaches_the_frames_of_its_prompt() -> None:
    made = plan(40)
    one, two = (timed_prints(made, "20: ink; 30: b", lora=lora) for lora in "12")
    assert [key for key in made.keys if one[key] != two[key]] == [20, 30, 39]


def test_another_key_frame_reaches_only_those_behind_it() -> None:
    one = prints(plan(30, key_mode="listed", key_frames="10, 20"))
    two = prints(plan(30, key_mode="listed", key_frames="10, 15, 20"))
    assert [one[0], one[10]] == [two[0], two[10]]
    assert one[20] != two[20]


def test_the_seed_mode_reaches_each_frame_whose_seed_it_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first key frame of a later shot is an anchor too, but not of frame 0."""
    monkeypatch.setattr(planning, "_pass_over", lambda *_: ([10], []))
    made = plan(20, scene_cuts=True)
    assert made.shots == ((0, 9), (10, 19))
    before, after = prints(made), prints(made, seed_mode="per_frame")
    assert [key for key in made.keys if before[key] == after[key]] == [0]


def test_a_redone_key_frame_changes_its_shot_only_if_it_is_the_anchor() -> None:
    made = plan(30)
    assert prints(made, {10: 1}) == prints(made)
    assert not set(prints(made, {0: 1}).values()) & set(prints(made).values())


def test_propagation_depends_on_the_content_of_its_key_frames_and_its_own_settings() -> None:
    made = plan(30)
    first = made.intervals[0]

    def mark(ends: tuple[str, str] = ("a", "b"), **values: object) -> str:
        return interval_fingerprint(made, make_settings(values), first, ends)

    assert mark() == mark(prompt="ink", quality=30)
    assert len({mark(), mark(("a", "c")), mark(propagation_preset="fast"), mark(propagation_flow="dis_fast")}) == 4


def test_only_what_follows_a_flow_depends_on_it() -> None:
    made = plan(30)

    def mark(**values: object) -> str:
        return interval_fingerprint(made, make_settings(values), made.intervals[0], ("a", "b"))

    def keys(**values: object) -> dict[int, str]:
        return key_fingerprints(made, make_settings(values), lambda prompt: {"checkpoint": "a"}, lambda frame: 0)

    assert keys(propagation_flow="dis_fast") == keys(propagation_flow="same") == keys()
    assert keys(flow="dis_fast") != keys()
    assert mark(flow="dis_fast", propagation_flow="dis") == mark(propagation_flow="dis")
    assert mark(flow="dis_fast", propagation_flow="same") == mark(propagation_flow="dis_fast")
    assert output_fingerprint(made, make_settings({"flow": "dis"}), ["a"]) == output_fingerprint(
        made, make_settings({"flow": "dis_fast"}), ["a"]
    )


def test_the_file_depends_on_its_parts_and_its_own_settings() -> None:
    made = plan(30)
    base = output_fingerprint(made, make_settings({}), ["a"])
    assert base == output_fingerprint(made, make_settings({"propagation_preset": "fast"}), ["a"])
    assert base != output_fingerprint(made, make_settings({"quality": 30}), ["a"])
    assert base != output_fingerprint(made, make_settings({}), ["b"])


# Key frames styled elsewhere


def write_keys(folder: Path, sizes: dict[str, tuple[int, int]]) -> None:
    for name, (width, height) in sizes.items():
        write_png(folder / name, np.zeros((height, width, 3), np.uint8))


def around(folder: Path, frames: int = 30, **values: object) -> Plan:
    chosen = make_settings({"scene_cuts": False, **values})
    return plan_around(find_keys(folder), clip(frames), "hash", chosen, analysis={}, cancelled=lambda: False)[0]


def test_given_key_frames_cover_the_whole_clip(tmp_path: Path) -> None:
    write_keys(tmp_path, {"style v2 0007.png": (64, 48), "x_12.PNG": (64, 48), "notes.png": (1, 1)})
    made = around(tmp_path)
    assert [(i.name, i.first_key, i.last_key) for i in made.intervals] == [
        ("0-7", False, True),
        ("7-12", True, True),
        ("12-29", True, False),
    ]
    inner = [frame for stretch in made.intervals for frame in stretch.inner]
    assert sorted([7, 12, *inner]) == list(range(30))


def test_a_cut_lies_in_the_interval_that_it_ends_not_in_the_one_that_it_begins(tmp_path: Path) -> None:
    write_keys(tmp_path, {"7.png": (64, 48), "12.png": (64, 48)})
    made = replace(around(tmp_path), cuts=(3, 12, 20))
    assert [interval.cuts for interval in made.intervals] == [(3,), (5,), (8,)]


def test_a_number_that_all_names_share_is_no_frame_number(tmp_path: Path) -> None:
    write_keys(tmp_path, {"key_7_v2.png": (64, 48), "key_12_v2.png": (64, 48)})
    assert around(tmp_path).keys == (7, 12)


def test_key_frames_named_as_the_sources_pictures_belong_to_them(tmp_path: Path) -> None:
    """Numbers of frame folders seldom begin with 0; what EbSynth calls 0010.png is the source's 0010.png."""
    pictures = [Path(f"{k:04d}.png") for k in range(1, 30)]
    write_keys(tmp_path, {"0001.png": (64, 48), "0010.jpg.png": (64, 48)})
    found = find_keys(tmp_path, pictures)
    assert (sorted(found.files), found.by_name) == ([1, 10], False)  # one has no such picture: counted from 0
    (tmp_path / "0010.jpg.png").rename(tmp_path / "0010.png")
    found = find_keys(tmp_path, pictures)
    assert (sorted(found.files), found.by_name) == ([0, 9], True)
    from_zero = find_keys(tmp_path, [Path(f"{k:04d}.png") for k in range(30)])
    assert (sorted(from_zero.files), from_zero.by_name) == ([1, 10], False)


def test_key_frames_whose_sides_were_rounded_to_8_fit(tmp_path: Path) -> None:
    write_keys(tmp_path, {"0.png": (64, 48)})
    info = replace(clip(30), width=64, height=45)
    plan, _ = plan_around(
        find_keys(tmp_path), info, "hash", make_settings({"scene_cuts": False}), analysis={}, cancelled=lambda: False
    )
    assert (plan.geometry.width, plan.geometry.height) == (64, 48)


def test_one_given_key_frame_is_enough(tmp_path: Path) -> None:
    write_keys(tmp_path, {"0.png": (64, 48)})
    assert [i.inner for i in around(tmp_path).intervals] == [tuple(range(1, 30))]


def test_the_size_of_given_key_frames_is_the_size_of_the_result(tmp_path: Path) -> None:
    write_keys(tmp_path, {"0.png": (129, 97)})
    geometry = around(tmp_path).geometry
    assert (geometry.width, geometry.height) == (129, 97)


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ({}, ["no key frames"]),
        ({"a1.png": (64, 48), "b001.png": (64, 48)}, ["number 1", "a1.png", "b001.png"]),
        ({"1.png": (64, 48), "2.png": (32, 24)}, ["1.png", "64x48", "2.png", "32x24"]),
        ({"99.png": (64, 48)}, ["99.png", "0 to 29"]),
        ({"1.png": (64, 64)}, ["64x64", "64x48", "Crop"]),
        ({"1.png": (48, 64)}, ["48x64", "64x48", "Turn"]),
        ({"1.png": (12, 9)}, ["12x9", "16 at least", "key frames' size"]),
        ({"1.png": (2560, 1920)}, ["2560", "limit_long_side", "key frames' size"]),
    ],
)
def test_unfit_key_frames_are_refused(tmp_path: Path, sizes: dict[str, tuple[int, int]], words: list[str]) -> None:
    write_keys(tmp_path, sizes)
    with pytest.raises(UserError) as caught:
        around(tmp_path)
    for word in words:
        assert word in str(caught.value)


def test_an_unreadable_key_frame_is_named(tmp_path: Path) -> None:
    (tmp_path / "3.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"3\.png"):
        find_keys(tmp_path)
