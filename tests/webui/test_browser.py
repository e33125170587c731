"""The tab and the script in a browser, in a real webui: what tests/ui/test_browser.py checks without one, and the rest.

Leaves screenshots in out/screenshots.
"""

from __future__ import annotations

import base64
import io
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.ui.browser import SCREENSHOTS, Visit, browser, chromium
from tests.webui.server import Server

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = [
    pytest.mark.timeout(1800),
    pytest.mark.skipif(chromium() is None, reason="there is no chromium"),
]

SETTINGS = {"steps": 6, "cfg_scale": 2.5, "denoising_strength": 0.6, "seed": 3}
PROMPT = "an oil painting of a face"
KEYS = (0, 2, 4)
WAIT_MS = 180_000  # says nothing about speed: the machine may be busy


class Tab(Visit):
    """The webui's page, opened at our tab."""

    def load(self) -> None:
        self.page.set_default_timeout(WAIT_MS)
        self.page.goto(f"{self.address}/?__theme={self.theme}", wait_until="domcontentloaded")
        self.open("Rerender")
        self.at("#rerender_generate").wait_for()

    def open(self, name: str) -> None:
        """One of the webui's tabs."""
        self.page.locator("#tabs > .tab-nav button", has_text=name).first.click()


@pytest.fixture(scope="module")
def server(webui: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server without any job, and without credentials in the way of the page."""
    data = tmp_path_factory.mktemp("browser")
    (data / "styles.csv").write_text("name,prompt,negative_prompt\nsoft,soft light,\n")
    with Server(webui, data, flags=()) as running:
        yield running


@pytest.fixture(scope="module")
def program() -> Iterator[Any]:
    with browser() as found:
        yield found


@pytest.fixture
def visit(program: Any, server: Server) -> Iterator[Tab]:
    opened = Tab(program, server.url)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def clip_file(clip: bytes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "clip.gif"
    path.write_bytes(clip)
    return path


def begin(visit: Tab, clip: Path) -> None:
    visit.at("#rerender_video input[type=file]").set_input_files(clip)
    visit.set(prompt=PROMPT, key_interval=2, **SETTINGS)
    visit.unfold("section_source")
    visit.set(short_side=128)
    visit.unfold("section_source")
    visit.wait_for_strip(*KEYS)


def test_four_buttons_with_an_interrupt_a_reload_and_a_redo(visit: Tab, server: Server, clip_file: Path) -> None:
    begin(visit, clip_file)
    visit.wait_for_text("facts", "5 frames")
    visit.press("run_first")
    visit.wait_for_gallery(1)
    visit.wait_for_state("done")

    visit.set(steps=150)  # so many that the last key frame is far away when the first step is seen and Escape arrives
    visit.press("run_keys")
    visit.at("#rerender_status img.rerender-step").wait_for()
    visit.page.keyboard.press("Escape")
    visit.wait_for_state("interrupted")
    job = server.call("/rerender/v1/jobs")[1][0]
    assert len(job["key_frames"]) < len(KEYS)

    visit.set(steps=30)
    visit.press("run_keys")
    visit.wait_for_state("running", "done")
    visit.picture("webui-running")
    visit.load()
    visit.wait_for_text("status", "clip.gif")
    visit.wait_for_value("prompt", PROMPT)
    visit.wait_for_value("steps", "30")
    visit.wait_for_gallery(len(KEYS))
    visit.wait_for_state("done")

    run_to_the_end(visit, server, "run_propagate")
    visit.at("#rerender_result rerender-player[source*='source-']").wait_for()
    visit.page.wait_for_function(
        "[...document.querySelectorAll('#rerender_result video')].filter((v) => v.readyState >= 2).length === 2"
    )
    visit.picture("webui-result")
    visit.tab("results", "Key frames")
    visit.at("#rerender_gallery").wait_for()
    run_to_the_end(visit, server, "generate")  # all is there already
    visit.at("#rerender_result rerender-player").wait_for()  # the result comes to the front again

    job = server.call("/rerender/v1/jobs")[1][0]
    assert tuple(job["key_frames"]) == KEYS
    before = server.keys(job["id"])
    visit.tab("results", "Key frames")
    visit.at("#rerender_gallery button.thumbnail-item >> nth=1").click()
    visit.wait_for_text("comparison", "frame 2")
    visit.unfold("inspect")
    visit.press("inspect_button")
    visit.at("#rerender_inspection figure").wait_for()
    visit.picture("webui-inspect")
    run_to_the_end(visit, server, "redo")
    assert [old == new for old, new in zip(before, server.keys(job["id"]), strict=True)] == [True, False, True]


def run_to_the_end(visit: Tab, server: Server, button: str) -> None:
    """Press a button that takes the newest job up, and wait until it has run.

    The server is asked: what the card says may still be of the run before, and a short run may pass unseen.
    """
    job = server.call("/rerender/v1/jobs")[1][0]
    visit.press(button)
    visit.wait_until(lambda: server.job(job["id"])["queued"] > job["queued"], lambda: f"{button} starts nothing: {job}")
    assert server.finished(job["id"])["state"] == "done"
    visit.wait_for_state("done")


def test_first_preview_comes_soon(visit: Tab, server: Server, clip_frames: list[Any]) -> None:
    visit.wait_for_gallery(len(KEYS))
    stored = io.BytesIO()
    Image.fromarray(clip_frames[0]).save(stored, "PNG")
    asked = {"init_images": [base64.b64encode(stored.getvalue()).decode()], "width": 128, "height": 128}
    began = time.monotonic()
    assert server.call("/sdapi/v1/img2img", {**asked, **SETTINGS, "steps": 30, "prompt": PROMPT})[0] == 200
    plain = time.monotonic() - began
    visit.set(seed=4)
    began = time.monotonic()
    visit.press("run_first")
    visit.at("#rerender_status .rerender-state.running").wait_for()
    visit.at("#rerender_status img.rerender-step").wait_for()
    assert time.monotonic() - began < plain + 3.0
    visit.wait_for_state("done")
    visit.set(seed=3)
    visit.press("run_keys")
    visit.wait_for_state("running")
    visit.wait_for_gallery(len(KEYS))
    visit.wait_for_state("done")


def test_selected_key_frame_goes_to_img2img(visit: Tab) -> None:
    visit.wait_for_gallery(len(KEYS))  # the last job, of the test before
    visit.at("#rerender_gallery button.thumbnail-item >> nth=0").click()
    visit.wait_for_text("comparison", "frame 0")
    visit.press("send")
    visit.at("#img2img_image img").wait_for()
    assert visit.at("#tab_img2img").is_visible()
    visit.page.wait_for_function(f"document.querySelector('#img2img_prompt textarea').value === {PROMPT!r}")
    visit.page.wait_for_function("document.querySelector('#img2img_seed input').value === '3'")
    assert visit.at("#img2img_width input[type=number]").input_value() == "128"


def test_key_frame_is_skipped_by_the_webuis_key(visit: Tab, server: Server) -> None:
    visit.wait_for_gallery(len(KEYS))
    visit.set(steps=60)
    visit.press("run_keys")
    visit.wait_for_text("status", "frame 2")
    visit.page.keyboard.press("Alt+Enter")
    visit.wait_for_text("status", "Key frame 2 is left out")
    visit.wait_for_strip(0, 4)
    visit.wait_for_state("done")
    assert server.call("/rerender/v1/jobs")[1][0]["key_frames"] == [0, 4]


def test_script_runs_and_its_infotext_pastes_back(visit: Tab, clip_file: Path) -> None:
    page = visit.page
    visit.open("img2img")
    page.locator("#img2img_prompt textarea").fill(PROMPT)
    page.locator("#img2img_steps input[type=number]").fill("6")
    for name in ("width", "height"):
        page.locator(f"#img2img_{name} input[type=number]").fill("128")
        page.locator(f"#img2img_{name} input[type=number]").press("Tab")
    choose_script(page, "Rerender A Video")
    page.locator("#rerender_script_video input[type=file]").set_input_files(clip_file)
    page.locator("#rerender_script_video", has_text="clip.gif").wait_for()
    page.locator("#rerender_script_stage label", has_text="Key frames").click()
    set_in_script(page, "key_interval", "2")
    page.locator("#img2img_generate").click()
    page.wait_for_function("document.querySelectorAll('#img2img_gallery .thumbnail-small').length === 3")
    visit.picture("webui-script")
    infotext = page.locator("#html_info_img2img p").first.inner_text()
    assert "Script: Rerender A Video" in infotext
    assert "Rerender key_interval: 2" in infotext

    set_in_script(page, "key_interval", "9")
    set_in_script(page, "attention_end", "0.5")  # the picture was made with the default, which its text does not name
    choose_script(page, "None")
    page.locator("#img2img_prompt textarea").fill(infotext.replace("\xa0", " "))
    page.locator("#tab_img2img #paste").click()
    page.wait_for_function("document.querySelector('#img2img_prompt textarea').value.indexOf('Steps') < 0")
    page.locator("#rerender_script_key_interval input[type=number]").first.wait_for()
    assert page.locator("#tab_img2img #script_list input").first.input_value() == "Rerender A Video"
    assert page.locator("#rerender_script_key_interval input[type=number]").first.input_value() == "2"
    assert page.locator("#rerender_script_attention_end input[type=number]").first.input_value() == "1"


def choose_script(page: Any, name: str) -> None:
    field = page.locator("#tab_img2img #script_list input").first
    field.click()
    page.locator("#tab_img2img #script_list ul li", has_text=name).first.click()


def set_in_script(page: Any, name: str, value: str) -> None:
    field = page.locator(f"#rerender_script_{name} input[type=number]").first
    field.evaluate(
        "(field, value) => { field.value = value; field.dispatchEvent(new Event('input', {bubbles: true})); }", value
    )


def test_prompts_have_the_webuis_counters_and_keys(visit: Tab) -> None:
    visit.wait_for_state("done")
    for name in ("prompt", "negative_prompt"):
        field = visit.at(f"#rerender_{name} textarea")
        field.fill("an oil painting of a (face")
        visit.wait_for_text(f"{name}_counter", "6/75")
        assert "1 opening and 0 closing" in str(visit.at(f"#rerender_{name}_counter").get_attribute("title"))
        field.fill("an oil painting")
        field.press("End")
        field.press("Control+ArrowUp")
        assert field.input_value() == "an oil (painting:1.1)"


def test_what_is_begun_while_the_page_loads_is_kept(visit: Tab) -> None:
    visit.wait_for_state("done")
    visit.page.reload(wait_until="domcontentloaded")
    visit.open("Rerender")
    visit.at("#rerender_prompt textarea").fill("something else")
    visit.page.wait_for_timeout(4000)  # the last job would be shown again after two seconds
    assert visit.value("prompt") == "something else"
    assert not visit.at("#rerender_status .rerender-state").is_visible()


def test_settings_page_and_defaults(visit: Tab, server: Server) -> None:
    page = visit.page
    visit.open("Settings")
    page.locator("#settings button", has_text="Rerender A Video").first.click()
    page.locator("#setting_rerender_folder").wait_for()
    visit.picture("webui-settings")
    kept = json.loads((server.data / "ui-config.json").read_text())
    assert page.locator("[id^=setting_rerender_]").count() >= 8
    assert kept["rerender/Key interval/value"] == 10
    assert kept["customscript/rerender_a_video.py/img2img/Key interval/value"] == 10


def test_labels_can_be_translated(program: Any, webui: Path, tmp_path: Path) -> None:
    words = {"Run All": "Alles", "Key interval": "Abstand", "Cross-frame attention": "Aufmerksamkeit"}
    (tmp_path / "translations").mkdir()
    (tmp_path / "translations" / "test.json").write_text(json.dumps(words))
    flags = ["--localizations-dir", str(tmp_path / "translations")]
    with Server(webui, tmp_path / "data", flags, options={"localization": "test"}) as translated:
        visit = Tab(program, translated.url)
        for element, word in (("generate", "Alles"), ("key_interval", "Abstand"), ("attention", "Aufmerksamkeit")):
            visit.at(f"#rerender_{element}", has_text=word).wait_for()
        visit.close()


def test_both_themes_are_tidy(program: Any, server: Server) -> None:
    for theme in ("light", "dark"):
        visit = Tab(program, server.url, theme=theme)
        visit.wait_for_state("done")
        visit.wait_for_strip(0, 4)
        visit.at("#rerender_gallery button.thumbnail-item >> nth=0").click()
        visit.wait_for_text("comparison", "frame 0")
        visit.picture(f"webui-{theme}")
        visit.close()
        assert (SCREENSHOTS / f"webui-{theme}.png").stat().st_size > 50_000
