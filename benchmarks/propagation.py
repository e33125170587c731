"""Propagation, measured: python -m benchmarks.propagation [--ebsynth PATH] [--json FILE] [--parts pair,sequences,...].

CPU seconds are process time, summed over threads. "exhaustive" is the reference's work with nothing skipped
(12 rounds of 6 passes, search over the whole source, no stop mask): it stands in for EbSynth where no binary is given.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import scipy.sparse
import scipy.sparse.linalg

from benchmarks.propagation_clips import CLIPS, measure_clip
from benchmarks.propagation_pairs import Pair, psnr, warped_pair
from benchmarks.propagation_sequences import CASES, measure_sequence
from rerender.arrays import HOST, bring
from rerender.evaluate.looks import apply_look
from rerender.evaluate.scenes import scene
from rerender.motion.flow import DisFlow
from rerender.propagate import PropagationSettings, propagate_interval
from rerender.propagate.backend import make_backend
from rerender.propagate.cuda import usable
from rerender.propagate.poisson import screened_poisson
from rerender.propagate.problem import EFFORTS, Effort, Guide
from rerender.propagate.synthesis import synthesize

Row = dict[str, Any]


def main() -> None:
    """Print the figures, and write them as JSON where that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument(
        "--parts", default="pair,sequences,poisson,cuda", help="of pair, sequences, clips, poisson, memory, cuda"
    )
    parser.add_argument("--sizes", default="256x256,512x640,1024x1024", help="heights × widths of the pairs")
    parser.add_argument("--pictures", default="coffee", help="of scikit-image: coffee, astronaut, chelsea")
    parser.add_argument("--presets", default="fast,default,quality,exhaustive")
    parser.add_argument("--frames", type=int, default=1000, help="of the memory part")
    parser.add_argument("--side", type=int, default=256, help="of the memory part's square frames")
    parser.add_argument("--cases", default=",".join(dict(CASES)), help="scenes of the sequences")
    parser.add_argument("--flows", default="exact,dis", help="of sequences and clips: exact, or an estimator's name")
    parser.add_argument("--outlines", type=float, help="weight of the outlines' guide in the sequences")
    parser.add_argument("--ebsynth", type=Path, help="an EbSynth binary to run on the same pictures")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    parts: dict[str, Callable[[argparse.Namespace], Iterator[Row]]] = {
        "pair": pair_rows,
        "sequences": sequence_rows,
        "clips": clip_rows,
        "poisson": poisson_rows,
        "memory": memory_rows,
        "cuda": cuda_rows,
    }
    figures: dict[str, Any] = {
        "machine": f"{platform.machine()}, {platform.processor()}",
        "python": platform.python_version(),
    }
    for part in options.parts.split(","):
        figures[part] = []
        for row in parts[part](options):
            figures[part].append(row)
            print(part, ", ".join(f"{key} {_short(value)}" for key, value in row.items()), flush=True)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1), encoding="utf-8")


def pair_rows(options: argparse.Namespace) -> Iterator[Row]:
    """Seconds and PSNR of each preset on pairs with known truth."""
    for size in options.sizes.split(","):
        height, width = map(int, size.split("x"))
        for name in options.pictures.split(","):
            pair = warped_pair(height, width, name)
            for preset in options.presets.split(","):
                yield {"size": size, "picture": name, "preset": preset, **_pair_row(pair, EFFORTS[preset])}
            if options.ebsynth:
                yield {"size": size, "picture": name, "preset": "ebsynth", **_ebsynth_row(pair, options.ebsynth)}


def _pair_row(pair: Pair, effort: Effort) -> Row:
    _warm_up(pair)
    # EbSynth has no refinement, so its stand-in goes without, and the presets are measured both ways.
    started, wall = time.process_time(), time.perf_counter()
    plain = synthesize(pair.style, pair.guides, effort=effort, subpixel=False)
    plain_seconds = time.process_time() - started
    plain_wall = time.perf_counter() - wall
    started = time.process_time()
    refined = synthesize(pair.style, pair.guides, effort=effort) if effort.radius else plain
    seconds = time.process_time() - started if effort.radius else plain_seconds
    work = pair.truth.shape[0] * pair.truth.shape[1] * effort.rounds * effort.passes
    return {
        "cpu_s": seconds,
        "psnr": psnr(refined.picture, pair.truth),
        "whole_pixels_cpu_s": plain_seconds,
        "whole_pixels_wall_s": plain_wall,
        "whole_pixels_psnr": psnr(plain.picture, pair.truth),
        "ns_per_pixel_pass": plain_seconds / work * 1e9,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def _warm_up(pair: Pair) -> None:
    """Compile, on a corner."""
    corner = (slice(0, 64), slice(0, 64))
    guides = [Guide(g.source[corner], g.target[corner], g.weight) for g in pair.guides]
    synthesize(np.ascontiguousarray(pair.style[corner]), guides, effort=Effort(1, 1))


def _ebsynth_row(pair: Pair, binary: Path) -> Row:
    """Run EbSynth's command line with the reference's counts on the same pictures (8 bits)."""
    with tempfile.TemporaryDirectory() as folder:
        command = [str(binary), "-style", _save(pair.style, folder, "style")]
        for number, guide in enumerate(pair.guides):
            files = [
                _save(image, folder, f"{side}{number}") for side, image in (("a", guide.source), ("b", guide.target))
            ]
            command += ["-guide", *files, "-weight", str(guide.weight)]
        output = Path(folder) / "output.png"
        command += ["-output", str(output), "-searchvoteiters", "12", "-patchmatchiters", "6", "-backend", "cpu"]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        picture = cv2.imread(str(output))[..., ::-1]
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"cpu_s": seconds, "psnr": psnr(picture, pair.truth)}


def _save(image: np.ndarray, folder: str, name: str) -> str:
    path = str(Path(folder) / f"{name}.png")
    cv2.imwrite(path, np.clip(np.rint(image), 0, 255).astype(np.uint8)[..., ::-1])
    return path


def sequence_rows(options: argparse.Namespace) -> Iterator[Row]:
    """Steadiness of propagated clips, with exact and with estimated flow."""
    settings = PropagationSettings()
    if options.outlines is not None:
        settings = replace(settings, outline_weight=options.outlines)
    for kind, look in CASES:
        for flow in options.flows.split(",") if kind in options.cases.split(",") else []:
            figures = measure_sequence(kind, look, settings, flow=flow)
            yield {"scene": kind, "look": look, "flow": flow, **asdict(figures)}


def clip_rows(options: argparse.Namespace) -> Iterator[Row]:
    """Propagated real clips, along estimated flow."""
    for name, start, look in CLIPS:
        for flow in [each for each in options.flows.split(",") if each != "exact"]:
            figures = measure_clip(name, start, look, PropagationSettings(), flow)
            yield {"clip": name, "start": start, "look": look, "flow": flow, **asdict(figures)}


def poisson_rows(_: argparse.Namespace) -> Iterator[Row]:
    """Seconds of one screened Poisson blend of three channels on one core."""
    rng = np.random.default_rng(0)
    values, gx, gy = rng.uniform(0, 100, (3, 512, 768, 3)).astype(np.float32)
    times = []
    for _repeat in range(5):
        started = time.process_time()
        screened_poisson(values, gx, gy, 2.5)
        times.append(time.process_time() - started)
    yield {"size": "512x768x3", "cpu_s": min(times), "difference_to_sparse": _difference_to_sparse(2.5)}


def _difference_to_sparse(gain: float, height: int = 120, width: int = 160) -> float:
    """Largest difference to a sparse direct solve, values 0–255."""
    rng = np.random.default_rng(0)
    values, gx, gy = rng.uniform(0, 255, (3, height, width)).astype(np.float32)
    along_x = scipy.sparse.kron(scipy.sparse.eye(height), _differences(width))
    along_y = scipy.sparse.kron(_differences(height), scipy.sparse.eye(width))
    system = scipy.sparse.eye(height * width) + gain**2 * (along_x.T @ along_x + along_y.T @ along_y)
    steps = along_x.T @ gx[:, :-1].ravel() + along_y.T @ gy[:-1].ravel()
    exact = scipy.sparse.linalg.spsolve(system.tocsc(), values.ravel() + gain**2 * steps.astype(np.float64))
    return float(np.abs(exact.reshape(height, width) - screened_poisson(values, gx, gy, gain)).max())


def _differences(count: int) -> scipy.sparse.spmatrix:
    return scipy.sparse.diags([-1.0, 1.0], [0, 1], shape=(count - 1, count))


def memory_rows(options: argparse.Namespace) -> Iterator[Row]:
    """Resident memory while one clip of many intervals of 10 frames is propagated in this process."""
    import psutil

    made, process, measured = scene("rotation", 9000, (options.side, options.side), 11), psutil.Process(), []
    for _interval in range(-(-options.frames // 10)):
        frames = [made.frame(i) for i in range(11)]
        for _result in propagate_interval(frames, frames[0], frames[-1], PropagationSettings(preset="fast")):
            pass
        measured.append(process.memory_info().rss / 2**20)
        if len(measured) % 10 == 0:
            first, last, most = measured[0], measured[-1], max(measured)
            yield {"frames": 10 * len(measured), "first_mib": first, "last_mib": last, "most_mib": most}


def cuda_rows(_: argparse.Namespace) -> Iterator[Row]:
    """Seconds on the GPU at 960×544: of one synthesis with four guides, and of whole frames, sweep and blend.

    Its memory is added up from the sizes of tensors, with or without a GPU.
    """
    from benchmarks.propagation_memory import peak_bytes  # with torch, whose 200 MiB are none of the other parts'

    for gap in (5, 10):
        yield {"size": "544x960", "keys_apart": gap, "tensors_mib": peak_bytes(544, 960, gap) / 2**20}
    if not usable():
        yield {"cuda": "not measured (no usable GPU)"}
        return
    settings = PropagationSettings(device="cuda")
    yield gpu_synthesis_row(settings, 544, 960)
    yield gpu_frames_row(settings, 544, 960)


def gpu_synthesis_row(settings: PropagationSettings, height: int, width: int) -> Row:
    """Wall seconds of a synthesis whose pictures lie on the GPU, and its mean error against the CPU's."""
    import torch

    pair, backend = warped_pair(height, width), make_backend(settings)
    arguments = backend.here((pair.style, pair.guides))
    backend.run(backend.synthesize, *arguments, None, None)
    torch.cuda.synchronize()
    started = time.perf_counter()
    for _repeat in range(5):
        made = backend.run(backend.synthesize, *arguments, None, None)
    torch.cuda.synchronize()
    seconds = (time.perf_counter() - started) / 5
    result, there = bring(made, HOST), synthesize(pair.style, pair.guides, effort=EFFORTS[settings.preset])
    ratio = float(result.error.mean() / there.error.mean())
    return {
        "size": f"{height}x{width}",
        "wall_s": seconds,
        "psnr": psnr(result.picture, pair.truth),
        "error_to_cpu": ratio,
    }


class _KnownFlow:
    """An estimator that measures each pair once, and counts the seconds."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, int], np.ndarray] = {}
        self._estimate, self.seconds = DisFlow(), 0.0

    def __call__(self, reference: np.ndarray, target: np.ndarray) -> np.ndarray:
        """Flow reference → target, (H, W, 2)."""
        pair = id(reference), id(target)
        if pair not in self._known:
            started = time.perf_counter()
            self._known[pair] = self._estimate(reference, target)
            self.seconds += time.perf_counter() - started
        return self._known[pair]


def gpu_frames_row(settings: PropagationSettings, height: int, width: int, gap: int = 9) -> Row:
    """Wall seconds of a frame between two key frames, both directions and the blend, with the flow known and without.

    Args:
        settings: where and how.
        height, width: of the frames.
        gap: frames from key to key.
    """
    frames = scene("parallax", 9000, (height, width), gap + 1).frames
    first, last = apply_look(frames[0], "oil"), apply_look(frames[-1], "oil")
    flow = _KnownFlow()
    walls = []
    for _repeat in range(3):  # the first one measures the flow, and compiles
        started = time.perf_counter()
        made = sum(1 for _ in propagate_interval(frames, first, last, settings, flow=flow))
        walls.append((time.perf_counter() - started) / made)
    return {
        "size": f"{height}x{width}",
        "frames": made,
        "frame_wall_s": min(walls[1:]),
        "frame_and_direction_wall_s": min(walls[1:]) / 2,
        "flow_wall_s": flow.seconds / made,
        **_gpu_memory(settings),
    }


def _gpu_memory(settings: PropagationSettings) -> Row:
    if settings.device != "cuda":
        return {}
    import torch

    return {"gpu": torch.cuda.get_device_name(), "peak_gpu_mib": torch.cuda.max_memory_allocated() / 2**20}


def _short(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
