"""The references of a running clip as tensors and plain values, so that a stopped run goes on with the same bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch

from rerender.diffusion.bank import FeatureSlot
from rerender.errors import RerenderError
from rerender.translate.frames import Reference

Tensors = dict[str, torch.Tensor]

VERSION = 2


def pack(name: str, reference: Reference, *, features: bool) -> Tensors:
    """Everything of a reference under "name.…", where it lies; `features` may be left out. Nothing is copied."""
    tensors: Tensors = {
        f"{name}.source": torch.from_numpy(np.ascontiguousarray(reference.source)),
        f"{name}.picture": torch.from_numpy(np.ascontiguousarray(reference.picture)),
    }
    tensors |= {f"{name}.estimate.{call}": x0 for call, x0 in reference.estimates.items()}
    if features:
        tensors |= {f"{name}.features.{key}": held for key, held in reference.features.state_dict().items()}
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
    estimates = {int(key): value.to(device) for key, value in _Below(tensors, f"{name}.estimate.").items()}
    if features is None:
        features = new_slot()
        features.load_state_dict(_Below(tensors, f"{name}.features."))
    return Reference(index, source, picture, estimates, features)


def check_version(meta: Mapping[str, Any]) -> None:
    """Raise RerenderError if `meta` is of another version."""
    if meta.get("version") != VERSION:
        raise RerenderError(f"The stored references have version {meta.get('version')}; {VERSION} is needed.")


class _Below(Mapping[str, torch.Tensor]):
    """The tensors under a prefix, without it; each is looked up when it is asked for, as files hold large ones."""

    def __init__(self, tensors: Mapping[str, torch.Tensor], prefix: str) -> None:
        self._tensors, self._prefix = tensors, prefix

    def __getitem__(self, name: str) -> torch.Tensor:
        return self._tensors[self._prefix + name]

    def __iter__(self) -> Iterator[str]:
        return (name.removeprefix(self._prefix) for name in self._tensors if name.startswith(self._prefix))

    def __len__(self) -> int:
        return sum(1 for _ in self)
