"""The quality benchmark: its smoke set runs, and the reference's periods are what they are there."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from benchmarks.quality import __main__ as benchmark
from benchmarks.quality.methods import METHODS, two_pass
from benchmarks.quality.section import update_docs
from benchmarks.quality.suite import FULL, SETS
from rerender.evaluate.looks import LOOKS
from rerender.settings import make_settings


def test_the_smoke_set_runs_and_its_tables_replace_older_ones(tiny_checkpoint: Path, tmp_path: Path):
    figures, docs = tmp_path / "figures.json", tmp_path / "benchmarks.md"
    options = argparse.Namespace(
        set="smoke", only="", json=figures, reports=None, pictures=tmp_path / "pictures", docs=False, note=""
    )
    benchmark.run(options, tiny_checkpoint)
    document = json.loads(figures.read_text(encoding="utf-8"))
    (case,) = document["cases"]
    assert set(case["methods"]) == set(METHODS)
    assert [method["key_frames"] for method in case["methods"].values()] == [3, 2, 2]
    (sheet,) = (tmp_path / "pictures").iterdir()
    update_docs(docs, document)
    docs.write_text(
        docs.read_text(encoding="utf-8").replace("translation", "old") + "\n## Speed\n\nkept\n", encoding="utf-8"
    )
    update_docs(docs, document)
    text = docs.read_text(encoding="utf-8")
    assert "translation" in text
    assert f"(pictures/{sheet.name})" in text
    assert "old" not in text
    assert text.endswith("## Speed\n\nkept\n")


@pytest.mark.parametrize("method", METHODS)
def test_the_settings_of_each_method_are_valid(method: str):
    make_settings(METHODS[method]())


def test_the_reference_counts_its_periods_over_all_steps():
    """At strength 0.75 a quarter of the schedule is skipped: 0.5 of it all is a third of the rest."""
    settings = two_pass(0.75)
    assert settings["pixel_start"] == pytest.approx(1 / 3, abs=1e-3)
    assert settings["pixel_end"] == pytest.approx(0.55 / 0.75, abs=1e-3)
    assert not settings["shape_fusion"]
    assert two_pass(1.0)["shape_end"] == pytest.approx(0.1)


def test_the_suite_is_made_of_known_looks_and_held_out_clips():
    assert all(case.look in LOOKS for cases in SETS.values() for case in cases)
    assert {"bigbuckbunny.mp4", "bikes.mp4", "carphone_pristine.mp4"} <= {case.clip for case in FULL}
