"""What each constraint gives: consistency and sharpness of key frames on scenes with exact flow, and drift.

``python -m benchmarks.keyframe_quality [--checkpoint FILE] [--scenes translation-9000 …] [--looks oil …] [--only …]
[--drift] [--sheet FILE.png] [--json FILE]``

Against per-frame img2img with the same seed ("none"): warp error between neighbouring key frames and to the first one
(squared 8-bit levels, exact flow, visible pixels), sharpness (variance of the Laplacian ÷ that of "none"), and how
often the look that was asked for is the nearest of all looks. Flow for the method itself is estimated, as in a run.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from rerender.diffusion.fidelity import fidelity_encode
from rerender.evaluate.looks import LOOKS, apply_look
from rerender.evaluate.metrics import laplacian_variance, pair_warp_error
from rerender.evaluate.motion import SceneMotion
from rerender.evaluate.picture import lab
from rerender.evaluate.scenes import Scene, scene
from rerender.host import Host
from rerender.hosts.standalone import load_host
from rerender.motion.flow import flow_estimator
from rerender.motion.warp import warp
from rerender.settings import make_settings
from rerender.translate import KeyFrame, Translator
from rerender.translate.frames import to_image, to_picture, to_unit

SWITCHES = ("attention", "shape_fusion", "pixel_fusion", "color_adain")
NONE: dict[str, Any] = dict.fromkeys(SWITCHES, False)
WAYS: dict[str, dict[str, Any]] = {
    "none": NONE,
    **{f"only {name}": {**NONE, name: True} for name in SWITCHES},
    **{f"without {name}": {name: False} for name in SWITCHES},
    "all": {},
    "all, shared": {"passes": "shared"},
    "all, plain encoding": {"fidelity_encoding": False},
    "all, checked": {"fidelity_check": True},
}
COMMON: dict[str, Any] = {"steps": 20, "denoising_strength": 0.45, "cfg_scale": 2.5, "seed": 1}
PROMPTS = {
    "pencil": "a pencil sketch of",
    "oil": "an oil painting of",
    "watercolour": "a watercolour of",
    "mosaic": "a mosaic of",
    "ink": "an ink wash of",
    "neon": "a neon drawing of",
    "comic": "a comic of",
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, default=Path("models/rerender-demo.safetensors"))
    parser.add_argument("--scenes", nargs="+", default=["translation-9000", "zoom-9000", "parallax-9000"])
    parser.add_argument(
        "--looks",
        nargs="+",
        choices=list(PROMPTS),
        default=["watercolour", "oil", "comic"],
        help="one a scene, in turn",
    )
    parser.add_argument("--only", nargs="+", default=list(WAYS), help="ways to run")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--keys", type=int, default=4)
    parser.add_argument("--gap", type=int, default=4, help="frames between key frames")
    parser.add_argument("--set", nargs="*", default=[], help="name=value, for every way")
    parser.add_argument("--drift", action="store_true", help="a chain of 20 key frames instead")
    parser.add_argument("--sheet", type=Path, help="write the pictures here")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    arguments = parser.parse_args()
    host = load_host(arguments.checkpoint)
    common = {**COMMON, **dict(pair.split("=", 1) for pair in arguments.set)}
    figures = drift(host, arguments, common) if arguments.drift else ablation(host, arguments, common)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(figures, indent=1), encoding="utf-8")


def open_scene(name: str, size: int, frames: int) -> Scene:
    """The scene "kind-seed"."""
    kind, _, seed = name.rpartition("-")
    return scene(kind, seed=int(seed), size=(size, size), frames=frames)


def translate(host: Host, clip: Scene, frames: list[int], options: dict[str, Any]) -> list[KeyFrame]:
    """Key frames of `clip` at `frames`."""
    with Translator(host, make_settings(options), flow_estimator("dis")) as translator:
        first = translator.render_first(frames[0], clip.frames[frames[0]])
        return [first, *(translator.render_next(frame, clip.frames[frame]) for frame in frames[1:])]


# Ablation


def ablation(host: Host, arguments: argparse.Namespace, common: dict[str, Any]) -> dict[str, Any]:
    """Each way on each scene; means over the scenes."""
    frames = [number * arguments.gap for number in range(arguments.keys)]
    found: dict[str, list[dict[str, float]]] = {way: [] for way in arguments.only}
    sheet: list[np.ndarray] = []
    for name, look in zip(arguments.scenes, itertools.cycle(arguments.looks)):
        clip = open_scene(name, arguments.size, frames[-1] + 1)
        sheet.append(np.hstack([clip.frames[frame] for frame in frames]))
        free: list[KeyFrame] = []
        for way in arguments.only:
            started = time.perf_counter()
            keys = translate(
                host, clip, frames, {**common, "prompt": f"{PROMPTS[look]} {clip.captions[0]}", **WAYS[way]}
            )
            free = free or keys
            row = {**judge(clip, keys, free, look), "seconds": (time.perf_counter() - started) / len(keys)}
            found[way].append(row)
            sheet.append(np.hstack([key.picture for key in keys]))
            print(f"{name} {look} {way}: {row}", flush=True)
        print(f"{name} {look} autoencoder alone, to first: {autoencoder_alone(host, clip, free)}", flush=True)
    if arguments.sheet is not None:
        cv2.imwrite(str(arguments.sheet), np.vstack(sheet)[..., ::-1])
    means = {way: {key: float(np.mean([row[key] for row in rows])) for key in rows[0]} for way, rows in found.items()}
    _print_means(means)
    return {"means": means, "scenes": found}


def judge(clip: Scene, keys: list[KeyFrame], free: list[KeyFrame], look: str) -> dict[str, float]:
    """Figures of one way on one scene; `free` are the key frames of per-frame img2img."""
    later = list(zip(keys, free, strict=True))[1:]
    return {
        "neighbours": float(np.mean([error_between(clip, a, b) for a, b in itertools.pairwise(keys)])),
        "to_first": float(np.mean([error_between(clip, keys[0], key) for key in keys[1:]])),
        "sharpness": float(np.mean([laplacian_variance(a.picture) / laplacian_variance(b.picture) for a, b in later])),
        "look": float(np.mean([nearest_look(key.picture, clip.frames[key.index]) == look for key in keys[1:]])),
    }


def error_between(clip: Scene, a: KeyFrame, b: KeyFrame) -> float:
    """Warp error along the exact flow."""
    motion = SceneMotion(clip).between(a.index, b.index, clip.frames[a.index], clip.frames[b.index])
    return pair_warp_error(a.picture, b.picture, motion)


def autoencoder_alone(host: Host, clip: Scene, keys: list[KeyFrame]) -> dict[str, float]:
    """Error to the first key frame if it is only warped along the exact flow, encoded and decoded."""
    ways: dict[str, Callable[[Any], Any]] = {
        "plain encoding": host.encode,
        "fidelity encoding": lambda image: fidelity_encode(image, host, verify=False),
    }
    errors: dict[str, list[float]] = {way: [] for way in ways}
    for key in keys[1:]:
        image = to_image(warp(to_unit(keys[0].picture), clip.flow_between(key.index, keys[0].index)))
        for way, encode in ways.items():
            carried = replace(key, picture=to_picture(host.decode(encode(image))))
            errors[way].append(error_between(clip, keys[0], carried))
    return {way: float(np.mean(each)) for way, each in errors.items()}


def nearest_look(picture: np.ndarray, source: np.ndarray) -> str:
    """The look whose true version of `source` is nearest in colour and in contrast at four scales."""
    true = {look: _traits(apply_look(source, look)) for look in LOOKS}
    spread = np.std(list(true.values()), axis=0) + 1e-6
    return min(true, key=lambda look: float(np.abs((true[look] - _traits(picture)) / spread).sum()))


def _traits(picture: np.ndarray) -> np.ndarray:
    colour = lab(picture).reshape(-1, 3)
    contrast = []
    small: np.ndarray = colour[:, 0].reshape(picture.shape[:2]).astype(np.float32)
    for _ in range(4):
        contrast.append(float(np.abs(cv2.Laplacian(small, cv2.CV_32F)).mean()))
        small = cv2.pyrDown(small)
    return np.concatenate([colour.mean(0), colour.std(0), contrast])


def _print_means(means: dict[str, dict[str, float]]) -> None:
    base = next(iter(means.values()))
    print("\n| way | neighbours | ÷ none | to first | ÷ none | sharpness | look |\n|---|---|---|---|---|---|---|")
    for way, row in means.items():
        ratios = row["neighbours"] / base["neighbours"], row["to_first"] / base["to_first"]
        print(
            f"| {way} | {row['neighbours']:.1f} | {ratios[0]:.2f} | {row['to_first']:.1f} | {ratios[1]:.2f} "
            f"| {row['sharpness']:.2f} | {row['look']:.2f} |"
        )


# Drift


def drift(host: Host, arguments: argparse.Namespace, common: dict[str, Any], length: int = 20) -> dict[str, Any]:
    """Error against the first key frame along a chain of key frames, with and without fidelity encoding."""
    found: dict[str, Any] = {}
    for name, look in zip(arguments.scenes, itertools.cycle(arguments.looks)):
        clip = open_scene(name, arguments.size, length)
        for way in ("all", "all, plain encoding"):
            keys = translate(
                host,
                clip,
                list(range(length)),
                {**common, "prompt": f"{PROMPTS[look]} {clip.captions[0]}", **WAYS[way]},
            )
            errors = [error_between(clip, keys[0], key) for key in keys[1:]]
            growth = float(np.polyfit(range(len(errors)), errors, 1)[0])
            sharpness = [laplacian_variance(key.picture) / laplacian_variance(keys[0].picture) for key in keys[1:]]
            found[f"{name}, {way}"] = {"errors": errors, "growth": growth, "sharpness": sharpness}
            print(
                f"{name} {look} {way}: error {errors[0]:.1f} … {errors[-1]:.1f}, growth {growth:.2f} a key frame, ",
                end="",
            )
            print(f"sharpness {sharpness[0]:.2f} … {sharpness[-1]:.2f}", flush=True)
    return found


if __name__ == "__main__":
    main()
