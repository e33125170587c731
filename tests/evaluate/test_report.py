"""The report: complete, self-contained, and its pictures show what they claim."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser

import av
import numpy as np
import pytest

from rerender.evaluate.command import evaluate
from rerender.evaluate.figures import METRICS
from rerender.evaluate.looks import apply_look
from rerender.evaluate.report.pictures import error_picture, hidden_picture, slice_picture
from rerender.evaluate.report.plots import line_plot, nice_ticks
from rerender.evaluate.scenes import scene
from rerender.motion.pictures import colour_wheel, flow_picture
from tests.evaluate.cases import noisy, picture

NAME = "<ours> & theirs"


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> str:
    clip = scene("translation", 9004, (64, 96), 6)
    look = [apply_look(frame, "oil") for frame in clip.frames]
    folder = tmp_path_factory.mktemp("report") / "new folder"
    evaluate(clip, look, against=[noisy(look, 9)], names=[NAME], keys="0,3", semantic=False, report_dir=folder)
    return (folder / "report.html").read_text(encoding="utf-8")


class _Checker(HTMLParser):
    """Collects tags and complains about ones that are not closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.count: dict[str, int] = {}
        self.links: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.count[tag] = self.count.get(tag, 0) + 1
        self.links += [value or "" for name, value in attrs if name in {"src", "href"}]
        if tag not in {"meta", "img", "path", "br"}:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag != "path":
            assert self.open.pop() == tag


def test_the_page_is_well_formed_and_needs_nothing_else(page: str):
    checker = _Checker()
    checker.feed(page)
    assert checker.open == []
    assert checker.links
    assert all(link.startswith("data:") for link in checker.links)
    assert not re.search(r"https?://|<script|@import|url\(", page)
    assert "prefers-color-scheme: dark" in page
    assert "@media print" in page


def test_the_page_names_everything(page: str):
    for metric in METRICS.values():
        assert metric.label in page
    assert "&lt;ours&gt; &amp; theirs" in page
    assert NAME not in page
    assert "Figures that must be read together" in page
    assert page.count('<svg class="plot"') >= 9


def test_the_video_shows_all_clips_beside_each_other(page: str):
    data = re.search(r"data:video/mp4;base64,([^\"]+)", page)
    assert data is not None
    with av.open(io.BytesIO(base64.b64decode(data[1]))) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == 6
    assert frames[0].shape == (64, 3 * 96, 3)


def test_flow_colours_are_those_of_middlebury():
    """Right is red, left is cyan, still is white; half the length is half the colour."""
    assert len(colour_wheel()) == 55
    flow = np.zeros((1, 4, 2), np.float32)
    flow[0, :3, 0] = [2, -2, 1]
    right, left, half, still = flow_picture(flow, 2.0)[0]
    np.testing.assert_array_equal(right, [255, 0, 0])
    assert left[0] < 40
    assert left[1] > 200
    assert left[2] > 200
    np.testing.assert_allclose(half, [255, 128, 128], atol=1)
    np.testing.assert_array_equal(still, [255, 255, 255])


def test_hidden_areas_are_orange_and_the_rest_is_grey():
    visible = np.ones((64, 96), bool)
    visible[:, :48] = False
    shown = hidden_picture(picture(), visible)
    assert np.all(shown[:, 48:, 0] == shown[:, 48:, 2])
    assert np.all(shown[:, :48, 0] > shown[:, :48, 2].astype(int) + 100)


def test_the_error_picture_is_dark_where_nothing_changed():
    frame = picture()
    other = frame.copy()
    other[:, 48:] += 48
    still = np.zeros((64, 96, 2), np.float32)
    visible = np.ones((64, 96), bool)
    visible[:8] = False
    shown = error_picture(other, frame, still, visible).astype(int)
    assert np.all(shown[:8] == 150)
    assert shown[8:, :48].sum(axis=2).max() < 160  # cividis begins at dark blue …
    assert shown[8:, 48:, :2].min() > 200  # … and ends at yellow


def test_a_slice_repeats_rows_evenly():
    rows = [np.full((10, 3), value, np.uint8) for value in (1, 2, 3)]
    picture_of_rows = slice_picture(rows, least_height=6)
    assert picture_of_rows[:, 0, 0].tolist() == [1, 1, 2, 2, 3, 3]


def test_a_plot_leaves_gaps_and_goes_through_its_points():
    plot = line_plot("t", [("source", [0, 1, float("nan"), 1]), ("b", [2, 2, 2, 2])], keys=[0, 2], starts=[0, 2])
    paths = re.findall(r'class="line[^"]*" stroke-dasharray="[^"]*" d="([^"]*)"', plot)
    assert [path.count("M") for path in paths] == [2, 1]
    heights = set(re.findall(r"[ML][\d.]+ ([\d.]+)", paths[1]))
    assert len(heights) == 1
    assert plot.count('class="key"') == 2
    assert plot.count('class="shot"') == 1
    assert line_plot("t", [("source", [float("nan")] * 3)]) == ""


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 107.3), (0.965, 0.991), (-3, 12), (5, 5), (0, 0)])
def test_ticks_enclose_the_values(low: float, high: float):
    ticks = nice_ticks(low, high)
    assert ticks[0] <= low + 1e-9
    assert ticks[-1] >= high - 1e-9
    assert 2 <= len(ticks) <= 8
