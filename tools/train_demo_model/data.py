"""Training pictures: rendered scenes and crops of free stills, each in every look, in one array on disk."""

from __future__ import annotations

import json
import logging
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from rerender.evaluate.looks import LOOKS, apply_look
from rerender.evaluate.scenes import FIRST_HELD_OUT_SEED, KINDS, scene

Frame = NDArray[np.uint8]

log = logging.getLogger(__name__)

SIDE = 256
FRAMES_PER_SCENE = 2

# scikit-image's name of the still -> its caption. All are in the public domain or CC0.
STILLS = {
    "astronaut": "an astronaut",
    "chelsea": "a cat",
    "coffee": "a cup of coffee on wood",
    "rocket": "a rocket",
    "hubble_deep_field": "stars",
}


@dataclass(frozen=True)
class Source:
    """What one training picture is made of: a frame of a scene, or a crop of a still."""

    index: int
    seed: int
    scenes: int

    def make(self) -> tuple[list[Frame], list[str]]:
        """Pictures (SIDE, SIDE, 3) and their captions."""
        if self.index < self.scenes:
            clip = scene(KINDS[self.index % len(KINDS)], self.seed + self.index, (SIDE, SIDE))
            pick = [self.index % 3, len(clip) - 1 - self.index % 4]
            return [clip.frame(i) for i in pick], [clip.captions[i] for i in pick]
        rng = np.random.default_rng([self.seed, self.index])
        made = [_crop(rng) for _ in range(FRAMES_PER_SCENE)]
        return [frame for frame, _ in made], [caption for _, caption in made]


@cache
def stills() -> list[tuple[Frame, str]]:
    """The stills and their captions, RGB."""
    import skimage.data

    return [(getattr(skimage.data, name)(), caption) for name, caption in STILLS.items()]


def _crop(rng: np.random.Generator) -> tuple[Frame, str]:
    """A random square of a random still, resized, perhaps mirrored and with other colours."""
    picture, caption = stills()[rng.integers(len(stills()))]
    height, width = picture.shape[:2]
    side = int(min(height, width) * rng.uniform(0.45, 1.0))
    top, left = int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1))
    crop = cv2.resize(picture[top : top + side, left : left + side], (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    if rng.random() < 0.5:
        crop = crop[:, ::-1]
    if rng.random() < 0.4:  # a handful of stills has few colours: swapping channels makes more
        crop = crop[..., rng.permutation(3)]
    gain, power = rng.uniform(0.8, 1.15, 3), rng.uniform(0.75, 1.3)
    toned = 255 * np.clip(crop / 255 * gain, 0, 1) ** power
    return toned.astype(np.uint8), caption


def _looked(source: Source) -> tuple[int, NDArray[np.uint8], list[str]]:
    cv2.setNumThreads(1)
    frames, captions = source.make()
    return source.index, np.stack([[apply_look(f, look) for look in LOOKS] for f in frames]), captions


@dataclass(frozen=True)
class Pictures:
    """The prepared data: `pixels` (N, looks, SIDE, SIDE, 3) uint8 and a caption for each of N."""

    pixels: NDArray[np.uint8]
    captions: list[str]


def prepare(folder: Path, scenes: int, crops: int, seed: int = 0, workers: int = 2) -> None:
    """Render everything into `folder`; does nothing where that has been done."""
    if (folder / "captions.json").is_file():
        return
    assert seed + scenes < FIRST_HELD_OUT_SEED
    folder.mkdir(parents=True, exist_ok=True)
    jobs = [Source(i, seed, scenes) for i in range(scenes + crops // FRAMES_PER_SCENE)]
    count = len(jobs) * FRAMES_PER_SCENE
    shape = (count, len(LOOKS), SIDE, SIDE, 3)
    pixels = np.lib.format.open_memmap(folder / "pixels.npy", mode="w+", dtype=np.uint8, shape=shape)
    captions = [""] * count
    with ProcessPoolExecutor(workers) as pool:
        for done, (index, pictures, words) in enumerate(pool.map(_looked, jobs, chunksize=4)):
            at = index * FRAMES_PER_SCENE
            pixels[at : at + FRAMES_PER_SCENE] = pictures
            captions[at : at + FRAMES_PER_SCENE] = words
            if done % 50 == 0:
                log.info("data: %d of %d", done, len(jobs))
    pixels.flush()
    (folder / "captions.json").write_text(json.dumps(captions, indent=0))


def load(folder: Path) -> Pictures:
    """The prepared data, memory-mapped."""
    captions = json.loads((folder / "captions.json").read_text(encoding="utf-8"))
    return Pictures(np.load(folder / "pixels.npy", mmap_mode="r"), captions)
