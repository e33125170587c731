"""Key frames in a webui whose model lies on a pretended CUDA device (tests/pretended_cuda.py)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import numpy as np
import torch
from modules import devices, sd_hijack, shared
from modules.processing import StableDiffusionProcessing, StableDiffusionProcessingImg2Img

from tests.pretended_cuda import DEVICE, Pretended, pretended_cuda
from tests.webui.checks import translate


def difference_to_the_cpu(**settings: Any) -> int:
    """The largest difference between key frames that are rendered there and here, all constraints on, in 255ths."""
    options = {"randn_source": "CPU"}
    with _fused_attention():
        here = translate(options, count=3, **settings).astype(int)
        with pretended_cuda(), _model_there(), _no_prompts_kept():
            there = translate(options, count=3, **settings).astype(int)
    return int(np.abs(here - there).max())


@contextmanager
def _fused_attention() -> Iterator[None]:
    """What PyTorch itself brings; the one that a CPU gets asks the device about its memory."""
    assert shared.sd_model is not None  # loaded by now
    chosen = next(each for each in sd_hijack.optimizers if each.name == "sdp")
    sd_hijack.model_hijack.apply_optimizations(chosen.title())
    try:
        yield
    finally:
        sd_hijack.model_hijack.apply_optimizations()


@contextmanager
def _model_there() -> Iterator[None]:
    """The checkpoint's weights on the device, and a webui that works with it."""
    kept = [(group, dict(group)) for m in shared.sd_model.modules() for group in (m._parameters, m._buffers)]
    for group, values in kept:
        group.update({name: _there(value) for name, value in values.items() if value is not None})
    try:
        with mock.patch.multiple(devices, device=DEVICE), mock.patch.object(shared, "device", DEVICE):
            yield
    finally:
        for group, values in kept:
            group.update(values)


def _there(value: torch.Tensor) -> torch.Tensor:
    there = Pretended(value.data)
    return torch.nn.Parameter(there, requires_grad=False) if isinstance(value, torch.nn.Parameter) else there


@contextmanager
def _no_prompts_kept() -> Iterator[None]:
    """The webui keeps the last prompts' conditioning, where it was made."""
    with contextlib.ExitStack() as stack:
        for kind in (StableDiffusionProcessing, StableDiffusionProcessingImg2Img):
            stack.enter_context(mock.patch.multiple(kind, cached_c=[None, None], cached_uc=[None, None]))
        yield
