"""Figures are the same on every machine: the ones committed were measured on another one than this."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tools.make_example_report import measure_known_faults

COMMITTED = Path(__file__).parents[2] / "docs" / "reports" / "known-faults" / "figures.json"
# Published figures have three digits. Other processors and releases of OpenCV and NumPy round flows and sums otherwise.
WITHIN = {"rel": 1e-3, "abs": 1e-3}
SEMANTIC = "semantic_"  # its network is optional


def figures(document: dict) -> dict[str, dict[str, float]]:
    return {
        clip["name"]: {name: value for name, value in clip["figures"].items() if not name.startswith(SEMANTIC)}
        for clip in (document["source"], *document["results"])
    }


def test_figures_equal_those_of_another_machine():
    committed = json.loads(COMMITTED.read_text(encoding="utf-8"))
    measured = measure_known_faults(semantic=False).as_json()
    expected = figures(committed)
    assert list(figures(measured)) == list(expected)
    for clip, values in figures(measured).items():
        assert values == pytest.approx(expected[clip], **WITHIN), clip
    assert [result["verdict"] for result in measured["results"]] == [each["verdict"] for each in committed["results"]]
    assert measured["best"] == committed["best"]
