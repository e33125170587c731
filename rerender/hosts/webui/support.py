"""What this host can work with: refuse everything else by name, before a picture is rendered without the method."""

from __future__ import annotations

import importlib.util
from typing import Any

from modules import sd_unet

from rerender.errors import UserError


class Unsupported(UserError):  # noqa: N818
    """A host or checkpoint that the method cannot work with (HTTP 501)."""

    http_status = 501


SUPPORTED = "Stable Diffusion 1.x, 2.x and SDXL in AUTOMATIC1111's webui 1.10"

_FORKS = {"modules_forge": "Forge", "ldm_patched": "Forge", "modules.sd_hijack_accelerate": "SD.Next"}


def check_webui() -> None:
    """Refuse forks whose U-Net is not the one that the hooks live on.

    Raises:
        Unsupported: Forge and its relatives, or SD.Next.
    """
    for module, name in _FORKS.items():
        try:
            found = importlib.util.find_spec(module) is not None
        except (ImportError, ValueError):
            found = False
        if found:
            raise Unsupported(
                f"Rerender A Video cannot run in {name} yet: its U-Net is another one than the webui's.",
                hint=f"It runs with {SUPPORTED}.",
            )


def check_model(model: Any) -> None:
    """Refuse checkpoints without the `ldm` U-Net.

    Args:
        model: `modules.shared.sd_model`.

    Raises:
        Unsupported: no checkpoint, SD3, a U-Net without cross-attention modules, or one replaced by an extension.
    """
    if model is None:
        raise Unsupported("No checkpoint is loaded.", hint="Choose one at the top of the page.")
    name = getattr(getattr(model, "sd_checkpoint_info", None), "name", "The checkpoint")
    if getattr(model, "is_sd3", False):
        raise Unsupported(f"{name} is an SD3 checkpoint, which has no U-Net.", hint=f"Supported: {SUPPORTED}.")
    unet = getattr(getattr(model, "model", None), "diffusion_model", None)
    if unet is None or not any(type(module).__name__ == "CrossAttention" for module in unet.modules()):
        raise Unsupported(f"{name} has no U-Net of the original kind.", hint=f"Supported: {SUPPORTED}.")
    if sd_unet.get_unet_option() is not None:
        raise Unsupported(
            f"The option SD Unet is set to {sd_unet.get_unet_option().label!r}, which replaces the U-Net.",
            hint="Set it to None (Settings, Stable Diffusion).",
        )
