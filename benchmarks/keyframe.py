"""What a key frame costs: U-Net and autoencoder calls, seconds, floating point operations, peak memory.

``python -m benchmarks.keyframe [--full-size] [--sizes 512x512 …] [--checkpoint FILE] [--json FILE]``

Ways that are compared, for the third and later key frames of a shot, at 20 steps and strength 0.74 (15 steps run):
plain (img2img of each frame alone), attention (cross-frame attention alone), and everything switched on in
two_pass (two full samplings and a checked encoding, as the reference implementation), shared (two samplings that share
their first steps), one_pass (one sampling). All of them but plain with every token of both references ("all tokens")
and with a checkerboard of them (attention_tokens).

The small model is run as it is. ``--full-size`` adds SD1.5's U-Net and autoencoder with random weights: on CUDA in
fp16; on a CPU in fp32, each part twice, the quicker one in processor seconds. Both are multiplied by how often a
part is used, and marked "extrapolated". Operations are counted, not timed, so they hold on any machine.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from rerender.diffusion.attention import with_context
from rerender.diffusion.layers import decoder_layers
from rerender.evaluate.scenes import scene
from rerender.host import Host
from rerender.hosts.standalone import load_host
from rerender.hosts.standalone.attention import use_sdpa
from rerender.hosts.standalone.config import sd1_config
from rerender.hosts.standalone.model import build_unet, build_vae
from rerender.motion.flow import flow_estimator
from rerender.settings import Settings, make_settings
from rerender.translate import Cost, Translator

OFF = {
    "attention": False,
    "shape_fusion": False,
    "pixel_fusion": False,
    "color_adain": False,
    "detail_fusion": False,
}
ATTENTION: dict[str, dict[str, Any]] = {
    "attention": {**OFF, "attention": True},
    "two_pass": {"passes": "two_pass", "fidelity_check": True},
    "shared": {"passes": "shared"},
    "one_pass": {"passes": "one_pass"},
}
WAYS: dict[str, dict[str, Any]] = {
    "plain": OFF,
    **{f"{way}, all tokens": {**settings, "attention_tokens": "all"} for way, settings in ATTENTION.items()},
    **{f"{way}, checkerboard": {**settings, "attention_tokens": "checkerboard"} for way, settings in ATTENTION.items()},
}
FULL_SIZES = ((512, 512), (512, 640), (512, 768))
KEYS = (0, 2, 4, 6)

Parts = dict[str, float]
"""Cost of one use of each part: a U-Net call without references ("unet"), with two ("unet, all tokens"), …"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, help="small model to run (default: a tiny one with random weights)")
    parser.add_argument("--size", type=int, default=128, help="side of the small model's pictures")
    parser.add_argument("--full-size", action="store_true", help="also time SD1.5's U-Net and autoencoder")
    parser.add_argument("--sizes", nargs="+", type=_size, default=FULL_SIZES, help="of SD1.5's pictures")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    arguments = parser.parse_args()
    small = measure_small(arguments.checkpoint, arguments.size)
    figures: dict[str, Any] = {"machine": machine(), "small": small}
    figures["operations"] = count_operations(small, arguments.sizes)
    show("Small model, one key frame", small, ("unet", "encode", "decode", "seconds", "ratio"))
    for size, rows in figures["operations"].items():
        show(f"SD1.5 at {size}, operations (counted)", rows, ("tera_flop", "ratio"))
    if arguments.full_size:
        figures["full_size"] = time_full_size(small, arguments.sizes)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(figures, indent=1), encoding="utf-8")


def _size(text: str) -> tuple[int, int]:
    height, _, width = text.partition("x")
    return int(height), int(width)


def machine() -> dict[str, str]:
    """What the figures were measured on."""
    cuda = torch.cuda.is_available()
    return {
        "device": torch.cuda.get_device_name() if cuda else f"CPU, {torch.get_num_threads()} threads",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "date": time.strftime("%Y-%m-%d"),
    }


def settings_for(way: str) -> Settings:
    """20 steps, of which 15 run."""
    return make_settings({"steps": 20, "denoising_strength": 0.74, "seed": 1, "reanchor_below": 0.0, **WAYS[way]})


# The small model, run as it is


def measure_small(checkpoint: Path | None, size: int) -> dict[str, Any]:
    """Cost of a key frame with two references, each way."""
    with tempfile.TemporaryDirectory() as folder:
        host = load_host(checkpoint or _tiny_checkpoint(Path(folder)), device="auto")
        rows = {way: _run_small(host, way, size) for way in WAYS}
    for row in rows.values():
        row["ratio"] = row["seconds"] / rows["plain"]["seconds"]
    return rows


def _tiny_checkpoint(folder: Path) -> Path:
    from tools.make_tiny_checkpoint import make_tiny_checkpoint

    return make_tiny_checkpoint(folder)


def _run_small(host: Host, way: str, size: int) -> dict[str, Any]:
    clip = scene("translation", seed=1, size=(size, size), frames=KEYS[-1] + 1)
    settings = settings_for(way)
    with Translator(host, settings, flow_estimator(settings.flow)) as translator:
        translator.render_first(KEYS[0], clip.frames[KEYS[0]])
        costs = [translator.render_next(frame, clip.frames[frame]).cost for frame in KEYS[1:]]
        features = translator.feature_bytes
    return {
        **_counts(costs[-1]),
        "seconds": min(cost.total_seconds for cost in costs[1:]),
        "feature_mb": features / 1e6,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def _counts(cost: Cost) -> dict[str, int]:
    return {"unet": cost.unet, "encode": cost.encode, "decode": cost.decode}


def total(way: str, row: dict[str, Any], parts: Parts) -> float:
    """A key frame's cost, from how often each part is used and what one use costs."""
    unet = parts["unet" if way == "plain" else f"unet, {way.partition(', ')[2]}"]
    return row["unet"] * unet + row["encode"] * parts["encode"] + row["decode"] * parts["decode"]


def with_ratios(name: str, small: dict[str, Any], parts: Parts) -> dict[str, Any]:
    """Cost and ratio to plain img2img, each way."""
    totals = {way: total(way, row, parts) for way, row in small.items()}
    return {way: {name: value, "ratio": value / totals["plain"]} for way, value in totals.items()}


# Stable Diffusion 1.5


class FullSize:
    """SD1.5's U-Net and autoencoder.

    Args:
        device: "meta" has no weights and computes nothing, for counting.
    """

    def __init__(self, device: str, dtype: torch.dtype = torch.float32) -> None:
        config = sd1_config()
        self.unet, self.vae = (
            self._placed(build_unet(config), device, dtype),
            self._placed(build_vae(config), device, dtype),
        )
        self.like: dict[str, Any] = {"device": device, "dtype": dtype}

    @staticmethod
    def _placed(module: nn.Module, device: str, dtype: torch.dtype) -> Any:
        use_sdpa(module)
        module.eval().requires_grad_(False)
        if device == "meta":
            return module
        module = module.to_empty(device=device).to(dtype)
        for parameter in module.parameters():
            parameter.data.normal_(std=0.02)
        return module

    def parts(self, size: tuple[int, int], measure: Callable[[Callable[[], Any]], float]) -> Parts:
        """`measure` of each part at a picture size (height, width); two rows, as with guidance."""
        height, width = size[0] // 8, size[1] // 8
        latent, image = torch.zeros(1, 4, height, width, **self.like), torch.zeros(1, 3, *size, **self.like)
        costs = {"unet": measure(lambda: self._step(latent))}
        for tokens in ("all tokens", "checkerboard"):
            with self._two_references(height * width, tokens == "checkerboard"):
                costs[f"unet, {tokens}"] = measure(lambda: self._step(latent))
        costs["encode"] = measure(lambda: self.vae.encode(image))
        costs["decode"] = measure(lambda: self.vae.decode(latent))
        return costs

    def _step(self, latent: torch.Tensor) -> Any:
        level, context = torch.zeros(2, **self.like), torch.zeros(2, 77, 768, **self.like)
        return self.unet(torch.cat([latent, latent]), level, context=context)

    @contextmanager
    def _two_references(self, cells: int, checkerboard: bool) -> Iterator[None]:
        """As many tokens for keys and values as two reference frames give, copied from half precision."""

        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            finest = args[0].shape[1] == cells
            context = torch.cat([args[0].half().to(args[0].dtype)] * (1 if checkerboard and finest else 2), 1)
            return with_context(args, kwargs, context)

        layers = decoder_layers(self.unet)
        handles = [layer.module.register_forward_pre_hook(hook, with_kwargs=True) for layer in layers]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def count_operations(small: dict[str, Any], sizes: Sequence[tuple[int, int]]) -> dict[str, Any]:
    """Floating point operations of a key frame at each size, in 10^12."""
    model = FullSize("meta")

    def count(run: Callable[[], Any]) -> float:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            run()
        return counter.get_total_flops() / 1e12

    return {f"{h}x{w}": with_ratios("tera_flop", small, model.parts((h, w), count)) for h, w in sizes}


def time_full_size(small: dict[str, Any], sizes: Sequence[tuple[int, int]]) -> dict[str, Any]:
    """Seconds of a key frame at each size, from one use of each part; each size is printed as soon as it is done."""
    cuda = torch.cuda.is_available()
    model = FullSize("cuda", torch.float16) if cuda else FullSize("cpu")
    results = {}
    for size in sizes:
        parts = model.parts(size, _seconds_cuda if cuda else _seconds_cpu)
        ways = with_ratios("seconds", small, parts)
        name = f"{size[0]}x{size[1]}"
        results[name] = {"parts": parts, "ways": ways}
        show(f"SD1.5 at {name}, {machine()['device']}", ways, ("seconds", "ratio"))
        uses = ", ".join(f"{part} {seconds:.3g} s" for part, seconds in parts.items())
        print(f"\nExtrapolated from one use of each part: {uses}.", flush=True)
    return results


def _seconds_cpu(run: Callable[[], Any]) -> float:
    """Processor time of all threads, which other programs on the machine do not change much; the better of two."""
    seconds = []
    for _ in range(2):
        started = time.process_time()
        with torch.no_grad():
            run()
        seconds.append(time.process_time() - started)
    return min(seconds)


def _seconds_cuda(run: Callable[[], Any]) -> float:
    with torch.no_grad():
        run()
        torch.cuda.synchronize()
        started = time.perf_counter()
        for _ in range(10):
            run()
        torch.cuda.synchronize()
    return (time.perf_counter() - started) / 10


def show(title: str, rows: dict[str, Any], columns: tuple[str, ...]) -> None:
    """Print a Markdown table."""
    print(f"\n{title}\n\n| way | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}")
    for way, row in rows.items():
        print(f"| {way} | {' | '.join(f'{row[c]:.3g}' for c in columns)} |")


if __name__ == "__main__":
    main()
