"""The section Quality of docs/benchmarks.md, and the sheets of frames it shows."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.quality.methods import Output
from rerender.evaluate.figures import METRICS, mean, show

BEGIN, END = "<!-- quality: begin, written by python -m benchmarks.quality -->", "<!-- quality: end -->"
_COLUMNS = ("warp_error", "warp_error_first", "join_ratio", "flicker", "ssim_flow", "colour_drift", "sharpness",
            "blur", "structure", "motion_kept", "semantic_first")  # fmt: skip
_SHORT = {
    "warp_error": "warp error ↓",
    "warp_error_first": "… to first ↓",
    "join_ratio": "joins ÷ inside",
    "flicker": "flicker ↓",
    "ssim_flow": "SSIM ↑",
    "colour_drift": "ΔE ↓",
    "sharpness": "sharpness → 1",
    "blur": "blur ↓",
    "structure": "structure ↑",
    "motion_kept": "motion → 1",
    "semantic_first": "semantic ↑",
}


def sheet(outputs: Mapping[str, Output], columns: int = 4) -> NDArray[np.uint8]:
    """Frames spread over the clip: the source in the first row, a method in each further one."""
    first = next(iter(outputs.values()))
    numbers = [round((len(first.frames) - 1) * place / (columns - 1)) for place in range(columns)]
    rows = [first.source, *(output.frames for output in outputs.values())]
    gap = np.full((first.frames[0].shape[0], 6, 3), 255, np.uint8)
    lines = []
    for row in rows:
        cells = [cell for number in numbers for cell in (row[number], gap)][:-1]
        lines.append(np.concatenate(cells, axis=1))
    space = np.full((6, lines[0].shape[1], 3), 255, np.uint8)
    return np.concatenate([part for line in lines for part in (line, space)][:-1])


def write_sheet(folder: Path, name: str, outputs: Mapping[str, Output]) -> None:
    """Write the sheet of a clip as JPEG, where `section` looks for it."""
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(sheet(outputs)).save(_sheet_path(folder, name), quality=85)


def slug(name: str) -> str:
    """A case's name as part of a file name."""
    return name.replace(", ", "-").replace(" ", "-").replace("_", "-")


def _sheet_path(folder: Path, name: str) -> Path:
    return folder / f"quality-{slug(name)}.jpg"


def update_docs(path: Path, document: Mapping[str, Any]) -> None:
    """Put the tables in place of the old ones; the rest of the page stays."""
    text = path.read_text(encoding="utf-8") if path.exists() else "# Benchmarks\n"
    body = f"{BEGIN}\n{section(document, path.parent / 'pictures')}\n{END}"
    pattern = re.compile(re.escape(BEGIN) + ".*?" + re.escape(END), re.DOTALL)
    if pattern.search(text):
        text = pattern.sub(lambda _: body, text)
    else:
        text = f"{text.rstrip()}\n\n## Quality\n\n{body}\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def section(document: Mapping[str, Any], pictures: Path) -> str:
    """Means over the clips, then each clip with its sheet, where `pictures` holds one, as Markdown."""
    cases = document["cases"]
    if not cases:
        return "Nothing measured yet."
    methods, settings = list(cases[0]["methods"]), document["settings"]
    lines = [
        f"`python -m benchmarks.quality --set {document['set']}`: {len(cases)} clips, checkpoint "
        f"`{document['checkpoint']}` at strength {settings['denoising_strength']:g} and CFG {settings['cfg_scale']:g}, "
        f"{document['machine']}, {document['seconds'] / 60:.0f} minutes in all. {document['note']}".rstrip(),
        "",
        "All three run through the same pipeline with the same noise; the last two differ in how key frames are "
        "rendered, not in propagation. Two-pass is the reference's scheme rebuilt from our parts: every key frame in "
        "full twice, one anchor for ever, and its periods, which it counts over all steps of the schedule.",
        "",
        "Means over the clips; the source's row is the floor. What each figure means: [metrics.md](metrics.md).",
        "",
        *_table([("source", _means([case["source"] for case in cases]))]
                + [(name, _means([case["methods"][name]["figures"] for case in cases])) for name in methods]),
        "",
        "| | seconds per key frame | seconds per clip | clips without a fault |",
        "|---|--:|--:|--:|",
        *(_speed(name, [case["methods"][name] for case in cases]) for name in methods),
    ]  # fmt: skip
    for case in cases:
        lines += [
            "",
            f"### {case['name']}",
            "",
            f"{case['frames']} frames, {case['motion']} motion, *{case['prompt']}*.",
        ]
        rows = [("source", case["source"])] + [(name, case["methods"][name]["figures"]) for name in methods]
        lines += ["", *_table(rows), ""]
        lines += [f"- {name}: {case['methods'][name]['verdict']}" for name in methods]
        lines += [f"- Best: {case['best_why']}."]
        if _sheet_path(pictures, case["name"]).exists():
            lines += ["", f"![source, {', '.join(methods)}](pictures/{_sheet_path(pictures, case['name']).name})"]
    return "\n".join(lines)


def _table(rows: list[tuple[str, Mapping[str, float | None]]]) -> list[str]:
    assert set(_COLUMNS) <= set(METRICS)
    lines = ["| | " + " | ".join(_SHORT[name] for name in _COLUMNS) + " |", "|---|" + "--:|" * len(_COLUMNS)]
    return lines + [f"| {name} | " + " | ".join(_show(figures[c]) for c in _COLUMNS) + " |" for name, figures in rows]


def _means(figures: list[Mapping[str, float | None]]) -> dict[str, float]:
    return {name: mean([_number(each[name]) for each in figures]) for name in METRICS}


def _speed(name: str, methods: list[Mapping[str, Any]]) -> str:
    key = mean([each["seconds_per_key_frame"] for each in methods])
    clip = mean([each["seconds"] for each in methods])
    clean = sum(each["verdict"].startswith("No fault") for each in methods)
    return f"| {name} | {key:.1f} | {clip:.0f} | {clean} of {len(methods)} |"


def _number(value: float | None) -> float:
    return float("nan") if value is None else value


def _show(value: float | None) -> str:
    return show(_number(value))
