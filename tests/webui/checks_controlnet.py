"""What is checked in a webui with the ControlNet extension. Each function returns values that JSON can hold."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from modules import paths, scripts, shared
from modules.processing import StableDiffusionProcessingImg2Img
from PIL import Image
from safetensors.torch import save_file

from rerender.errors import Interrupted, UserError
from rerender.hosts.webui.controlnet import check_units
from rerender.hosts.webui.host import WebuiHost
from rerender.hosts.webui.processing import new_template
from rerender.motion.flow import flow_estimator
from rerender.settings import make_settings
from rerender.translate import Translator
from tests.webui.checks import BASE, SIZE, frames, request

_NAME = "tiny-control"


def make_controlnet() -> str:
    """Store a ControlNet of the demo U-Net's sizes; its name in the extension's list.

    As in training's beginning the encoder is a copy of the U-Net's; but the convolutions that end in zero are random.
    """
    network = sys.modules["scripts.cldm"].ControlNet(**_sizes(), hint_channels=3, use_fp16=False)
    network.load_state_dict(shared.sd_model.model.diffusion_model.state_dict(), strict=False)
    generator = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        if not parameter.any():
            parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
    file = Path(paths.models_path) / "ControlNet" / f"{_NAME}.safetensors"
    save_file({name: tensor.contiguous().clone() for name, tensor in network.state_dict().items()}, file)
    sys.modules["scripts.global_state"].update_cn_models()
    return next(name for name in sys.modules["scripts.global_state"].cn_models if name.startswith(_NAME))


def _sizes() -> dict[str, Any]:
    unet = shared.sd_model.model.diffusion_model
    return {
        "in_channels": unet.in_channels,
        "model_channels": unet.model_channels,
        "num_res_blocks": unet.num_res_blocks,
        "attention_resolutions": unet.attention_resolutions,
        "channel_mult": unet.channel_mult,
        "transformer_depth": 1,
        "num_heads": unet.num_heads,
        "context_dim": shared.sd_model.cond_stage_model.wrapped.transformer.config.hidden_size,
    }


@contextmanager
def _known_sizes() -> Iterator[None]:
    """The extension guesses Stable Diffusion 1.5's sizes; let it guess the loaded U-Net's."""
    guess = sys.modules["scripts.controlnet_model_guess"]
    before = guess.controlnet_default_config
    sizes = {"adm_in_channels": None, "use_linear_in_transformer": False, "transformer_depth_middle": 1}
    guess.controlnet_default_config = {**before, **sizes, **_sizes()}
    try:
        yield
    finally:
        guess.controlnet_default_config = before


@contextmanager
def _inputs_seen() -> Iterator[list[tuple[int, np.ndarray]]]:
    """(number of the unit, picture) whenever the extension has chosen what a unit gets."""
    kind = type(_script())
    original, seen = kind.choose_input_image, []

    def choose(p: Any, unit: Any, idx: int) -> Any:
        chosen = original(p, unit, idx)
        seen.append((idx, np.asarray(chosen[0])[..., :3].copy()))
        return chosen

    kind.choose_input_image = staticmethod(choose)
    try:
        yield seen
    finally:
        kind.choose_input_image = staticmethod(original)


def _script() -> Any:
    return next(s for s in scripts.scripts_img2img.alwayson_scripts if s.title() == "ControlNet")


def _unit(**values: Any) -> dict[str, Any]:
    return {"enabled": True, "module": "none", "control_mode": "Balanced", "weight": 1.0, **values}


def _translate(units: list[dict[str, Any]], **settings: Any) -> np.ndarray:
    template = new_template({"ControlNet": {"args": units}})
    chosen = make_settings({**BASE, **settings})
    if chosen.attention:
        check_units(template)
    out = []
    with _known_sizes(), Translator(WebuiHost(template), chosen, flow_estimator("dis")) as translator:
        for number, picture in enumerate(frames(3)):
            render = translator.render_first if number == 0 else translator.render_next
            out.append(render(number, picture).picture)
    return np.stack(out)


def units_see_each_key_frame() -> dict[str, Any]:
    """Two units, the second with a picture of its own, all constraints on."""
    model = make_controlnet()
    own = np.full((*SIZE, 3), 90, np.uint8)
    own[32:96, 32:96] = 200
    with _inputs_seen() as seen:
        controlled = _translate([_unit(model=model), _unit(model=model, image=own, weight=0.3)])
    first = [picture for idx, picture in seen if idx == 0]
    second = [picture for idx, picture in seen if idx == 1]
    return {
        "first unit": [bool(np.array_equal(one, frame)) for one, frame in zip(first, frames(3), strict=True)],
        "second unit": [bool(np.array_equal(picture, own)) for picture in second],
        "effect": float(np.abs(controlled.astype(int) - _translate([])).mean()),
        "shape": list(controlled.shape),
    }


def script_appends_no_maps(video: str) -> dict[str, Any]:
    """The script in img2img with a unit: how many pictures come back, and the first one's infotext."""
    runner = scripts.scripts_img2img
    script = next(s for s in runner.selectable_scripts if s.title() == "Rerender A Video")
    template = new_template({"ControlNet": {"args": [_unit(model=make_controlnet())]}}, sampler_name="Euler", **BASE)
    arguments = list(template.script_args)
    arguments[0] = runner.selectable_scripts.index(script) + 1
    arguments[script.args_from : script.args_to] = [{"video": video, "stage": "keys", "key_interval": 4}] + [None] * (
        script.args_to - script.args_from - 1
    )
    p = StableDiffusionProcessingImg2Img(
        sd_model=shared.sd_model,
        init_images=[Image.new("RGB", SIZE)],
        width=128,
        height=128,
        sampler_name="Euler",
        **BASE,
    )
    p.is_api, p.scripts, p.script_args = True, runner, tuple(arguments)
    with _known_sizes(), _inputs_seen() as seen:
        processed = runner.run(p, *p.script_args)
    return {"images": len(processed.images), "units": len(seen), "infotext": processed.infotexts[0]}


def interrupted_run_leaves_no_hook() -> dict[str, bool]:
    """Whether the extension's hook is on the U-Net during a rendering, and after one that was broken off."""
    unet, during = shared.sd_model.model.diffusion_model, []
    template = new_template({"ControlNet": {"args": [_unit(model=make_controlnet())]}})

    def cancelled() -> bool:
        during.append(hasattr(unet, "_original_forward"))
        return len(during) == 2

    try:
        with _known_sizes():
            WebuiHost(template).render(request(), cancelled=cancelled)
    except Interrupted:
        return {"during": all(during), "after": hasattr(unet, "_original_forward")}
    return {}


def reference_only() -> dict[str, str]:
    """What is said of a reference unit, with cross-frame attention and without."""
    unit = _unit(module="reference_only", model="None", threshold_a=0.5)
    try:
        _translate([unit])
        said = ""
    except UserError as error:
        said = str(error)
    return {"on": said, "off": str(list(_translate([unit], attention=False).shape))}
