"""The webui's options that must have a known value while a key frame is rendered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

_ABSENT: Any = object()

# What would make key frames differ from what was asked for, or break the attention hooks.
PINNED: dict[str, Any] = {
    "hypertile_enable_unet": False,  # tiles the tokens: a frame no longer attends to the frame beside it
    "img2img_fix_steps": False,  # steps mean the same on every host: the last `strength` share of them runs
    "img2img_color_correction": False,  # pulls each frame back to the colours of its source
    "initial_noise_multiplier": 1.0,
    "img2img_extra_noise": 0.0,
    "face_restoration": False,
    "save_init_img": False,
    "return_mask": False,
    "return_mask_composite": False,
    "sd_vae_encode_method": "Full",
    "sd_vae_decode_method": "Full",
}


@contextmanager
def pinned_options(opts: Any, values: Mapping[str, Any]) -> Iterator[None]:
    """Give options other values for the time of a `with` block.

    `override_settings` of a processing object is no help here: the webui never restores a key that was missing from
    its config file. Options that this webui does not know are left out. An option that somebody changes in the
    meantime keeps that change.

    Args:
        opts: `modules.shared.opts`.
        values: option name → value.
    """
    values = {name: value for name, value in values.items() if name in opts.data_labels}
    before = {name: opts.data.get(name, _ABSENT) for name in values}
    opts.data.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if opts.data.get(name, _ABSENT) != values[name]:
                continue
            if value is _ABSENT:
                del opts.data[name]
            else:
                opts.data[name] = value
