"""The references of a running clip as tensors and plain values, so that a stopped run goes on with the same bytes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from rerender.diffusion.bank import FeatureSlot
from rerender.errors import RerenderError
from rerender.translate.frames import Reference

Tensors = dict[str, torch.Tensor]

VERSION = 1


def pack(name: str, reference: Reference, *, features: bool) -> Tensors:
    """Everything of a reference under "name.…", each tensor in main memory; `features` may be left out."""
    tensors: Tensors = {
        f"{name}.source": torch.from_numpy(np.ascontiguousarray(reference.source)).clone(),
        f"{name}.picture": torch.from_numpy(np.ascontiguousarray(reference.picture)).clone(),
    }
    for call, x0 in reference.estimates.items():
        tensors[f"{name}.estimate.{call}"] = x0.cpu().contiguous()
    if features:
        for key, tensor in reference.features.state_dict().items():
            tensors[f"{name}.features.{key}"] = tensor.contiguous()
    return tensors


def unpack(
    name: str,
    index: int,
    tensors: Mapping[str, torch.Tensor],
    *,
    features: FeatureSlot | None,
    new_slot: Callable[[], FeatureSlot],
    device: torch.device,
) -> Reference:
    """The reference that `pack` was given. features: an existing slot that it shares, else one is filled.

    Raises:
        RerenderError: a part is missing.
    """
    try:
        source, picture = tensors[f"{name}.source"].numpy(), tensors[f"{name}.picture"].numpy()
    except KeyError as error:
        raise RerenderError(f"The stored references are incomplete: {error} is missing.") from error
    estimates = {int(key): value.to(device) for key, value in _below(tensors, f"{name}.estimate.").items()}
    if features is None:
        features = new_slot()
        features.load_state_dict(_below(tensors, f"{name}.features."))
    return Reference(index, source, picture, estimates, features)


def check_version(meta: Mapping[str, Any]) -> None:
    """Raise RerenderError if `meta` is of another version."""
    if meta.get("version") != VERSION:
        raise RerenderError(f"The stored references have version {meta.get('version')}; {VERSION} is needed.")


def _below(tensors: Mapping[str, torch.Tensor], prefix: str) -> Tensors:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
