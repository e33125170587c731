"""Small stand-ins for the webui's modules, with the contracts that were observed in webui 1.10.1.

- the sampler is made anew in each `process_images`; the CFG denoiser is a module whose first argument is the sampler's
  own latent, and it counts its calls;
- `launch_sampling` swallows InterruptedException and returns the half-done latent, which is decoded all the same;
- ancestral noise comes from a source that is planted into k-diffusion and whose draws are counted;
- the conditioning lists, for each picture, the prompts that AND composes it of;
- the noise of the VAE's posterior comes from torch's global generator.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections import defaultdict
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import torch
from PIL import Image


class InterruptedException(BaseException):
    pass


class CrossAttention(torch.nn.Linear):
    pass


class FakeOptions:
    def __init__(self) -> None:
        names = {"hypertile_enable_unet": False, "img2img_extra_noise": 0.0, "face_restoration": False}
        self.data_labels = {**names, "CLIP_stop_at_last_layers": 1, "img2img_color_correction": False}
        self.data: dict[str, Any] = {"img2img_color_correction": True}

    def __getattr__(self, name: str) -> Any:
        return self.__dict__["data"].get(name, self.__dict__["data_labels"].get(name, ""))


class PlantedNoise:
    """What stands in k_diffusion.sampling.torch during a sampling."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.draws = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)

    def randn_like(self, x: torch.Tensor) -> torch.Tensor:
        self.draws += 1
        return torch.randn(x.shape, generator=self.generator)


class Denoiser(torch.nn.Module):
    def __init__(self, webui: Webui) -> None:
        super().__init__()
        self.webui, self.step = webui, 0

    def forward(self, x: torch.Tensor, level: torch.Tensor, **extra: Any) -> torch.Tensor:
        if self.webui.shared.state.interrupted:
            raise InterruptedException
        self.step += 1
        self.webui.calls.append((x.clone(), float(level[0])))
        return self.webui.unet(x)


class TimestepDenoiser(Denoiser):
    def __init__(self, webui: Webui) -> None:
        super().__init__(webui)
        self.alphas = webui.shared.sd_model.alphas_cumprod
        self.__dict__["inner_model"] = SimpleNamespace(inner_model=webui.shared.sd_model)


def ddim(
    model: Any,
    x: torch.Tensor,
    timesteps: torch.Tensor,
    extra_args: Any = None,
    callback: Any = None,
    disable: Any = None,
) -> torch.Tensor:
    """Hands its *next* latent to the callback, as the webui's timestep samplers do."""
    alphas = model.inner_model.inner_model.alphas_cumprod[timesteps]
    for i, index in enumerate(range(len(timesteps) - 1, 0, -1)):
        e = model(x, timesteps[index] * x.new_ones(1), **extra_args)
        x0 = (x - (1 - alphas[index]).sqrt() * e) / alphas[index].sqrt()
        x = alphas[index - 1].sqrt() * x0 + (1 - alphas[index - 1]).sqrt() * e
        callback({"x": x, "i": i})
    return x


def plms_start(
    model: Any,
    x: torch.Tensor,
    timesteps: torch.Tensor,
    extra_args: Any = None,
    callback: Any = None,
    disable: Any = None,
) -> torch.Tensor:
    """Calls the model twice in its first step, and keeps what it returned."""
    old: list[torch.Tensor] = []
    for i, index in enumerate(range(len(timesteps) - 1, 0, -1)):
        e = model(x, timesteps[index] * x.new_ones(1), **extra_args)
        other = old[-1] if old else model(x - 0.1 * e, timesteps[index - 1] * x.new_ones(1), **extra_args)
        old.append(e)
        x = x - 0.05 * (e + other)
        callback({"x": x, "i": i})
    return x


class Sampler:
    def __init__(self, webui: Webui, name: str, function: Any, timestep: bool) -> None:
        self.webui, self.func, self.timestep = webui, function, timestep
        self.config = SimpleNamespace(name=name)
        self.model_wrap_cfg = (TimestepDenoiser if timestep else Denoiser)(webui)
        self.last_latent: Any = None

    def sample_img2img(self, p: Any, x: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        parameters = inspect.signature(self.func).parameters
        entry = int(p.denoising_strength * p.steps)
        levels = {}
        if "timesteps" in parameters:
            levels["timesteps"] = torch.clip(torch.arange(0, 1000, 1000 // p.steps) + 1, 0, 999)[:entry]
            xi = x + noise
        elif "sigma_min" in parameters:
            levels, xi = {"sigma_min": 0.03, "sigma_max": 14.0}, x + noise
        else:
            sigmas = torch.cat([torch.linspace(14.0, 0.5, p.steps), torch.zeros(1)])[p.steps - entry - 1 :]
            levels["sigmas"], xi = sigmas, x + noise * sigmas[0]
        self.last_latent = x
        self.webui.noise = self.webui.k_sampling.torch = PlantedNoise(p.seed)
        given = {"extra_args": {"cond": SimpleNamespace(batch=[p.prompt.split(" AND ")])}, "disable": True}
        return self.launch(lambda: self.func(self.model_wrap_cfg, xi, callback=lambda info: None, **given, **levels))

    def launch(self, function: Any) -> torch.Tensor:
        try:
            return function()
        except InterruptedException:
            return self.last_latent


class Processing:
    """StableDiffusionProcessingImg2Img, as far as the host goes."""

    def __init__(self, webui: Webui, **fields: Any) -> None:
        self.webui = webui
        self.extra_generation_params: dict[str, Any] = {}
        self.override_settings: dict[str, Any] = {}
        self.subseed_strength, self.subseed, self.refiner_checkpoint = 0, -1, None
        self.scripts: Any = None
        self.script_args: Any = ()
        self.__dict__.update(fields)

    def sample(self) -> torch.Tensor:
        return self.sampler.sample_img2img(self, self.init_latent, torch.randn(1, 4, 2, 2))


class Webui:
    """All stand-ins, and what they saw."""

    def __init__(self, k_sampling: ModuleType) -> None:
        self.k_sampling = k_sampling
        self.calls: list[tuple[torch.Tensor, float]] = []
        self.noise: Any = None
        self.options_seen: list[dict[str, Any]] = []
        self.told_the_end = 0
        self.runner = SimpleNamespace(inputs=[None], alwayson_scripts=[], postprocess=self.tell_the_end)
        self.unet = torch.nn.Module()
        self.unet.attn1 = CrossAttention(1, 1)
        self.unet.forward = lambda x: 0.5 * x  # type: ignore[method-assign,assignment]
        self.samplers = {
            **{name: (getattr(k_sampling, f"sample_{name}"), False) for name in ("euler", "heun", "dpmpp_2m", "lms")},
            "euler_ancestral": (k_sampling.sample_euler_ancestral, False),
            "dpm_adaptive": (k_sampling.sample_dpm_adaptive, False),
            "ddim": (ddim, True),
            "plms": (plms_start, True),
        }
        self.modules = self._modules()
        self.shared = self.modules["shared"]

    def _modules(self) -> dict[str, Any]:
        model = SimpleNamespace(
            model=SimpleNamespace(diffusion_model=self.unet),
            alphas_cumprod=torch.linspace(0.999, 0.005, 1000),
            sd_checkpoint_info=SimpleNamespace(name="tiny.safetensors", hash="abc"),
            sd_model_hash="0123456789",
            is_sd3=False,
        )
        state = SimpleNamespace(interrupted=False, skipped=False, stopping_generation=False, job_count=-1, job_no=0)
        known = [SimpleNamespace(name=name) for name in self.samplers]
        return {
            "shared": _module(opts=FakeOptions(), state=state, sd_model=model, cmd_opts=SimpleNamespace()),
            "devices": _module(
                device=torch.device("cpu"),
                dtype_unet=torch.float32,
                dtype_vae=torch.float32,
                dtype_inference=torch.float32,
                autocast=nullcontext,
                NansException=type("NansException", (Exception,), {}),
            ),
            "rng": _module(),
            "sd_unet": _module(get_unet_option=lambda: None),
            "sd_vae": _module(get_loaded_vae_name=lambda: None, get_loaded_vae_hash=lambda: None),
            "scripts": _module(scripts_img2img=self.runner),
            "extra_networks": _module(parse_prompt=_parse_prompt),
            "hashes": _module(sha256=lambda file, title, use_addnet_hash: f"{title} {Path(file).read_text()}"),
            "sd_samplers": _module(
                all_samplers=known,
                get_sampler_and_scheduler=lambda name, schedule: (name if name in self.samplers else "euler", schedule),
            ),
            "sd_samplers_common": _module(InterruptedException=InterruptedException),
            "processing": _module(
                StableDiffusionProcessingImg2Img=lambda **fields: Processing(self, **fields),
                process_images=self.process_images,
                Processed=lambda p, images: SimpleNamespace(images=images),
            ),
        }

    def process_images(self, p: Any) -> Any:
        self.options_seen.append(dict(self.shared.opts.data))
        p.sampler = Sampler(self, p.sampler_name, *self.samplers[p.sampler_name])
        p.init_latent = torch.full((1, 4, 2, 2), 0.1) + 0.01 * torch.randn(1, 4, 2, 2)  # posterior noise
        latent = p.sample()
        value = int(latent.mean().mul(40).add(128).clamp(0, 255))
        picture = Image.fromarray(np.full((16, 16, 3), value, np.uint8))
        found = SimpleNamespace(images=[picture], index_of_first_image=0, infotexts=["text"])
        p.scripts.postprocess(p, found)
        return found

    def tell_the_end(self, p: Any, processed: Any) -> None:
        """What always-on scripts clean up after."""
        self.told_the_end += 1


def _parse_prompt(prompt: str) -> tuple[str, dict[str, list[Any]]]:
    found: dict[str, list[Any]] = defaultdict(list)
    for kind, items in re.findall(r"<(\w+):([^>]+)>", prompt):
        found[kind].append(SimpleNamespace(items=items.split(":")))
    return re.sub(r"<[^>]*>", "", prompt), found


def _module(**attributes: Any) -> ModuleType:
    module = ModuleType("stand-in")
    module.__dict__.update(attributes)
    return module


@contextmanager
def installed() -> Any:
    """The stand-ins in sys.modules, and our package imported against them; all is taken out again."""
    from rerender.hosts.standalone.ldm_import import load_ldm

    webui = Webui(load_ldm().k_sampling)
    package, k_diffusion = ModuleType("modules"), ModuleType("k_diffusion")
    k_diffusion.sampling = webui.k_sampling  # type: ignore[attr-defined]
    new = {"modules": package, "k_diffusion": k_diffusion, "k_diffusion.sampling": webui.k_sampling}
    for name, module in webui.modules.items():
        setattr(package, name, module)
        new[f"modules.{name}"] = module
    before = {name: sys.modules.get(name) for name in new}
    planted = webui.k_sampling.torch
    sys.modules.update(new)
    try:
        yield webui
    finally:
        webui.k_sampling.torch = planted
        for name in [name for name in sys.modules if name.startswith("rerender.hosts.webui")]:
            del sys.modules[name]
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module
