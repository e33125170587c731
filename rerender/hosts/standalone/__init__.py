"""The standalone host: Stable Diffusion 1.x and 2.x on the original `ldm` code, without a webui.

Importing this package imports torch; `ldm` is imported when a checkpoint is opened.
"""

from __future__ import annotations

from pathlib import Path

import torch

from rerender.errors import UserError
from rerender.hosts.standalone.host import StandaloneHost
from rerender.hosts.standalone.model import LoadReport, Model
from rerender.hosts.standalone.weights import read_weights

__all__ = ["LoadReport", "StandaloneHost", "choose_device", "choose_dtype", "load_host"]

_PRECISIONS = {"auto": None, "fp32": torch.float32, "full": torch.float32, "fp16": torch.float16, "half": torch.float16}


def choose_device(name: str = "auto") -> torch.device:
    """The device of a name; "auto" takes CUDA, else MPS, else the CPU.

    Raises:
        UserError: no such device here.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", torch.cuda.current_device())
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise UserError(
            f"The device {name!r} cannot be used: {reason}.", hint="The setting device may be auto or cpu everywhere."
        ) from error
    return device


def choose_dtype(precision: str, device: torch.device) -> torch.dtype:
    """The floating type for "auto", "fp32" or "fp16": float16 on CUDA, float32 elsewhere.

    Raises:
        UserError: an unknown name, or float16 on a device other than CUDA.
    """
    if precision not in _PRECISIONS:
        raise UserError(f"precision is {precision!r}; known: {', '.join(_PRECISIONS)}.")
    dtype = _PRECISIONS[precision]
    if dtype is None:
        return torch.float16 if device.type == "cuda" else torch.float32
    if dtype == torch.float16 and device.type != "cuda":
        raise UserError(f"Half precision needs a CUDA device; on {device.type} use fp32.")
    return dtype


def load_host(
    checkpoint: Path,
    *,
    vae: Path | None = None,
    device: str = "auto",
    precision: str = "auto",
    lora_dir: Path | None = None,
    noise_on_device: bool = False,
) -> StandaloneHost:
    """Open a checkpoint in the A1111 layout. Its tensors are read when they are first needed.

    Args:
        checkpoint: .safetensors, or .ckpt (safe unpickling only). A .yaml of the same stem is its configuration.
        vae: a VAE file that replaces the checkpoint's own.
        device: "auto", "cpu", "cuda", "cuda:1", "mps".
        precision: "auto", "fp32" or "fp16".
        lora_dir: folder of the LoRA files that prompts may name.
        noise_on_device: draw noise on the device, as the webui does by default, instead of on the CPU, which gives
            the same pictures on every machine (the webui's setting "Random number generator source: CPU").

    Raises:
        UserError: a file is missing, broken, incomplete or of another kind; an unknown device or precision.
    """
    chosen = choose_device(device)
    dtype = choose_dtype(precision, chosen)
    checkpoint, vae = Path(checkpoint), None if vae is None else Path(vae)
    model = Model(read_weights(checkpoint), None if vae is None else read_weights(vae), chosen, dtype)
    return StandaloneHost(model, checkpoint, vae, lora_dir=lora_dir, noise_on_device=noise_on_device)
