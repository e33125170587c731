"""Random numbers around one key frame: the same for equal requests, and without a trace afterwards."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from modules import rng


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed every generator that the webui and its scripts draw from, and restore all of them on leaving.

    The webui draws the noise of the VAE's posterior from torch's global generator without seeding it, and scripts such
    as wildcards draw from Python's or numpy's; unseeded, a resumed run would give other bytes than an unbroken one.
    """
    python_state, numpy_state = random.getstate(), np.random.get_state()
    philox = rng.__dict__.get("nv_rng")  # the webui creates it on first use
    mps_state = torch.mps.get_rng_state() if device.type == "mps" else None
    devices = [device] if device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed)
            random.seed(seed)
            np.random.seed(seed % 2**32)
            yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)
        if philox is not None:
            rng.nv_rng = philox
        if mps_state is not None:
            torch.mps.set_rng_state(mps_state)
