"""Drift: how far a chain of key frames moves away from its first one, and which part of the method lets it.

``python -m benchmarks.keyframe_drift [--checkpoint FILE] [--clips deformation:watercolour …] [--size 96] [--keys 20]
[--json FILE]``

Each key frame refers to the one before it alone (a new anchor each time), so that what a link loses adds to what the
links before it lost. "Anchor kept" is what a run does: the first key frame is a reference for ever. Flow is exact, so
that a wandering flow does not count. AdaIN is off, which hides loss of contrast, but for the rows that name it. In
"round trips" nothing is sampled: the first key frame is warped, encoded and decoded again and again, which is the part
that fidelity encoding answers for.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.keyframe_clips import ExactFlow, Footage, open_footage, translate
from benchmarks.keyframe_quality import COMMON, NONE
from rerender.diffusion.fidelity import fidelity_encode
from rerender.evaluate.metrics import laplacian_variance, pair_warp_error
from rerender.host import Host
from rerender.hosts.standalone import load_host
from rerender.motion.occlusion import Correspondence, correspond
from rerender.motion.warp import warp
from rerender.translate.frames import to_image, to_picture, to_unit

Encode = Callable[[torch.Tensor], torch.Tensor]

CHAINS: dict[str, dict[str, Any]] = {
    "plain encoding": {"fidelity_encoding": False, "detail_fusion": False},
    "fidelity encoding": {"detail_fusion": False},
    "plain encoding, detail fusion": {"fidelity_encoding": False},
    "fidelity encoding, detail fusion": {},
    "plain encoding, pixel_strength 1": {"fidelity_encoding": False, "detail_fusion": False, "pixel_strength": 1.0},
    "fidelity encoding, pixel_strength 1": {"detail_fusion": False, "pixel_strength": 1.0},
}
ANCHORED = {
    **{f"{way}, anchor kept": CHAINS[way] for way in list(CHAINS)[:4]},
    "fidelity encoding, AdaIN, anchor kept": {"detail_fusion": False, "color_adain": True},
    "everything, anchor kept": {"color_adain": True},
}
LINKED: dict[str, Any] = {"reanchor_below": 1.0}
CLIPS = ("deformation:watercolour", "rotation:oil", "parallax:ink")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, default=Path("models/rerender-demo.safetensors"))
    parser.add_argument("--clips", nargs="+", default=list(CLIPS), help="kind of scene, a colon, and a look")
    parser.add_argument("--size", type=int, default=96, help="side in pixels")
    parser.add_argument("--keys", type=int, default=20, help="length of the chain; neighbouring frames")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    arguments = parser.parse_args()
    host = load_host(arguments.checkpoint)
    found = {}
    for pair in arguments.clips:
        name, _, look = pair.partition(":")
        found[pair] = drift(host, open_footage(name, look, arguments.size, arguments.keys))
        print_table(pair, found[pair])
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(found, indent=1), encoding="utf-8")


def drift(host: Host, footage: Footage) -> dict[str, dict[str, Any]]:
    """All chains on one clip, by name."""
    free = _rendered(host, footage, NONE)
    rows = {"per-frame img2img": free}
    rows |= {way: _rendered(host, footage, {**LINKED, **options}) for way, options in CHAINS.items()}
    rows |= {way: _rendered(host, footage, options) for way, options in ANCHORED.items()}
    rows["round trips, plain encoding"] = list(round_trips(host, footage, free, host.encode))
    rows["round trips, fidelity encoding"] = list(
        round_trips(host, footage, free, lambda image: fidelity_encode(image, host, verify=False))
    )
    return {way: drift_of(footage, pictures) for way, pictures in rows.items()}


def round_trips(host: Host, footage: Footage, free: list[np.ndarray], encode: Encode) -> Iterator[np.ndarray]:
    """The first picture of `free` warped from frame to frame and coded each time; what is hidden comes from `free`."""
    picture = free[0]
    yield picture
    for number, link in enumerate(_links(footage), start=1):
        hidden = link.occlusion[..., None]
        target = warp(to_unit(picture), link.flow) * (1 - hidden) + to_unit(free[number]) * hidden
        with torch.no_grad():
            picture = to_picture(host.decode(encode(to_image(target.astype(np.float32)))))
        yield picture


def drift_of(footage: Footage, pictures: list[np.ndarray]) -> dict[str, Any]:
    """Error of each picture against the first one (squared levels), its growth a key frame, and sharpness ÷ first."""
    error = [pair_warp_error(pictures[0], each, footage.between(0, i)) for i, each in enumerate(pictures) if i]
    first = laplacian_variance(pictures[0])
    return {
        "growth": float(np.polyfit(range(len(error)), error, 1)[0]),
        "errors": [round(value, 1) for value in error],
        "sharpness": [round(laplacian_variance(each) / first, 2) for each in pictures[1:]],
    }


def print_table(title: str, rows: dict[str, dict[str, Any]]) -> None:
    """One row for each chain; ratios are to the chain of its kind with plain encoding and nothing else."""
    print(f"\n| {title} | second | twentieth | growth a key frame | ÷ plain |\n|---|---|---|---|---|")
    for way, row in rows.items():
        plain = rows[_base(way)]
        ratio = f"{row['growth'] / plain['growth']:.2f}"
        print(
            f"| {way} | {row['errors'][0]:.1f} | {row['errors'][-1]:.1f} | {row['growth']:.2f} | {ratio} |", flush=True
        )


def _base(way: str) -> str:
    """The chain that shows what happens without fidelity encoding and detail fusion."""
    if way.endswith(", anchor kept"):
        return "plain encoding, anchor kept"
    kinds = ("round trips, plain encoding", "plain encoding, pixel_strength 1")
    return next((kind for kind in kinds if way == kind or way == kind.replace("plain", "fidelity")), "plain encoding")


def _rendered(host: Host, footage: Footage, options: dict[str, Any]) -> list[np.ndarray]:
    settings = {**COMMON, "color_adain": False, **options}
    keys = translate(host, footage, list(range(len(footage.frames))), settings, exact=True)
    return [key.picture for key in keys]


def _links(footage: Footage) -> list[Correspondence]:
    assert footage.truth is not None, "drift is measured on scenes"
    exact, frames = ExactFlow(footage.truth), footage.frames
    return [correspond(exact, current, before) for before, current in itertools.pairwise(frames)]


if __name__ == "__main__":
    main()
