"""The tab in a browser: the buttons, an interrupt, a reload in the middle, one key frame redone."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.webui.server import Server

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = pytest.mark.timeout(1800)

WAIT_MS = 300_000  # says nothing about speed: the machine may be busy


@pytest.fixture(scope="module")
def server(webui: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server without any job, and without credentials in the way of the page."""
    with Server(webui, tmp_path_factory.mktemp("browser"), flags=()) as running:
        yield running


@pytest.fixture
def page(server: Any) -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        chromium = shutil.which("chromium") or shutil.which("google-chrome")
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        found = browser.new_page(viewport={"width": 1500, "height": 1300})
        found.set_default_timeout(WAIT_MS)
        yield found
        browser.close()


@pytest.fixture(scope="module")
def clip_file(clip: bytes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "clip.gif"
    path.write_bytes(clip)
    return path


def open_tab(page: Any, server: Any) -> None:
    page.goto(f"http://127.0.0.1:{server.port}", wait_until="domcontentloaded")
    page.get_by_role("button", name="Rerender", exact=True).first.click()
    page.locator("#rerender_generate").wait_for()


def wait_for_status(page: Any, words: str) -> None:
    page.locator("div.block#rerender_status", has_text=words).wait_for(timeout=WAIT_MS)


def set_number(page: Any, name: str, value: float) -> None:
    field = page.locator(f"#rerender_{name} input[type=number]").first
    field.fill(str(value))
    field.press("Tab")


def fill_in(page: Any, clip: Path) -> None:
    page.locator("#rerender_prompt textarea").fill("an oil painting of a face")
    for name, value in {"steps": 6, "cfg_scale": 2.5, "denoising_strength": 0.6, "seed": 3}.items():
        set_number(page, name, value)
    page.locator("#rerender_section_source").get_by_text("Source").first.click()
    set_number(page, "short_side", 128)
    set_number(page, "key_interval", 2)
    page.locator("#rerender_video input[type=file]").set_input_files(clip)
    page.locator("div.block#rerender_facts", has_text="128×128, 5 frames").wait_for()


def test_a_run_in_the_tab(page: Any, server: Any, clip_file: Path) -> None:
    open_tab(page, server)
    fill_in(page, clip_file)
    page.locator("#rerender_run_first").click()
    wait_for_status(page, "done")
    assert page.locator("#rerender_gallery img").count() >= 1

    page.locator("#rerender_run_keys").click()
    wait_for_status(page, "Key frames: 1.")
    page.locator("#rerender_interrupt").click()
    wait_for_status(page, "interrupted")

    page.locator("#rerender_generate").click()
    wait_for_status(page, "running")
    open_tab(page, server)
    wait_for_status(page, "running")
    assert page.locator("#rerender_prompt textarea").input_value() == "an oil painting of a face"
    wait_for_status(page, "done")
    page.locator("#rerender_results button", has_text="Result").first.click()
    page.locator("#rerender_result video").first.wait_for()
    assert page.locator("#rerender_gallery img").count() >= 3

    jobs = server.call("/rerender/v1/jobs")[1]
    assert [job["key_frames"] for job in jobs] == [[0, 2, 4]]
    before = [server.call(f"/rerender/v1/jobs/{jobs[0]['id']}/keys/{frame}")[1] for frame in (0, 2, 4)]
    page.locator("#rerender_results button", has_text="Key frames").first.click()
    set_number(page, "redo_frame", 2)
    page.locator("#rerender_redo").click()
    wait_for_status(page, "running")
    wait_for_status(page, "done")
    after = [server.call(f"/rerender/v1/jobs/{jobs[0]['id']}/keys/{frame}")[1] for frame in (0, 2, 4)]
    assert [old == new for old, new in zip(before, after, strict=True)] == [True, False, True]
