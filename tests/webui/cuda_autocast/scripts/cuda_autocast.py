"""An extension for tests: what the webui does on a GPU by default, half precision under autocast, done by the CPU.

Without it a webui on the CPU knows full precision (``--no-half``) and ``--precision half`` only.
"""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from modules import devices
from torch.nn import functional

from tests.cuda_autocast import widened


def autocast(disable: bool = False) -> Any:
    return contextlib.nullcontext() if disable else torch.autocast("cpu", dtype=torch.float16)


def without_autocast(disable: bool = False) -> Any:
    return contextlib.nullcontext() if disable else torch.autocast("cpu", enabled=False)


devices.autocast = autocast
devices.without_autocast = without_autocast
functional.group_norm = widened(functional.group_norm)
functional.layer_norm = widened(functional.layer_norm)
