"""Import the original Stable Diffusion code (`ldm`) and k-diffusion without their training dependencies.

Both packages import pytorch_lightning, torchvision, wandb and the like at module level, for training code that is
never run here. Small stand-ins take those places while the imports run and are taken out again afterwards, so that
no other package ever sees them.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.machinery
import importlib.util
import io
import sys
import threading
import types
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch

_LOCK = threading.Lock()


def _stand_in(name: str, **attributes: Any) -> types.ModuleType:
    module = types.ModuleType(name)
    # Without a spec, libraries that probe for optional packages (importlib.util.find_spec) raise on the stand-in.
    module.__spec__ = importlib.machinery.ModuleSpec(name, loader=None)
    module.__path__ = []
    for key, value in attributes.items():
        setattr(module, key, value)
    return module


class _LightningModule(torch.nn.Module):
    """What `ldm` needs of `pytorch_lightning.LightningModule`: a torch module that knows its device."""

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device


def _unavailable(*_: Any, **__: Any) -> Any:
    raise NotImplementedError("training-only code of ldm was called; it is not available here")


def _stand_ins() -> dict[str, types.ModuleType]:
    lightning = _stand_in("pytorch_lightning", LightningModule=_LightningModule)
    utilities = _stand_in("pytorch_lightning.utilities", rank_zero_only=lambda function: function)
    rank_zero = _stand_in("pytorch_lightning.utilities.rank_zero", rank_zero_only=lambda function: function)
    distributed = _stand_in("pytorch_lightning.utilities.distributed", rank_zero_only=lambda function: function)
    torchvision = _stand_in("torchvision")
    tv_utils = _stand_in("torchvision.utils", make_grid=_unavailable)
    tv_functional = _stand_in("torchvision.transforms.functional")
    tv_transforms = _stand_in("torchvision.transforms", functional=tv_functional)
    torchvision.utils = tv_utils  # type: ignore[attr-defined]
    torchvision.transforms = tv_transforms  # type: ignore[attr-defined]
    stand_ins = (
        lightning,
        utilities,
        rank_zero,
        distributed,
        torchvision,
        tv_utils,
        tv_transforms,
        tv_functional,
    )
    return {module.__name__: module for module in stand_ins}


def _bare_package(name: str) -> types.ModuleType:
    """A module with the package's search path, whose `__init__` (training code) has not been run."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.submodule_search_locations is None:
        raise ModuleNotFoundError(f"the package {name} is not installed; see the README for the set-up command")
    module = types.ModuleType(name)
    module.__spec__ = spec
    module.__path__ = list(spec.submodule_search_locations)
    return module


@contextlib.contextmanager
def _temporary_modules(modules: dict[str, types.ModuleType]) -> Iterator[None]:
    saved = {name: sys.modules.get(name) for name in modules}
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name, module in saved.items():
            if module is None:
                sys.modules.pop(name, None)
            else:
                sys.modules[name] = module


@dataclass(frozen=True)
class LdmModules:
    """The modules of `ldm` and k-diffusion that the standalone host uses."""

    attention: types.ModuleType
    openaimodel: types.ModuleType
    autoencoder: types.ModuleType
    k_external: types.ModuleType
    k_sampling: types.ModuleType


@cache
def load_ldm() -> LdmModules:
    """Import `ldm` and k-diffusion once and return their modules.

    Raises:
        ModuleNotFoundError: one of the two packages is not installed.
    """
    with _LOCK:
        stand_ins = {**_stand_ins(), "k_diffusion": _bare_package("k_diffusion")}
        # ldm prints to stdout that xformers is missing; stdout belongs to the caller's own output.
        with _temporary_modules(stand_ins), contextlib.redirect_stdout(io.StringIO()):
            return LdmModules(
                attention=importlib.import_module("ldm.modules.attention"),
                openaimodel=importlib.import_module("ldm.modules.diffusionmodules.openaimodel"),
                autoencoder=importlib.import_module("ldm.models.autoencoder"),
                k_external=importlib.import_module("k_diffusion.external"),
                k_sampling=importlib.import_module("k_diffusion.sampling"),
            )
