"""The arguments of `evaluate`, and what it prints."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from rerender.cli import main
from rerender.errors import UserError
from rerender.evaluate import cli
from rerender.files import write_png
from tests.evaluate.cases import noisy, panning


@pytest.fixture
def clips(tmp_path: Path) -> list[str]:
    frames = panning(4)
    negative = [255 - frame for frame in frames]
    paths = []
    for name, clip in (("the source", frames), ("ours", noisy(negative, 3)), ("theirs", noisy(negative, 9))):
        folder = tmp_path / name
        folder.mkdir()
        for number, frame in enumerate(clip):
            write_png(folder / f"{number:04d}.png", frame)
        paths.append(str(folder))
    return paths


def run(*words: str) -> int:
    parser = argparse.ArgumentParser()
    cli.add_arguments(parser)
    return cli.run(parser.parse_args([*words, "--no-semantic", "--flow", "dis_fast"]))


def test_the_table_and_the_files_it_was_asked_for(clips, tmp_path, capsys):
    figures, report = tmp_path / "new" / "f.json", tmp_path / "r"
    figures.parent.mkdir()
    words = [*clips[:2], "--against", clips[2], "--keys", "0, 2", "--json", str(figures), "--report", str(report)]
    assert run(*words) == 0
    printed = capsys.readouterr().out
    assert "Warp error" in printed
    assert "best: ours" in printed
    assert str(report / "report.html") in printed
    assert (report / "report.html").stat().st_size > 10_000
    assert json.loads(figures.read_text(encoding="utf-8"))["key_frames"] == [0, 2, 3]


def test_more_names_than_results_are_refused(clips):
    with pytest.raises(UserError, match="3 names are given for 1 results"):
        run(*clips[:2], "--names", "a,b,c")


def test_json_to_a_file_leaves_errors_to_the_terminal(clips, capsys):
    assert main(["evaluate", clips[0], "nowhere.mp4", "--json", "f.json"]) == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err[:7]) == ("", "error: ")
    assert main(["evaluate", clips[0], "nowhere.mp4", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["event"] == "error"


def test_json_alone_goes_to_the_screen(clips, capsys):
    assert run(*clips[:2], "--names", "mine", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["results"][0]["name"] == "mine"
