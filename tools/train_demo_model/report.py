"""Measures the finished checkpoint on held-out material and writes figures and pictures for the model card."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from rerender.evaluate.looks import LOOKS, PHRASES, apply_look
from rerender.evaluate.metrics import pair_warp_error
from rerender.evaluate.motion import PairMotion
from rerender.evaluate.scenes import FIRST_HELD_OUT_SEED, Scene, scene
from rerender.host import RenderRequest
from rerender.hosts.standalone import load_host
from rerender.hosts.standalone.host import StandaloneHost
from tools.train_demo_model import held_out
from tools.train_demo_model.looks_like import edge_correlation, nearest_look
from tools.train_demo_model.runs import psnr

log = logging.getLogger(__name__)

Frame = NDArray[np.uint8]

STRENGTH, CFG, STEPS = 0.35, 2.5, 20
"""What the model card recommends for img2img."""

PAINTED = [look for look in LOOKS if look != "photo"]
LOOKS_PER_FRAME = 2
SEEDS = (0, 1)
WARP_SCENES = ("translation", "parallax", "rotation", "deformation")
SHEET_CAPTIONS = [
    f"{PHRASES[look]} {thing}"
    for look, things in zip(
        LOOKS,
        [
            ("a red circle on grass", "a cat"),
            ("a blue star on sand", "a cup of coffee on wood"),
            ("a yellow heart on water", "an astronaut"),
            ("a green triangle on clouds", "a rocket"),
            ("a white flower on leaves", "a red ring on stone"),
            ("a black cross on snow", "a cat"),
            ("a pink square on bricks", "stars"),
            ("an orange heart on tiles", "a blue circle on grass"),
        ],
        strict=True,
    )
    for thing in things
]


@dataclass(frozen=True)
class Subject:
    """A held-out frame, what it shows, and which clip it is from."""

    frame: Frame
    caption: str
    clip: str


def subjects() -> list[Subject]:
    """Six frames of bigbuckbunny.mp4 and the middle frame of each of the 18 held-out scenes."""
    bunny = [Subject(f, "", "bunny") for f in held_out.bunny_frames(every=24)]
    return bunny + [Subject(f, caption, f"scene {n}") for n, (f, caption) in enumerate(held_out.scene_frames())]


def prompt(look: str, caption: str) -> str:
    """The prompt for a look; without a caption the look alone."""
    return f"{PHRASES[look]} {caption}" if caption else PHRASES[look].removesuffix(" of")


def restyle(host: StandaloneHost, frame: Frame, text: str, seed: int, strength: float = STRENGTH) -> Frame:
    """img2img with the recommended settings."""
    request = RenderRequest(frame, text, steps=STEPS, cfg_scale=CFG, denoising_strength=strength, seed=seed)
    return host.render(request).picture


def through_autoencoder(host: StandaloneHost, frame: Frame) -> Frame:
    """Encode and decode."""
    x = torch.from_numpy(frame.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
    out = host.decode(host.encode(x))[0].permute(1, 2, 0)
    return ((out + 1) * 127.5).round().clamp(0, 255).byte().numpy()


def _psnr(a: Frame, b: Frame) -> float:
    x, y = (torch.from_numpy(f.astype(np.float32)) / 127.5 - 1 for f in (a, b))
    return psnr(x, y)


def reconstruction(host: StandaloneHost, docs: Path) -> list[str]:
    """PSNR of the autoencoder, and a picture of it."""
    groups = {
        "bigbuckbunny.mp4": held_out.bunny_frames(),
        "held-out scenes": [frame for frame, _ in held_out.scene_frames()],
    }
    rows, tiles = [], []
    for (name, frames), wanted in zip(groups.items(), (25.5, 28.0), strict=True):
        outs = [through_autoencoder(host, frame) for frame in frames]
        value = float(np.mean([_psnr(a, b) for a, b in zip(frames, outs, strict=True)]))
        rows.append(f"| autoencoder, {name}, 256², {len(frames)} frames | {value:.2f} dB | ≥ {wanted} dB |")
        tiles += [np.vstack([frames[n], outs[n]]) for n in range(0, len(frames), len(frames) // 4)][:4]
    _save(docs / "reconstruction.png", np.hstack(tiles), 0.6)
    return rows


@dataclass(frozen=True)
class Trial:
    """One restyled frame and how it was judged."""

    look: str
    seen: str
    edges: float


def trials(host: StandaloneHost) -> Iterator[tuple[Trial, Frame, Subject]]:
    """Restyle every subject in some looks (each look gets its turn) with each seed."""
    for n, subject in enumerate(subjects()):
        for k in range(LOOKS_PER_FRAME):
            look = PAINTED[(LOOKS_PER_FRAME * n + k) % len(PAINTED)]
            for seed in SEEDS:
                out = restyle(host, subject.frame, prompt(look, subject.caption), seed)
                seen = nearest_look(out, subject.frame)
                yield Trial(look, seen, edge_correlation(out, subject.frame)), out, subject


def prompt_control(host: StandaloneHost) -> list[str]:
    """Whether results have the look that was asked for, and the layout of their frame."""
    right, edges = [], []
    for subject in subjects():
        for look in LOOKS:
            true = through_autoencoder(host, apply_look(subject.frame, look))
            right.append(nearest_look(true, subject.frame) == look)
            if look != "photo":
                edges.append(edge_correlation(true, subject.frame))
    done = [trial for trial, _, _ in trials(host)]
    hits = {look: [t.seen == look for t in done if t.look == look] for look in PAINTED}
    log.info("confusions: %s", sorted((t.look, t.seen) for t in done if t.look != t.seen))
    rows = [
        f"| classifier on true looks after the autoencoder ({len(right)}) | {np.mean(right):.1%} | ≥ 95 % |",
        f"| img2img has the look asked for ({len(done)}) | {np.mean([t.seen == t.look for t in done]):.1%} | ≥ 80 % |",
        f"| edge correlation with the source | {np.mean([t.edges for t in done]):.2f} | ≥ 0.40 |",
        f"| edge correlation of true looks after the autoencoder | {np.mean(edges):.2f} | |",
    ]
    return rows + [f"| right of {look} ({len(h)}) | {np.mean(h):.0%} | |" for look, h in hits.items()]


def look_sheet(host: StandaloneHost, docs: Path) -> None:
    """Source, then every look: once as computed by image processing, once as made by the model."""
    chosen = subjects()[2], subjects()[6], subjects()[15]
    rows = []
    for subject in chosen:
        true = [apply_look(subject.frame, look) for look in PAINTED]
        made = [restyle(host, subject.frame, prompt(look, subject.caption), 0) for look in PAINTED]
        rows += [np.hstack([subject.frame, *true]), np.hstack([subject.frame, *made])]
    _save(docs / "looks.png", np.vstack(rows), 0.5)


def text_sheet(host: StandaloneHost, docs: Path) -> None:
    """txt2img of 16 captions, each written under its picture."""
    tiles = []
    for n, caption in enumerate(SHEET_CAPTIONS):
        request = RenderRequest(
            np.zeros((256, 256, 3), np.uint8),
            caption,
            steps=STEPS,
            cfg_scale=3.0,
            denoising_strength=1.0,
            seed=100 + n,
            initial_latent=torch.zeros(1, 4, 32, 32),
        )
        tile = cv2.copyMakeBorder(host.render(request).picture, 0, 24, 0, 0, cv2.BORDER_CONSTANT, value=(255,) * 3)
        cv2.putText(tile, caption, (4, 272), cv2.FONT_HERSHEY_SIMPLEX, 0.34, (0, 0, 0), 1, cv2.LINE_AA)
        tiles.append(tile)
    _save(docs / "txt2img.png", np.vstack([np.hstack(tiles[n : n + 4]) for n in range(0, 16, 4)]), 0.8)


def speed(host: StandaloneHost) -> list[str]:
    """Wall time of a key frame: median of three, after one to warm up."""
    frame = subjects()[0].frame
    rows = []
    for strength, calls in ((STRENGTH, round(STEPS * STRENGTH) + 1), (1.0, STEPS)):
        times = []
        for _ in range(4):
            began = time.perf_counter()
            restyle(host, frame, "an oil painting", 0, strength)
            times.append(time.perf_counter() - began)
        what = f"256² key frame, {STEPS} steps, strength {strength} ({calls} calls with CFG)"
        load = f"load average {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "load unknown"
        rows.append(f"| {what}, {torch.get_num_threads()} threads, {load} | {np.median(times[1:]):.1f} s | < 5 s |")
    return rows


def baseline(host: StandaloneHost, docs: Path, frames: int = 4) -> list[str]:
    """Warp error of scenes restyled frame by frame with one seed, judged by exact flow and occlusion."""
    rows, strips = [], []
    for n, kind in enumerate(WARP_SCENES):
        clip = scene(kind, FIRST_HELD_OUT_SEED, (256, 256), 12)
        look = ("oil", "comic", "watercolour", "ink")[n]
        pick = range(4, 4 + frames)
        outs = [restyle(host, clip.frame(i), prompt(look, clip.captions[i]), 0) for i in pick]
        trues = [apply_look(clip.frame(i), look) for i in pick]
        errors = []
        for pictures in (outs, trues, [clip.frame(i) for i in pick]):
            pairs = [
                pair_warp_error(pictures[k], pictures[k + 1], _truth(clip, i)) for k, i in enumerate(list(pick)[:-1])
            ]
            errors.append(float(np.mean(pairs)))
        rows.append(f"| {clip.name} | {look} | {errors[0]:.0f} | {errors[1]:.0f} | {errors[2]:.0f} |")
        strips.append(np.hstack(outs))
    _save(docs / "per-frame-baseline.png", np.vstack(strips), 0.5)
    return rows


def _truth(clip: Scene, i: int) -> PairMotion:
    return PairMotion(
        clip.flow_between(i, i + 1),
        clip.flow_between(i + 1, i),
        ~clip.occluded_between(i, i + 1),
        ~clip.occluded_between(i + 1, i),
    )


def _save(path: Path, picture: Frame, scale: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    cv2.imwrite(str(path), cv2.cvtColor(small, cv2.COLOR_RGB2BGR))


BEGIN, END = "<!-- figures: written by `python -m tools.train_demo_model report` -->", "<!-- end of figures -->"


def write(checkpoint: Path, docs: Path) -> None:
    """Measure, save pictures to `docs`/demo-model and replace the figures in `docs`/model-card.md."""
    host = load_host(checkpoint, device="cpu")
    pictures = docs / "demo-model"
    rows = reconstruction(host, pictures)
    look_sheet(host, pictures)
    text_sheet(host, pictures)
    rows += prompt_control(host) + speed(host)
    warp = baseline(host, pictures)
    text = "\n".join(
        [
            BEGIN,
            f"img2img at strength {STRENGTH}, CFG {CFG}, {STEPS} steps DPM++ 2M.",
            "",
            "| measured on held-out material | reached | wanted |",
            "|---|---|---|",
            *rows,
            "",
            "Warp error (mean squared 8-bit levels over pixels that both frames show, along the exact flow):",
            "",
            "| scene | look | model, frame by frame | look by image processing | source |",
            "|---|---|---|---|---|",
            *warp,
            END,
        ]
    )
    card = docs / "model-card.md"
    before, rest = card.read_text(encoding="utf-8").split(BEGIN)
    card.write_text(before + text + rest.split(END)[1], encoding="utf-8")
    log.info("\n%s", text)
