"""The panel: it builds, its handlers show a run to its end, and a reload brings everything back."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("gradio", reason="the panel's packages are not installed (requirements/panel.txt)")

import gradio as gr

from rerender.errors import UserError
from rerender.settings import schema
from rerender.ui import panel
from rerender.ui.api import Access
from rerender.ui.jobs import Jobs
from tests.ui.test_jobs import SETTINGS, PaintingHost, clip, jobs_with  # noqa: F401  (clip is a fixture)


def around(jobs: Jobs, tmp_path: Path, **access: Any) -> panel.Surroundings:
    reach = Access(uploads=tmp_path / "uploads", folders=lambda: [tmp_path], **access)
    return panel.Surroundings(lambda: jobs, reach, samplers=["Euler", "DPM++ 2M"], schedulers=["Automatic"])


def handlers_for(surroundings: panel.Surroundings) -> Any:
    names = [name for name, info in schema().items() if info.stage != "runtime"]
    parts = SimpleNamespace(settings=dict.fromkeys(names))
    return panel._Handlers(surroundings, parts)  # type: ignore[arg-type]


def values_of(handlers: Any, **changes: Any) -> list[Any]:
    wanted = {**{name: info.default for name, info in schema().items()}, **SETTINGS, **changes}
    return [wanted[name] for name in handlers.names]


def test_every_setting_that_results_depend_on_has_a_control(tmp_path: Path) -> None:
    with gr.Blocks() as page:
        panel.build_panel(around(jobs_with(tmp_path, PaintingHost()), tmp_path), page=page)
    ids = [block.elem_id for block in page.blocks.values() if getattr(block, "elem_id", None)]
    assert len(ids) == len(set(ids))
    expected = {f"rerender_{name}" for name, info in schema().items() if info.stage != "runtime"}
    assert expected <= set(ids)
    for block in page.blocks.values():
        if isinstance(block, gr.Slider):
            assert block.minimum <= block.value <= block.maximum, block.label


def test_button_shows_the_run_to_its_end_and_the_next_one_goes_on(tmp_path: Path, clip: Path) -> None:  # noqa: F811
    host = PaintingHost()
    jobs = jobs_with(tmp_path / "jobs", host)
    handlers = handlers_for(around(jobs, tmp_path))
    shown = list(handlers.starter("first")(None, "clip", "", "mp4", *values_of(handlers)))
    job_id = shown[-1][0]
    assert "done" in shown[-1][1]
    assert [len(state[3]) for state in shown if isinstance(state[3], list)][-1] == 1
    shown = list(handlers.starter("all")(None, "clip", job_id, "mp4", *values_of(handlers)))
    assert shown[-1][0] == job_id
    assert Path(shown[-1][4]).is_file()
    restored = next(handlers.restore())
    assert restored[0] == job_id
    assert len(restored) == 6 + len(handlers.names)
    assert dict(zip(handlers.names, restored[6:], strict=True))["key_interval"] == SETTINGS["key_interval"]
    jobs.close()


def test_reload_without_any_job_leaves_the_page_as_it_is(tmp_path: Path) -> None:
    handlers = handlers_for(around(jobs_with(tmp_path / "jobs", PaintingHost()), tmp_path))
    (shown,) = handlers.restore()
    assert shown == [gr.update()] * (6 + len(handlers.names))


@pytest.mark.parametrize(
    ("path", "changes", "words"),
    [
        ("", {}, "No video is chosen"),
        ("../x", {}, "outside the folders"),
        ("clip", {"shape_start": 0.9, "shape_end": 0.1}, "shape_start"),
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
    handlers = handlers_for(around(jobs, tmp_path))
    (shown,) = handlers.starter("all")(None, path, "", "mp4", *values_of(handlers, **changes))
    assert words in shown[1]
    assert jobs.list() == []


def test_unsupported_host_is_told_before_anything_starts(tmp_path: Path, clip: Path) -> None:  # noqa: F811
    def refuse() -> None:
        raise UserError("Forge <b>.")

    jobs = jobs_with(tmp_path / "jobs", PaintingHost())
    handlers = handlers_for(around(jobs, tmp_path, check_host=refuse))
    (shown,) = handlers.starter("all")(None, "clip", "", "mp4", *values_of(handlers))
    assert "Forge &lt;b&gt;." in shown[1]
