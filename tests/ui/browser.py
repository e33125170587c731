"""The panel in a browser: a server in this process, Chromium, and what a person does with the page."""

from __future__ import annotations

import os
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
CHECKPOINT = ROOT / "models" / "rerender-demo.safetensors"
SCREENSHOTS = ROOT / "out" / "screenshots"
PICTURES = ROOT / "docs" / "pictures"
FOR_THE_DOCS = bool(os.environ.get("RERENDER_DOCS_PICTURES"))
"""Take the pictures of the documentation: larger, with more steps, which takes minutes."""
WAIT_MS = 60_000
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
)


def chromium() -> str | None:
    """The browser's program, if there is one."""
    return shutil.which("chromium") or shutil.which("google-chrome")


def why_not() -> str:
    """Why there can be no browser test here; "" where there can."""
    try:
        import gradio  # noqa: F401
        import playwright.sync_api  # noqa: F401
    except ImportError as error:
        return f"{error.name} is not installed"
    return "" if chromium() else "there is no chromium"


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The panel on the demo checkpoint; gives its address."""
    import uvicorn

    from rerender.ui.serve import make_app

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    app = make_app(CHECKPOINT, folder, one_process=True)
    server = uvicorn.Server(
        uvicorn.Config(app, host="127.0.0.1", port=port, log_level="warning", timeout_graceful_shutdown=1)
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    ends = time.monotonic() + 60
    while not server.started and time.monotonic() < ends:
        time.sleep(0.05)
    assert server.started, "the server did not start"
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(timeout=30)


@contextmanager
def browser() -> Iterator[Any]:
    """Chromium without a window."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        program = driver.chromium.launch(executable_path=chromium(), args=list(FLAGS))
        try:
            yield program
        finally:
            program.close()


class Visit:
    """One open page.

    Attributes:
        errors: what went wrong in the page's own scripts.
    """

    def __init__(self, program: Any, address: str, *, theme: str = "light") -> None:
        self.address, self.theme = address, theme
        self.context = program.new_context(viewport={"width": 1500, "height": 1250}, color_scheme=theme)
        # Gradio asks for fonts and scripts from elsewhere, which no test should wait for.
        self.context.route(lambda url: not url.startswith((address, "data:", "blob:")), lambda route: route.abort())
        self.page = self.context.new_page()
        self.page.set_default_timeout(WAIT_MS)
        self.errors: list[str] = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.load()

    def load(self) -> None:
        """Load the page, for the first time or anew."""
        self.page.goto(f"{self.address}/?__theme={self.theme}", wait_until="domcontentloaded")
        self.at("#rerender_generate").wait_for()

    def at(self, selector: str, **more: Any) -> Any:
        """The first element of that kind."""
        return self.page.locator(selector, **more).first

    def press(self, element: str) -> None:
        """Press a button, by its id without the prefix."""
        self.at(f"#rerender_{element}").click()

    def value(self, name: str) -> str:
        """What a setting's control shows."""
        return str(self.at(f"#rerender_{name} input, #rerender_{name} textarea").input_value())

    def set(self, **values: Any) -> None:
        """Give settings values, as by typing them."""
        for name, value in values.items():
            field = self.at(f"#rerender_{name} input[type=number], #rerender_{name} textarea")
            field.fill(str(value))
            field.press("Tab")

    def unfold(self, element: str) -> None:
        """Open an accordion, by its id without the prefix."""
        self.at(f"#rerender_{element} > .label-wrap, #rerender_{element} .label-wrap").click()

    def tab(self, group: str, name: str) -> None:
        """Choose one of several tabs."""
        self.at(f"#rerender_{group} > .tab-nav button, #rerender_{group} .tab-nav button", has_text=name).click()

    def choose(self, dropdown: str, words: str) -> None:
        """Choose in a list by what an entry contains."""
        from playwright.sync_api import TimeoutError as TimedOut

        entry = self.at(f"#rerender_{dropdown} ul li", has_text=words)
        for _ in range(10):
            self.at(f"#rerender_{dropdown} input").click()
            try:
                entry.click(timeout=3000)
                return
            except TimedOut:  # the list was closed by an update that came just then
                self.page.keyboard.press("Escape")
                self.at(f"#rerender_{dropdown} input").blur()
        raise AssertionError(f"the list {dropdown} offers no {words!r}")

    def wait_for_state(self, *states: str) -> None:
        """Wait until the job's card says one of them. One that passes may pass unseen: name what follows it, too."""
        self.at(", ".join(f"#rerender_status .rerender-state.{state}" for state in states)).wait_for()

    def wait_for_value(self, name: str, value: str) -> None:
        """Wait until a setting's control shows that."""
        self.wait_until(lambda: self.value(name) == value, lambda: f"{name} shows {self.value(name)!r}, not {value!r}")

    def wait_for_text(self, element: str, words: str) -> None:
        """Wait until an element contains some words."""
        self.at(f"#rerender_{element}", has_text=words).wait_for()

    def strip(self) -> list[int]:
        """Frame numbers of the strip."""
        return [int(text) for text in self.page.locator("rerender-strip button span").all_inner_texts()]

    def wait_for_strip(self, *frames: int) -> None:
        """Wait until the strip shows these key frames."""
        self.wait_until(lambda: self.strip() == list(frames), lambda: f"the strip shows {self.strip()}, not {frames}")

    def gallery(self) -> list[str]:
        """Captions of the gallery."""
        return list(self.page.locator("#rerender_gallery .caption-label").all_inner_texts())

    def wait_for_gallery(self, count: int) -> None:
        """Wait until the gallery shows that many pictures."""
        self.wait_until(lambda: len(self.gallery()) == count, lambda: f"the gallery shows {self.gallery()}")

    def picture(self, name: str, *, element: str = "", docs: bool = False) -> None:
        """Take a screenshot of the page or of a part of it; `docs`: it is one of the documentation's."""
        folder = PICTURES if docs and FOR_THE_DOCS else SCREENSHOTS
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{name}.png"
        self.page.mouse.move(2, 2)
        if element:
            self.at(element).screenshot(path=path)
        else:
            self.page.evaluate("window.scrollTo(0, 0)")
            self.page.screenshot(path=path, full_page=not (docs and FOR_THE_DOCS))
        if docs and FOR_THE_DOCS:
            _compress(path)

    def wait_until(self, holds: Any, complaint: Any) -> None:
        """Wait until something holds; else fail with a complaint."""
        ends = time.monotonic() + WAIT_MS / 1000
        while not holds():
            assert time.monotonic() < ends, complaint()
            self.page.wait_for_timeout(50)

    def close(self) -> None:
        """Leave the page."""
        self.context.close()
        assert self.errors == []


def _compress(path: Path) -> None:
    """A JPEG in place of the PNG: documentation is to be small."""
    from PIL import Image

    with Image.open(path) as image:
        image.convert("RGB").save(path.with_suffix(".jpg"), quality=85, optimize=True)
    path.unlink()
