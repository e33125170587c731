"""What each constraint gives: consistency and sharpness of key frames on scenes and on videos.

``python -m benchmarks.keyframe_quality [--checkpoint FILE] [--clips translation:comic bigbuckbunny.mp4:oil …]
[--only WAY …] [--size 160] [--keys 5] [--gap 4] [--judge-flow dis] [--sheet FOLDER] [--json FILE]``

Against per-frame img2img with the same seed ("none"): warp error between neighbouring key frames and to the first one,
sharpness where the first one shows the same thing, and how often the look that was asked for is the nearest of all.
Scenes are measured along their exact flow, videos along estimated flow; the method itself always estimates flow,
as in a run, unless a way says "exact flow". Ratios are formed clip by clip, then averaged. "Sure": only
pixels whose motion the source itself follows to within 20 levels; where it does not, estimated flow is wrong, and a
warp error says nothing.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.keyframe_clips import CAPTIONS, Footage, judge, open_footage, translate
from rerender.host import Host
from rerender.hosts.standalone import load_host

SWITCHES = ("attention", "shape_fusion", "pixel_fusion", "color_adain", "detail_fusion")
TOKENS = ("all", "checkerboard")
NONE: dict[str, Any] = dict.fromkeys(SWITCHES, False)
PUBLISHED: dict[str, Any] = {"detail_fusion": False, "pixel_strength": 0.5, "pixel_end": 0.8, "fidelity_check": True}
WAYS: dict[str, dict[str, Any]] = {
    "none": NONE,
    **{f"only {name}": {**NONE, name: True} for name in SWITCHES},
    **{f"only attention, tokens: {which}": {**NONE, "attention": True, "attention_tokens": which} for which in TOKENS},
    **{f"without {name}": {name: False} for name in SWITCHES},
    "all": {},
    **{f"all, tokens: {which}": {"attention_tokens": which} for which in TOKENS},
    "all, exact flow": {},
    "all, shared": {"passes": "shared"},
    "all, plain encoding": {"fidelity_encoding": False},
    "published": {**PUBLISHED, "passes": "two_pass"},
}
SHORT = ("none", "published", "without detail_fusion", "all")
COMMON: dict[str, Any] = {"steps": 20, "denoising_strength": 0.35, "cfg_scale": 2.5, "seed": 1}
CLIPS = (
    "translation:comic",
    "parallax:ink",
    "deformation:watercolour",
    "rotation:oil",
    "bigbuckbunny.mp4:comic",
    "bikes.mp4:watercolour",
    "carphone_pristine.mp4:ink",
)
FIGURES = ("neighbours_ratio", "to_first_ratio", "neighbours_sure_ratio", "to_first_sure_ratio", "sharpness", "look")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, default=Path("models/rerender-demo.safetensors"))
    parser.add_argument("--clips", nargs="+", default=list(CLIPS), help="kind of scene or video, a colon, and a look")
    parser.add_argument("--only", nargs="+", choices=list(WAYS), default=list(WAYS), help="ways to run")
    parser.add_argument("--short", action="store_true", help=f"only {', '.join(SHORT)}")
    parser.add_argument("--size", type=int, default=160, help="short side in pixels")
    parser.add_argument("--keys", type=int, default=5)
    parser.add_argument("--gap", type=int, default=4, help="frames between key frames")
    parser.add_argument("--set", nargs="*", default=[], help="name=value, for every way")
    parser.add_argument("--judge-flow", default="dis", help="estimator of the flow that videos are measured along")
    parser.add_argument("--sheet", type=Path, help="write the pictures of each clip into this folder")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    arguments = parser.parse_args()
    if arguments.short:
        arguments.only = list(SHORT)
    host = load_host(arguments.checkpoint)
    common = {**COMMON, **dict(pair.split("=", 1) for pair in arguments.set)}
    figures = ablation(host, arguments, common)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(figures, indent=1), encoding="utf-8")


def ablation(host: Host, arguments: argparse.Namespace, common: dict[str, Any]) -> dict[str, Any]:
    """Each way on each clip, and means over scenes and over videos."""
    frames = [number * arguments.gap for number in range(arguments.keys)]
    found: dict[str, dict[str, dict[str, float]]] = {}
    for pair in arguments.clips:
        name, _, look = pair.partition(":")
        footage = open_footage(name, look, arguments.size, frames[-1] + 1, arguments.judge_flow)
        found[pair], sheet = _all_ways(host, footage, frames, arguments.only, common)
        if arguments.sheet is not None:
            write_sheet(arguments.sheet / f"{Path(name).stem}-{look}.png", sheet)
    groups = {"scenes": [pair for pair in found if not _is_video(pair)], "videos": [p for p in found if _is_video(p)]}
    means = {group: _means([found[pair] for pair in pairs]) for group, pairs in groups.items() if pairs}
    for group, rows in means.items():
        _print_table(group, rows)
    for pair, rows in found.items():
        _print_table(pair, {way: rows[way] for way in SHORT if way in rows})
    return {"means": means, "clips": found}


def _all_ways(
    host: Host, footage: Footage, frames: list[int], ways: list[str], common: dict[str, Any]
) -> tuple[dict[str, dict[str, float]], list[np.ndarray]]:
    free = translate(host, footage, frames, {**common, **NONE})
    rows, sheet = {}, [np.hstack([footage.frames[frame] for frame in frames])]
    for way in ways:
        exact = way.endswith("exact flow")
        if exact and footage.truth is None:
            continue
        started = time.process_time()
        keys = free if way == "none" else translate(host, footage, frames, {**common, **WAYS[way]}, exact=exact)
        rows[way] = {**judge(footage, keys, free), "cpu_seconds": (time.process_time() - started) / len(keys)}
        sheet.append(np.hstack([key.picture for key in keys]))
        print(footage.case.name, way, {k: round(v, 3) for k, v in rows[way].items()}, flush=True)
    return rows, sheet


def _is_video(pair: str) -> bool:
    return pair.partition(":")[0] in CAPTIONS


def _means(clips: list[dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    ways = {way: [rows[way] for rows in clips if way in rows] for way in clips[0]}
    return {way: {key: float(np.mean([row[key] for row in rows])) for key in rows[0]} for way, rows in ways.items()}


def write_sheet(path: Path, rows: list[np.ndarray]) -> None:
    """Source on top, then one row of key frames for each way."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.vstack(rows)[..., ::-1])


def _print_table(title: str, rows: dict[str, dict[str, float]]) -> None:
    heads = "neighbours ÷ none | to first ÷ none | neighbours, sure | to first, sure | sharpness ÷ none | look"
    print(f"\n| {title} | {heads} |\n|---|{'---|' * len(FIGURES)}")
    for way, row in rows.items():
        print(f"| {way} | {' | '.join(f'{row[figure]:.2f}' for figure in FIGURES)} |")


if __name__ == "__main__":
    main()
