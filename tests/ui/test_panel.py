"""The panel: it builds, its handlers show a run to its end, and a reload brings everything back."""

from __future__ import annotations

import copy
import re
import threading
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("gradio", reason="the panel's packages are not installed (requirements/panel.txt)")

import gradio as gr
import numpy as np

from rerender import planning
from rerender.errors import UserError
from rerender.motion.flow import flow_estimator_names
from rerender.settings import make_settings, schema
from rerender.ui import panel, texts
from rerender.ui.api import Access
from rerender.ui.clip_view import ClipView
from rerender.ui.clips import Clips
from rerender.ui.controls import Maker, left_out
from rerender.ui.frame_view import FrameView
from rerender.ui.infotext import infotext
from rerender.ui.job import Job
from rerender.ui.jobs import Jobs
from rerender.ui.labels import in_words
from rerender.ui.newest import Newest
from rerender.ui.run_view import SHOWN, RunView
from rerender.ui.status import project_label, status_html
from rerender.ui.surroundings import Surroundings
from tests.ui.test_jobs import SETTINGS, PaintingHost, clip, jobs_with  # noqa: F401  (clip is a fixture)

NAMES = [name for name, info in schema().items() if info.stage != "runtime"]
PAGE = Newest()


def around(jobs: Jobs, tmp_path: Path, **more: Any) -> Surroundings:
    reach = Access(uploads=tmp_path / "uploads", folders=lambda: [tmp_path], **more.pop("access", {}))
    return Surroundings(lambda: jobs, reach, samplers=["Euler", "DPM++ 2M"], schedulers=["Automatic"], **more)


def views(surroundings: Surroundings) -> tuple[RunView, ClipView, FrameView]:
    clips = ClipView(surroundings, Clips(), NAMES)
    return RunView(surroundings, clips, publish=str), clips, FrameView(surroundings, clips)


def values_of(**changes: Any) -> list[Any]:
    wanted = {**{name: info.default for name, info in schema().items()}, **SETTINGS, **changes}
    return [wanted[name] for name in NAMES]


def inputs_of(path: str = "clip", job_id: str = "", **changes: Any) -> list[Any]:
    """What the buttons get: file, path, job, format, styles, settings."""
    return [None, path, job_id, "mp4", [], *values_of(**changes)]


def as_shown(outputs: list[Any]) -> dict[str, Any]:
    return dict(zip(SHOWN, outputs, strict=False))


def finished(run: RunView, stage: str, **inputs: Any) -> dict[str, Any]:
    """Press a button; the last value that each part of the page got."""
    page: dict[str, Any] = {}
    for outputs in run.starter(stage)(PAGE, *inputs_of(**inputs)):
        shown = as_shown(outputs)
        page.update({name: value for name, value in shown.items() if value != gr.update()})
    return page


def _ids_of_settings() -> set[str]:
    return {f"rerender_{name}" for name in NAMES}


@pytest.mark.parametrize("styles", [None, ["ink", "oil"]])
def test_every_setting_that_results_depend_on_has_a_control(tmp_path: Path, styles: list[str] | None) -> None:
    sent: list[Any] = []
    surroundings = around(
        jobs_with(tmp_path, PaintingHost()),
        tmp_path,
        styles=None if styles is None else lambda: styles,
        send=None if styles is None else lambda *given: sent.append(given),
    )
    with gr.Blocks() as page:
        panel.build_panel(surroundings, page=page)
    ids = [block.elem_id for block in page.blocks.values() if getattr(block, "elem_id", None)]
    assert len(ids) == len(set(ids))
    assert all(element.startswith("rerender_") for element in ids)
    assert {f"rerender_{name}" for name in NAMES} <= set(ids)
    assert {"rerender_generate", "rerender_interrupt", "rerender_skip", "rerender_restore"} <= set(ids)
    assert len(sent) == (styles is not None)
    # The webui keeps defaults by label: two settings of one label would get each other's.
    labels = [block.label for block in page.blocks.values() if getattr(block, "elem_id", None) in _ids_of_settings()]
    assert sorted(labels) == sorted(set(labels))
    for block in page.blocks.values():
        if isinstance(block, gr.Slider):
            assert block.minimum <= block.value <= block.maximum, block.label


def test_button_shows_the_run_to_its_end_and_the_next_one_goes_on(tmp_path: Path, clip: Path) -> None:  # noqa: F811
    jobs = jobs_with(tmp_path / "jobs", PaintingHost())
    run, _, _ = views(around(jobs, tmp_path))
    page = finished(run, "first")
    assert "done" in page["status"]
    assert [caption for _, caption in page["gallery"]] == ["frame 0"]
    page = finished(run, "all", job_id=page["job_id"])
    assert [job.id for job in jobs.list()] == [page["job_id"]]
    assert [caption for _, caption in page["gallery"]] == ["frame 0", "frame 4"]
    assert Path(page["files"][0]).is_file()
    folder = jobs.folder(page["job_id"])
    (source,) = folder.glob("source-*.mp4")
    assert str(source) in page["player"]
    assert str(folder / "result.mp4") in page["player"]
    jobs.close()


def test_reload_brings_job_and_settings_back(tmp_path: Path, clip: Path) -> None:  # noqa: F811
    jobs = jobs_with(tmp_path / "jobs", PaintingHost())
    run, _, _ = views(around(jobs, tmp_path))
    job_id = finished(run, "first", key_interval=3)["job_id"]
    restored = next(run.restore(PAGE))
    assert as_shown(restored)["job_id"] == job_id
    assert restored[len(SHOWN)] == "mp4"
    assert dict(zip(NAMES, restored[len(SHOWN) + 2 :], strict=True))["key_interval"] == 3
    jobs.close()


def test_the_comparison_of_a_job_takes_no_pass_over_the_clip(
    tmp_path: Path,
    clip: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    jobs = jobs_with(tmp_path / "jobs", PaintingHost())
    job = finished(views(around(jobs, tmp_path))[0], "all", scene_cuts=True)["job_id"]
    (source,) = jobs.folder(job).glob("source-*.mp4")
    source.unlink()
    passes: list[Any] = []
    monkeypatch.setattr(planning, "_pass_over", lambda *found: passes.append(found) or ([], []))
    fresh, _, _ = views(around(jobs, tmp_path))  # another page of another day: it knows no clip
    shown = {name: value for outputs in fresh.restore(PAGE) for name, value in as_shown(outputs).items()}
    assert str(source) in shown["player"]
    assert passes == []
    jobs.close()


def test_reload_without_any_job_leaves_the_page_as_it_is(tmp_path: Path) -> None:
    run, _, _ = views(around(jobs_with(tmp_path / "jobs", PaintingHost()), tmp_path))
    (shown,) = run.restore(PAGE)
    assert shown == [gr.update()] * (len(SHOWN) + 2 + len(NAMES))


def test_former_project_goes_on_without_naming_its_clip(tmp_path: Path, clip: Path) -> None:  # noqa: F811
    jobs = jobs_with(tmp_path / "jobs", PaintingHost())
    run, _, _ = views(around(jobs, tmp_path))
    first = finished(run, "first")["job_id"]
    (label,) = run.projects()[1:]
    assert label == project_label(jobs.get(first))
    *_, opened = run.open(PAGE, label, "uniform")
    assert opened[-2:] == [None, ""]
    assert finished(run, "keys", path="", job_id=first)["job_id"] == first
    (blank,) = run.open(PAGE, texts.NEW_PROJECT, "listed")
    assert as_shown(blank)["job_id"] == ""
    assert (as_shown(blank)["key_mode"], as_shown(blank)["key_frames"]) == ("uniform", "")  # the list was the other's
    assert finished(run, "first", job_id="")["job_id"] != first
    jobs.close()


def test_another_clip_begins_a_new_project(tmp_path: Path, clip: Path) -> None:  # noqa: F811
    jobs = jobs_with(tmp_path / "jobs", PaintingHost())
    run, _, _ = views(around(jobs, tmp_path))
    job_id = finished(run, "first")["job_id"]
    (tmp_path / "other").mkdir()
    nothing = [gr.update()] * len(SHOWN)
    assert run.clip_changed(PAGE, None, "clip", job_id, "uniform") == nothing
    assert run.clip_changed(PAGE, None, "gone", job_id, "uniform") == nothing
    assert run.clip_changed(PAGE, None, "other", "", "uniform") == nothing
    begun = as_shown(run.clip_changed(PAGE, None, "other", job_id, "listed"))
    assert (begun["job_id"], begun["gallery"], begun["key_frames"]) == ("", [], "")
    assert begun["project"]["value"] == texts.NEW_PROJECT
    jobs.close()


def test_page_that_shows_another_job_stops_watching_the_first(tmp_path: Path, clip: Path) -> None:  # noqa: F811
    gate = threading.Event()
    jobs = jobs_with(tmp_path / "jobs", PaintingHost(gate))
    run, _, _ = views(around(jobs, tmp_path))
    watching = run.starter("keys")(PAGE, *inputs_of())
    next(watching)
    list(run.open(PAGE, texts.NEW_PROJECT, "listed"))
    assert list(watching) == [[gr.update()] * len(SHOWN)]
    (label,) = run.projects()[1:]
    assert "running" in label
    gate.set()
    jobs.wait(jobs.list()[0].id, 60)
    assert as_shown(next(run.open(PAGE, label, "uniform")))["job_id"] == jobs.list()[0].id  # though it runs no more
    jobs.close()


def test_pages_do_not_end_each_others_questions() -> None:
    page = Newest()
    outdated = page.claim("watch")
    copy.deepcopy(page).claim("watch")  # what gradio makes of a `gr.State` for another visit
    page.claim("strip")
    assert not outdated()
    page.claim("watch")
    assert outdated()


def test_question_settles_when_no_answer_is_on_its_way() -> None:
    page, settled = Newest(), threading.Event()

    def settle() -> None:
        page.settle("strip", 0.0)
        settled.set()

    with page.answering("strip") as outdated:
        waiting = threading.Thread(target=settle)
        waiting.start()
        assert not settled.wait(0.2)
        assert outdated()  # so it gives up
    assert settled.wait(10)
    waiting.join()


def test_button_pressed_again_shows_the_run_with_a_note(tmp_path: Path, clip: Path) -> None:  # noqa: F811
    gate = threading.Event()
    jobs = jobs_with(tmp_path / "jobs", PaintingHost(gate))
    run, _, _ = views(around(jobs, tmp_path))
    job_id = as_shown(next(run.starter("keys")(PAGE, *inputs_of())))["job_id"]
    watching = run.starter("all")(Newest(), *inputs_of(job_id=job_id))  # another page
    assert texts.AT_WORK in as_shown(next(watching))["status"]
    gate.set()
    *_, last = watching
    assert "done" in as_shown(last)["status"]
    assert jobs.get(job_id).stage == "keys"
    jobs.close()


def test_button_that_finds_everything_rendered_says_so(tmp_path: Path, clip: Path) -> None:  # noqa: F811
    jobs = jobs_with(tmp_path / "jobs", PaintingHost())
    run, _, _ = views(around(jobs, tmp_path))
    page = finished(run, "first")
    assert "Nothing to do" not in page["status"]
    assert "Another seed" in finished(run, "first", job_id=page["job_id"])["status"]
    assert "Redo gives" not in finished(run, "keys", job_id=page["job_id"])["status"]
    assert "Redo gives" in finished(run, "keys", job_id=page["job_id"])["status"]
    jobs.close()


def test_uploaded_mask_is_kept_and_can_be_named(tmp_path: Path) -> None:
    reach = around(jobs_with(tmp_path / "jobs", PaintingHost()), tmp_path).access
    uploaded = tmp_path / "gradio" / "0123456789abcdef0123" / "my mask?.png"
    uploaded.parent.mkdir(parents=True)
    uploaded.write_bytes(b"mask")
    name = reach.keep_mask(uploaded)
    assert name == "0123456789abcdef/my mask_.png"
    assert Path(reach.settings({"mask": name})["mask"]).read_bytes() == b"mask"


def test_messages_and_help_name_settings_by_their_labels() -> None:
    assert in_words("listed: key_frames.") == "listed: “Key frames”."
    assert in_words("cfg_scale, and fusion_end") == "“CFG scale”, and fusion_end"
    paths = "/clips/end_frame/x, end_frame.mp4 and C:\\key_mode\\x; limit_frames=9"
    assert in_words(paths) == paths
    named = {info.name for info in schema().values() if "_" in info.name}
    shown = [block.info for block in _blocks() if getattr(block, "info", None)]
    assert len(shown) > 30
    assert not [text for text in shown if named & set(re.findall(r"\w+", text))]


def test_generation_parameters_are_those_of_the_frame() -> None:
    settings = make_settings(
        {
            "prompt": "a meadow",
            "prompt_timeline": "3: a meadow in snow",
            "negative_prompt": "photo",
            "seed": 7,
            "seed_mode": "per_frame",
            "cfg_scale": 6.5,
        }
    )
    assert infotext(settings, 2).startswith("a meadow\nNegative prompt: photo\nSteps: 20, Sampler: DPM++ 2M, ")
    assert infotext(settings, 4).startswith("a meadow in snow\n")
    assert "CFG scale: 6.5, Seed: 11, Denoising strength: 0.75" in infotext(settings, 4)


def test_a_run_that_ends_before_it_is_looked_at_brings_its_result_to_the_front(
    tmp_path: Path,
    clip: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    jobs = jobs_with(tmp_path / "jobs", PaintingHost())
    run, *_ = views(around(jobs, tmp_path))
    job_id = finished(run, "all")["job_id"]
    usual = jobs.run_again

    def too_quick(*given: Any, **more: Any) -> Any:
        begun = usual(*given, **more)
        assert jobs.wait(job_id, 60).state == "done"
        return begun

    monkeypatch.setattr(jobs, "run_again", too_quick)
    page = finished(run, "all", job_id=job_id)
    assert page["results"] == gr.Tabs.update(selected="result")
    assert [as_shown(each)["results"] for each in run.restore(PAGE)] == [gr.update()] * 2  # nothing was begun
    jobs.close()


def test_chosen_styles_are_sent_in_the_prompts(tmp_path: Path, clip: Path) -> None:  # noqa: F811
    def apply(prompt: str, negative: str, names: Any) -> tuple[str, str]:
        return ", ".join([prompt, *names]), ", ".join([negative, *(f"not {name}" for name in names)])

    jobs = jobs_with(tmp_path / "jobs", PaintingHost())
    run, _, frames = views(around(jobs, tmp_path, styles=lambda: ["soft", "dark"], apply_styles=apply))
    for styles, prompts in (
        (["soft", "dark"], "a meadow, soft, dark\nNegative prompt: photo, not soft, not dark\nSteps: "),
        ([], "a meadow\nNegative prompt: photo\nSteps: "),
    ):
        asked = inputs_of(prompt="a meadow", negative_prompt="photo")
        asked[4] = styles
        job_id = [as_shown(each) for each in run.starter("first")(PAGE, *asked)][-1]["job_id"]
        parameters = frames.select(PAGE, -1, 0, None, "clip", job_id, *values_of())[2]
        assert parameters.startswith(prompts)
    jobs.close()


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(None, "<span></span>"), (9.4, "9 s left"), (61, "1 min 01 s left"), (5025, "1 h 23 min left")],
)
def test_time_that_is_left_is_told_as_people_say_it(seconds: float | None, words: str) -> None:
    progress = {"stage": "keys", "done": 1.25, "total": 5, "unit": "key frames", "eta_seconds": seconds}
    notes = ("Changed since the last run: key_mode",)
    shown = status_html(Job("id", "/clips/a.mp4", {}, state="running", progress=progress, rendering=6, notes=notes))
    assert words in shown
    assert "Changed since the last run: “Key mode”" in shown
    assert "Key frames: 1.2 of 5, frame 6" in shown


def test_flow_offers_what_there_is() -> None:
    (flow,) = (block for block in _blocks() if getattr(block, "elem_id", None) == "rerender_flow")
    assert set(flow.choices) == set(flow_estimator_names())


def _blocks() -> list[Any]:
    with gr.Blocks() as page:
        maker = Maker(without=left_out())
        for name in NAMES:
            maker.make(name)
    return list(page.blocks.values())


def test_drawn_seed_is_kept_but_by_the_first_stage(tmp_path: Path, clip: Path) -> None:  # noqa: F811
    jobs = jobs_with(tmp_path / "jobs", PaintingHost())
    run, _, _ = views(around(jobs, tmp_path))
    job_id = finished(run, "first", seed=-1)["job_id"]
    drawn = jobs.get(job_id).settings["seed"]
    finished(run, "keys", job_id=job_id, seed=-1)
    assert jobs.get(job_id).settings["seed"] == drawn == run.recycle(job_id)
    finished(run, "first", job_id=job_id, seed=-1)
    assert jobs.get(job_id).settings["seed"] != drawn
    jobs.close()


def test_redo_of_what_is_not_rendered_leaves_the_job_as_it_was(tmp_path: Path, clip: Path) -> None:  # noqa: F811
    jobs = jobs_with(tmp_path / "jobs", PaintingHost())
    run, _, _ = views(around(jobs, tmp_path))
    job_id = finished(run, "first")["job_id"]
    (shown,) = run.redo(PAGE, 4, *inputs_of(job_id=job_id))
    assert "Frame 4 is no rendered key frame" in as_shown(shown)["status"]
    assert jobs.get(job_id).state == "done"
    jobs.close()


def test_deleted_number_is_the_default(tmp_path: Path, clip: Path) -> None:  # noqa: F811
    jobs = jobs_with(tmp_path / "jobs", PaintingHost())
    run, clips, _ = views(around(jobs, tmp_path))
    values = [*values_of()]
    for name in ("crop_left", "start_frame"):
        values[NAMES.index(name)] = None
    assert clips.settings(values).crop_left == 0
    inputs = inputs_of()
    *_, last = run.starter("first")(PAGE, *inputs[: -len(NAMES)], *values)
    assert "done" in as_shown(last)["status"]
    jobs.close()


def test_styles_reach_the_host(tmp_path: Path, clip: Path) -> None:  # noqa: F811
    jobs = jobs_with(tmp_path / "jobs", PaintingHost())
    run, _, _ = views(around(jobs, tmp_path, styles=lambda: ["ink", "oil"]))
    inputs = inputs_of()
    inputs[4] = ["ink"]
    list(run.starter("first")(PAGE, *inputs))
    (job,) = jobs.list()
    assert job.options == {"styles": ["ink"]}
    assert next(run.restore(PAGE))[len(SHOWN) + 1] == ["ink"]
    jobs.close()


@pytest.mark.parametrize(
    ("path", "changes", "words"),
    [
        ("", {}, "No video is chosen"),
        ("../x", {}, "outside the folders"),
        ("clip", {"shape_start": 0.9, "shape_end": 0.1}, "“Shape start” (0.9)"),
    ],
)
def test_mistakes_are_shown_and_nothing_starts(
    tmp_path: Path,
    clip: Path,  # noqa: F811
    path: str,
    changes: dict[str, Any],
    words: str,
) -> None:
    jobs = jobs_with(tmp_path / "jobs", PaintingHost())
    run, _, _ = views(around(jobs, tmp_path))
    assert words in finished(run, "all", path=path, **changes)["status"]
    assert jobs.list() == []


def test_unsupported_host_is_told_before_anything_starts(tmp_path: Path, clip: Path) -> None:  # noqa: F811
    def refuse() -> None:
        raise UserError("Forge <b>.")

    jobs = jobs_with(tmp_path / "jobs", PaintingHost())
    run, _, _ = views(around(jobs, tmp_path, access={"check_host": refuse}))
    assert "Forge &lt;b&gt;." in finished(run, "all")["status"]
    assert jobs.list() == []


def test_selected_key_frame_is_compared_with_its_source(tmp_path: Path, clip: Path) -> None:  # noqa: F811
    jobs = jobs_with(tmp_path / "jobs", PaintingHost())
    run, _, frames = views(around(jobs, tmp_path))
    asked = [None, "clip", "", *values_of()]
    comparison, picture, parameters, send, *_ = frames.select(PAGE, -1, 4, *asked)
    assert ("not rendered yet" in comparison, picture, parameters, send["interactive"]) == (True, None, "", False)
    comparison, *_ = frames.select(PAGE, -1, 900, *asked)
    assert "frame 4, not" in comparison  # the last one there is
    job_id = finished(run, "keys")["job_id"]
    assert frames.pick(job_id, SimpleNamespace(index=1)) == 4
    comparison, picture, parameters, send, *_ = frames.select(PAGE, -1, 4, None, "clip", job_id, *values_of())
    assert "<rerender-wipe" in comparison
    assert send["interactive"]
    assert parameters == infotext(make_settings(jobs.get(job_id).settings), 4)
    assert np.array_equal(np.asarray(picture), np.asarray(255 - np.asarray(_frame(clip, 4))))
    other = SimpleNamespace(name=str(clip / "0004.png"))
    comparison, picture, *_ = frames.select(PAGE, -1, 0, other, "", job_id, *values_of())
    assert ("not rendered yet" in comparison, picture) == (True, None)  # it was rendered of another clip
    assert "Select a rendered key frame" in frames.inspect(job_id, 3)
    sheet = frames.inspect(job_id, 4)
    assert sheet.count("<figure") >= 4
    with zipfile.ZipFile(run.zip_keys(job_id)[-1]) as archive:
        assert archive.namelist() == ["000000.png", "000004.png"]
    jobs.close()


def test_earlier_versions_are_shown_and_brought_back(tmp_path: Path, clip: Path) -> None:  # noqa: F811
    jobs = jobs_with(tmp_path / "jobs", PaintingHost())
    run, _, frames = views(around(jobs, tmp_path))
    job_id = finished(run, "first", seed=3)["job_id"]
    asked = [None, "clip", job_id, *values_of()]
    hidden, pictures, _, names, chosen = frames.select(PAGE, -1, 0, *asked)[4:]
    assert (hidden["visible"], pictures, names, chosen) == (False, [], (), -1)
    finished(run, "first", job_id=job_id, seed=4)
    visible, pictures, _, names, _ = frames.select(PAGE, -1, 0, *asked)[4:]
    assert visible["visible"]
    assert [caption.split(",")[0] for _, caption in pictures] == ["seed 3"]
    assert "No earlier version is chosen" in frames.versions.bring_back(job_id, 0, names, -1)[0]
    assert frames.select(PAGE, 0, 0, *asked)[-1] == 0  # what is marked stays chosen
    assert frames.select(PAGE, 1, 0, *asked)[-1] == -1
    status, gallery, *cleared = frames.versions.bring_back(
        job_id, 0, names, frames.versions.pick(SimpleNamespace(index=0))
    )
    assert "Key frame 0 is the one with seed 3 again" in status
    assert cleared == [[], -1]
    assert [caption for _, caption in gallery] == ["frame 0"]
    _, _, parameters, *_, names, _ = frames.select(PAGE, -1, 0, *asked)
    assert "Seed: 3," in parameters
    assert [version.seed for version in jobs.versions(job_id, 0)] == [4]
    assert "no earlier version" in frames.versions.bring_back(job_id, 0, ["gone.png"], 0)[0]
    finished(run, "first", job_id=job_id, seed=4, steps=7)
    captions = [caption for _, caption in frames.select(PAGE, -1, 0, *asked)[5]]
    assert [caption.split(", ", 2)[2] for caption in captions] == ["with Sampling steps 20"] * 2
    jobs.close()


def _frame(folder: Path, number: int) -> Any:
    from PIL import Image

    return Image.open(folder / f"{number:04d}.png")
