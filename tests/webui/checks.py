"""What is checked inside a running webui. Each function returns values that JSON can hold; tests judge them."""

from __future__ import annotations

import copy
import random
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from modules import sd_hijack, sd_samplers, sd_schedulers, shared
from modules.processing import StableDiffusionProcessingImg2Img, process_images
from PIL import Image

from rerender.errors import Interrupted, UserError
from rerender.evaluate.scenes import scene
from rerender.host import RenderRequest, Sampling
from rerender.hosts.webui.host import WebuiHost
from rerender.motion.flow import flow_estimator
from rerender.settings import make_settings
from rerender.translate import Translator

SIZE = (128, 128)
BASE: dict[str, Any] = {
    "prompt": "an oil painting of a face",
    "negative_prompt": "photo",
    "steps": 8,
    "cfg_scale": 2.5,
    "denoising_strength": 0.6,
    "seed": 3,
}


def startup_cost() -> dict[str, Any]:
    """CPU seconds of what the extension does while the webui starts, and which of its modules are loaded by then."""
    import gradio as gr
    from fastapi import FastAPI

    from rerender.hosts.webui import extension
    from rerender.hosts.webui.script import RerenderScript

    def seconds(work: Callable[[], Any]) -> float:
        began = time.thread_time()
        work()
        return time.thread_time() - began

    # The worker runs as __main__.
    cost = {"load": sys.modules["__main__"].startup["seconds"]}  # type: ignore[attr-defined]
    cost["tab"] = seconds(extension.make_tab)
    with gr.Blocks():
        cost["script"] = seconds(lambda: RerenderScript().ui(True))
    cost["routes"] = seconds(lambda: extension.add_routes(None, FastAPI()))
    return {"cost": cost, "modules": sys.modules["__main__"].startup["modules"]}  # type: ignore[attr-defined]


def loaded_modules() -> list[str]:
    return sorted(sys.modules)


def frames(count: int = 2) -> list[np.ndarray]:
    return list(scene("translation", seed=1, size=SIZE, frames=count).frames)


def request(**changes: Any) -> RenderRequest:
    return replace(RenderRequest(picture=frames(1)[0], **BASE), **changes)


def plain_img2img(picture: np.ndarray, sampler: str) -> np.ndarray:
    """What the webui's API does, without our code, with torch's global generator seeded."""
    p = StableDiffusionProcessingImg2Img(
        sd_model=shared.sd_model,
        outpath_samples="",
        outpath_grids="",
        init_images=[Image.fromarray(picture)],
        sampler_name=sampler,
        scheduler="Automatic",
        width=picture.shape[1],
        height=picture.shape[0],
        do_not_save_samples=True,
        do_not_save_grid=True,
        **BASE,
    )
    torch.manual_seed(BASE["seed"])
    return np.asarray(process_images(p).images[0].convert("RGB"))


@contextmanager
def looking_on(sampling: Sampling) -> Iterator[None]:
    """Hooks that change nothing."""
    handles = [
        sampling.denoiser.register_forward_hook(lambda module, args, output: None),
        *(module.register_forward_pre_hook(lambda module, args: None) for module in sampling.unet.modules()),
    ]
    yield
    for handle in handles:
        handle.remove()


def samplers() -> list[str]:
    return [sampler.name for sampler in sd_samplers.all_samplers]


def same_as_plain(sampler: str) -> dict[str, Any]:
    plain = plain_img2img(frames(1)[0], sampler)
    host = WebuiHost()
    bare = host.render(request(sampler=sampler)).picture
    hooked = host.render(request(sampler=sampler), attach=looking_on).picture
    return {
        "bare": bool(np.array_equal(plain, bare)),
        "hooked": bool(np.array_equal(plain, hooked)),
        "changed_source": float(np.abs(plain.astype(int) - frames(1)[0]).mean()),
    }


def announced_calls(sampler: str) -> dict[str, Any]:
    """The model calls that were announced, and those that were made."""
    made: list[float] = []
    seen: list[Sampling] = []
    steps: list[tuple[int, int]] = []

    @contextmanager
    def attach(sampling: Sampling) -> Iterator[None]:
        seen.append(sampling)
        handle = sampling.denoiser.register_forward_pre_hook(lambda m, args: made.append(float(args[1].flatten()[0])))
        yield
        handle.remove()

    WebuiHost().render(request(sampler=sampler), attach=attach, on_step=lambda done, total: steps.append((done, total)))
    sampling = seen[0]
    return {
        "form": sampling.form,
        "made": made,
        "announced": [call.sigma for call in sampling.calls],
        "first": [call.first for call in sampling.calls],
        "step": [call.step for call in sampling.calls],
        "multistep": sampling.multistep,
        "on_step": steps,
    }


def rows_of(prompt: str) -> dict[str, int]:
    """The rows of a model call that were announced, and those that came, at most."""
    from rerender.diffusion.rows import follow_rows

    counted: dict[str, int] = {}

    @contextmanager
    def attach(sampling: Sampling) -> Iterator[None]:
        counted["announced"] = sampling.rows
        with follow_rows(sampling.denoiser, sampling.unet) as cursor:
            made: list[int] = []
            handle = sampling.denoiser.register_forward_hook(lambda module, args, output: made.append(cursor.start))
            yield
            handle.remove()
            counted["made"] = max(made)

    WebuiHost().render(request(prompt=prompt), attach=attach)
    return counted


def refuses(sampler: str) -> str:
    try:
        WebuiHost().render(request(sampler=sampler))
    except UserError as error:
        return str(error)
    return ""


def _state_of_webui() -> dict[str, Any]:
    unet = shared.sd_model.model.diffusion_model
    return {
        "options": copy.deepcopy(shared.opts.data),
        "hooks": sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in shared.sd_model.modules()),
        "forwards": [module for module in unet.modules() if "forward" in vars(module)],
        "torch": torch.get_rng_state().tolist(),
        "python": random.getstate(),
        "numpy": np.random.get_state()[1].tolist(),
    }


def leaves_no_trace(ending: str) -> dict[str, Any]:
    """A run that ends as told ("normal", "interrupted", "failing"), and what is different afterwards."""
    for name in ("hypertile_enable_unet", "img2img_extra_noise"):
        shared.opts.data.pop(name, None)  # keys that the config file lacks
    shared.opts.data["img2img_color_correction"] = True
    plain, before = plain_without_correction(), _state_of_webui()
    outcome = _run_to(ending)
    after = _state_of_webui()
    different = [name for name in before if before[name] != after[name]]
    again = plain_without_correction()
    shared.opts.data["img2img_color_correction"] = False
    return {"outcome": outcome, "different": different, "same_plain": bool(np.array_equal(plain, again))}


def plain_without_correction() -> np.ndarray:
    state = torch.get_rng_state()
    try:
        return plain_img2img(frames(1)[0], "Euler a")
    finally:
        torch.set_rng_state(state)


def _run_to(ending: str) -> str:
    settings = make_settings({**BASE, "sampler": "Euler"})
    calls = 0

    def on_step(done: int, total: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 7 and ending == "interrupted":
            shared.state.interrupt()
        if calls == 7 and ending == "failing":
            raise ZeroDivisionError("on purpose")

    try:
        with Translator(WebuiHost(), settings, flow_estimator("dis")) as translator:
            for number, picture in enumerate(frames(2)):
                render = translator.render_first if number == 0 else translator.render_next
                render(number, picture, on_step=on_step)
    except (Interrupted, ZeroDivisionError) as error:
        return type(error).__name__
    finally:
        shared.state.interrupted = False
    return "done"


def translate(
    options: dict[str, Any] | None = None, count: int = 2, masked: bool = False, **settings: Any
) -> np.ndarray:
    """Key frames with all constraints on, (count, H, W, 3), with webui options changed meanwhile.

    masked: only the left half is rendered.
    """
    from rerender.hosts.webui.options import pinned_options

    out = []
    with pinned_options(shared.opts, options or {}):
        chosen = make_settings({**BASE, **settings})
        with Translator(WebuiHost(), chosen, flow_estimator("dis")) as translator:
            for number, picture in enumerate(frames(count)):
                render = translator.render_first if number == 0 else translator.render_next
                out.append(render(number, picture, mask=left_half() if masked else None).picture)
    return np.stack(out)


def left_half() -> np.ndarray:
    mask = np.zeros(SIZE, np.float32)
    mask[:, : SIZE[1] // 2] = 1
    return mask


def save_translation(path: str, **settings: Any) -> str:
    np.save(path, translate(count=3, **settings))
    return str(Path(shared.sd_model.sd_checkpoint_info.filename))


def attention_optimisations(tokens: str) -> dict[str, Any]:
    """Mean and largest difference to the plain implementation, by name of the optimisation, in 255ths."""
    pictures: dict[str, np.ndarray] = {}
    try:
        for name in ["None", *(each.title() for each in sd_hijack.optimizers)]:
            sd_hijack.model_hijack.apply_optimizations(name)
            pictures[name] = translate(count=3, sampler="Euler", attention_tokens=tokens).astype(int)
    finally:
        sd_hijack.model_hijack.apply_optimizations()
    base = pictures.pop("None")
    return {
        name: {"mean": float(np.abs(p - base).mean()), "max": int(np.abs(p - base).max())}
        for name, p in pictures.items()
    }


def with_every_sampler() -> dict[str, Any]:
    """Two key frames with all constraints on, by each sampler: how far the second is from its source, or an error."""
    found: dict[str, Any] = {}
    for sampler in samplers():
        try:
            pictures = translate(sampler=sampler, steps=6).astype(int)
            found[sampler] = float(np.abs(pictures[1] - frames(2)[1]).mean())
        except UserError as error:
            found[sampler] = str(error)
    return found


def with_every_schedule() -> dict[str, str]:
    """The same, by each noise schedule."""
    return {
        schedule.label: str(list(translate(scheduler=schedule.label, steps=6).shape))
        for schedule in sd_schedulers.schedulers
    }


def row_layouts() -> dict[str, Any]:
    """Rows of the U-Net's calls differ; results must not. Mean difference to the usual layout, in 255ths."""
    usual = translate(sampler="Euler").astype(int)
    split = translate({"batch_cond_uncond": False}, sampler="Euler").astype(int)
    # Hypertile would cut this picture into tiles, in which no token sees the frame beside it.
    tiled = translate({"hypertile_enable_unet": True}, sampler="Euler").astype(int)
    return {
        "batch_cond_uncond off": float(np.abs(split - usual).mean()),
        "hypertile on": float(np.abs(tiled - usual).mean()),
    }


def unusual_prompts() -> dict[str, Any]:
    """Prompts of unequal length, AND, and merged tokens run to their end."""
    long_prompt = " ".join(["an oil painting of a face with thick strokes,"] * 12)
    results = {
        "long": translate(prompt=long_prompt),
        "and": translate(prompt="an oil painting AND a face"),
        "tomesd": translate({"token_merging_ratio": 0.4}),
        "skip_early_cond": translate({"skip_early_cond": 0.3}),
    }
    return {name: list(pictures.shape) for name, pictures in results.items()}


def sent_styles(names: list[str]) -> dict[str, Any]:
    """What img2img takes up of a key frame that was rendered with styles."""
    from modules.infotext_utils import parse_generation_parameters
    from modules.styles import PromptStyle

    from rerender.hosts.webui.extension import apply_styles
    from rerender.ui.infotext import infotext

    known = {"soft": PromptStyle("soft", "soft light", "glare"), "old": PromptStyle("old", "an old {prompt}", "")}
    kept = dict(shared.prompt_styles.styles)
    shared.prompt_styles.styles.update(known)
    try:
        text = infotext(make_settings(BASE), 0, style=lambda *prompts: apply_styles(*prompts, names))
        found = parse_generation_parameters(text)
    finally:
        shared.prompt_styles.styles.clear()
        shared.prompt_styles.styles.update(kept)
    return {"text": text, **{name: found.get(name) for name in ("Prompt", "Negative prompt", "Styles array")}}
