"""A Stable Diffusion model in parts (U-Net, VAE, text encoder), each read from its checkpoint when first needed."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rerender.errors import UserError
from rerender.hosts.standalone.architecture import TEXT, UNET, VAE, find_config, foreign_kind
from rerender.hosts.standalone.attention import use_sdpa
from rerender.hosts.standalone.clip_text import ClipText
from rerender.hosts.standalone.config import ModelConfig
from rerender.hosts.standalone.ldm_import import load_ldm
from rerender.hosts.standalone.open_clip_text import OpenClipText
from rerender.hosts.standalone.precision import autocast
from rerender.hosts.standalone.weights import Weights

logger = logging.getLogger(__name__)

# Keys of many checkpoints that a sampler does not need: the noise schedule (computed), exponential averages, the
# training loss, position numbers, OpenCLIP's causal mask.
_HARMLESS = (
    "model_ema.",
    "first_stage_model.loss.",
    "loss.",
    "betas",
    "alphas_cumprod",
    "sqrt_",
    "log_one_minus_alphas_cumprod",
    "posterior_",
    "lvlb_weights",
    "logvar",
    "scale_factor",
    "cond_stage_model.transformer.text_model.embeddings.position_ids",
    "cond_stage_model.model.attn_mask",
)
# Keys that some pruned checkpoints lack, and that conditioning does not need.
_OPTIONAL = ("text_projection", "logit_scale")
# Early SD1 checkpoints were saved with a transformers version that had no such level.
_OLD_TEXT = ("embeddings.", "encoder.", "final_layer_norm.")


TEXT_PREFIX = {"clip": TEXT + "transformer.", "open_clip": TEXT + "model."}


@dataclass(frozen=True)
class LoadReport:
    """What became of a checkpoint's tensors.

    Attributes:
        used: number of tensors that went into the model.
        unused: tensors of the file that no part of the model takes, without those known to be unneeded.
        ignored: number of tensors known to be unneeded (schedules, averages).
        missing: tensors of the model that the file lacks and that are not needed for pictures.
    """

    used: int
    unused: tuple[str, ...] = ()
    ignored: int = 0
    missing: tuple[str, ...] = ()

    def log(self, path: Path) -> None:
        """Say which keys were not used and which were missing."""
        for kind, keys in (("not used", self.unused), ("missing", self.missing)):
            if keys:
                more = f" … and {len(keys) - 8} more" if len(keys) > 8 else ""
                logger.warning("%s: %d keys %s: %s%s", path.name, len(keys), kind, ", ".join(keys[:8]), more)


@dataclass(frozen=True)
class _Part:
    """One part of the model: its empty module, and which tensor of which file each of its tensors is."""

    name: str
    module: nn.Module
    weights: Weights
    keys: dict[str, str]

    def check(self) -> list[str]:
        """Names of the tensors that are missing but not needed.

        Raises:
            UserError: a needed tensor is missing or has another shape.
        """
        wanted = self.module.state_dict()
        missing = [name for name in wanted if name not in self.keys]
        critical = [name for name in missing if name.rsplit(".")[-1] not in _OPTIONAL]
        if critical:
            raise UserError(
                f"{self.weights.path} is not a complete checkpoint: {len(critical)} of {len(wanted)} tensors of the "
                f"{self.name} are missing, the first is {critical[0]}."
            )
        for name, key in self.keys.items():
            _check_shape(self, name, self.weights.shapes[key], tuple(wanted[name].shape))
        return missing

    def materialise(self, device: torch.device, dtype: torch.dtype) -> nn.Module:
        """Fill the empty module from the file, one tensor at a time."""
        shapes = {name: value.shape for name, value in self.module.state_dict().items()}
        state = {
            name: self.weights[self.keys[name]].to(device, dtype).reshape(shape)
            if name in self.keys
            else torch.zeros(shape, device=device, dtype=dtype)
            for name, shape in shapes.items()
        }
        self.module.load_state_dict(state, assign=True)
        return self.module.requires_grad_(False).eval()


def _check_shape(part: _Part, name: str, found: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    # A linear layer and a 1×1 convolution hold the same numbers; both are in use for the VAE's attention.
    if _squeezed(found) != _squeezed(wanted):
        raise UserError(
            f"{part.weights.path} does not fit its configuration: {part.name} tensor {name} has the shape {found}, "
            f"expected {wanted}.",
            hint="Check the .yaml beside the checkpoint.",
        )


def _squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
    return shape[:2] if len(shape) == 4 and shape[2:] == (1, 1) else shape


@contextlib.contextmanager
def _empty() -> Iterator[None]:
    """Build modules without memory for their weights, and keep what ldm prints meanwhile off the caller's stdout."""
    with torch.device("meta"), contextlib.redirect_stdout(io.StringIO()):
        yield


def build_unet(config: ModelConfig) -> nn.Module:
    """ldm's UNetModel, without memory for its weights (meta device)."""
    with _empty():
        return load_ldm().openaimodel.UNetModel(**config.unet, use_checkpoint=False)


def build_vae(config: ModelConfig) -> nn.Module:
    """ldm's AutoencoderKL, without memory for its weights (meta device)."""
    with _empty():
        return load_ldm().autoencoder.AutoencoderKL(
            ddconfig=dict(config.vae), lossconfig={"target": "torch.nn.Identity"}, embed_dim=config.embed_dim
        )


def build_text(config: ModelConfig) -> nn.Module:
    """The text encoder, without memory for its weights (meta device)."""
    with _empty():
        return OpenClipText(**config.clip) if config.text == "open_clip" else ClipText(**config.clip)


def _built(build: Callable[[ModelConfig], nn.Module], config: ModelConfig) -> nn.Module:
    try:
        return build(config)
    except (TypeError, ValueError, AssertionError, KeyError, AttributeError) as error:
        what = (build.__doc__ or "").split(",")[0]
        raise UserError(f"{config.source}: {what} cannot be built from this configuration ({error}).") from error


def _keys(module: nn.Module, available: Iterable[str], prefix: str) -> dict[str, str]:
    """Which file key holds each tensor of a module."""
    renamed = {_modern_text_key(key): key for key in available}
    names = module.state_dict()
    return {name: renamed[prefix + name] for name in names if prefix + name in renamed}


def _modern_text_key(key: str) -> str:
    old = TEXT + "transformer."
    if key.startswith(old) and key.removeprefix(old).startswith(_OLD_TEXT):
        return old + "text_model." + key.removeprefix(old)
    return key


@torch.no_grad()
def predicts_v(unet: nn.Module) -> bool:
    """Whether an SD2 U-Net predicts v: the webui's test.

    At the last timestep the picture is all noise, so a noise predictor returns about its input, while v = -x0 there.
    """
    weight = next(unet.parameters())
    x = torch.full((1, 4, 8, 8), 0.5, device=weight.device)
    context = torch.full((1, 2, 1024), 0.5, device=weight.device)
    with autocast(weight.device, weight.dtype):
        out = unet(x, torch.tensor([999], device=weight.device), context=context)
    return float((out.float() - x).mean()) < -1


class Model:
    """The parts of a checkpoint. Opening reads names and shapes only; a part's tensors are read on first use.

    Args:
        weights: an SD1.x/SD2.x checkpoint in the A1111 layout.
        vae: a VAE file that takes the place of the checkpoint's own.
        device, dtype: where and as what the parts are kept.

    Raises:
        UserError: the checkpoint is incomplete or of another kind.
    """

    def __init__(self, weights: Weights, vae: Weights | None, device: torch.device, dtype: torch.dtype) -> None:
        self.device, self.dtype = device, dtype
        self.config = find_config(weights)
        prefix = VAE if vae is None else _check_vae(vae)
        vae_weights = weights if vae is None else vae
        unet, first_stage, text = (_built(build, self.config) for build in (build_unet, build_vae, build_text))
        self._unet = _Part("U-Net", unet, weights, _keys(unet, weights, UNET))
        self._vae = _Part("VAE", first_stage, vae_weights, _keys(first_stage, vae_weights, prefix))
        self._text = _Part("text encoder", text, weights, _keys(text, weights, TEXT_PREFIX[self.config.text]))
        self.report = _report(weights, (self._unet, self._vae, self._text))
        self.report.log(weights.path)

    @cached_property
    def unet(self) -> Any:
        """ldm's UNetModel with its weights."""
        unet = self._unet.materialise(self.device, self.dtype)
        use_sdpa(unet)
        return unet

    @cached_property
    def vae(self) -> Any:
        """ldm's AutoencoderKL with its weights."""
        vae = self._vae.materialise(self.device, self.dtype)
        use_sdpa(vae)
        return vae

    def run_vae(self, call: Callable[[Any, torch.dtype], Any]) -> Any:
        """Run `call(vae, dtype)`; where half precision overflows, change the VAE to float32 for good and run again.

        SD1's VAE exceeds the range of float16 on some pictures; the webui does the same.
        """
        dtype = next(self.vae.parameters()).dtype
        result = call(self.vae, dtype)
        if dtype == torch.float16 and not _finite(result):
            logger.warning("the VAE overflows in half precision: float32 is used for it from now on")
            self.vae.float()
            result = call(self.vae, torch.float32)
        return result

    @cached_property
    def text(self) -> Any:
        """The text encoder with its weights."""
        return self._text.materialise(self.device, self.dtype)

    @cached_property
    def parameterization(self) -> str:
        """What the U-Net predicts, "eps" or "v"."""
        if self.config.detect_v:
            return "v" if predicts_v(self.unet) else "eps"
        return self.config.parameterization

    @cached_property
    def alphas_cumprod(self) -> torch.Tensor:
        """(1000,) float32 on the model's device."""
        return self.config.alphas_cumprod().to(self.device)


def _finite(result: Any) -> bool:
    tensor = result if isinstance(result, torch.Tensor) else result.parameters
    return bool(torch.isfinite(tensor).all())


def _check_vae(weights: Weights) -> str:
    """What the names of a VAE file's tensors begin with."""
    prefix = VAE if any(key.startswith(VAE) for key in weights) else ""
    if f"{prefix}decoder.conv_in.weight" in weights:
        return prefix
    raise UserError(
        f"{weights.path} is {foreign_kind(weights) or 'not a VAE file'}, and was given as the VAE.",
        hint="A VAE in ldm's layout (decoder.conv_in.weight, …) is needed.",
    )


def _report(weights: Weights, parts: Iterable[_Part]) -> LoadReport:
    missing: list[str] = []
    taken: set[str] = set()
    used = 0
    replaced = False
    for part in parts:
        missing += [f"{part.name}: {name}" for name in part.check()]
        used += len(part.keys)
        replaced = replaced or part.weights is not weights
        if part.weights is weights:
            taken |= set(part.keys.values())
    left = [key for key in weights if key not in taken]
    known = (*_HARMLESS, VAE) if replaced else _HARMLESS
    unused = tuple(key for key in left if not _modern_text_key(key).startswith(known))
    return LoadReport(used=used, unused=unused, ignored=len(left) - len(unused), missing=tuple(missing))
