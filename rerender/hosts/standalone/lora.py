"""LoRA files in the kohya layout: found by name, added to the weights for one rendering, removed bit by bit."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from rerender.errors import UserError
from rerender.hosts.standalone.lora_names import Target, lora_targets
from rerender.hosts.standalone.prompt import LoraTag
from rerender.hosts.standalone.weights import Weights, read_weights, short_hash

if TYPE_CHECKING:
    from rerender.hosts.standalone.model import Model

logger = logging.getLogger(__name__)

_ENDINGS = {".safetensors", ".pt", ".ckpt", ".bin"}
_OTHER_KINDS = {"hada_w1_a": "LoHa", "lokr_w1": "LoKr", "dora_scale": "DoRA", "oft_blocks": "OFT"}


def lora_delta(parts: dict[str, torch.Tensor], shape: torch.Size) -> torch.Tensor:
    """The change of a weight by one pair of low-rank matrices, α/r · up·down (Hu et al. 2022, section 4.1).

    Args:
        parts: "lora_up.weight" (out, r, …), "lora_down.weight" (r, in, …), and where the file has them "alpha" and,
            for convolutions, "lora_mid.weight" (r, r, k, k).
        shape: of the weight, (out, in) or (out, in, k, k).

    Returns:
        float32, in the weight's shape.
    """
    up, down = parts["lora_up.weight"].float(), parts["lora_down.weight"].float()
    rank = down.shape[0]
    scale = float(parts["alpha"]) / rank if "alpha" in parts else 1.0
    if "lora_mid.weight" in parts:
        product = torch.einsum("or,rskl,si->oikl", up.flatten(1), parts["lora_mid.weight"].float(), down.flatten(1))
    else:
        product = up.flatten(1) @ down.flatten(1)
    return scale * product.reshape(shape)


Combination = tuple[tuple[LoraTag, str], ...]


@dataclass
class _Swap:
    """A parameter with its own values and with the changed ones."""

    parameter: torch.nn.Parameter
    original: torch.Tensor
    changed: torch.Tensor


class LoraFolder:
    """The LoRA files of a folder, and the last combination of them that was used."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._combination: Combination = ()
        self._swaps: list[_Swap] = []

    @contextmanager
    def applied(self, tags: Sequence[LoraTag], model: Model) -> Iterator[None]:
        """The model with the named files' weights added, for the time of a `with` block.

        Afterwards every weight is the very tensor that it was before. The changed weights of the last combination
        are kept, so that rendering many frames computes them once.

        Raises:
            UserError: no such file, or a file that does not fit the model.
        """
        combination = self.combination(tags)
        if combination != self._combination:
            self._swaps, self._combination = [], ()
            self._swaps, self._combination = self._prepare(tags, model), combination
        for swap in self._swaps:
            swap.parameter.data = swap.changed
        try:
            yield
        finally:
            for swap in self._swaps:
                swap.parameter.data = swap.original

    def combination(self, tags: Sequence[LoraTag]) -> Combination:
        """Tags and the hashes of their files: equal as long as they change the model in the same way.

        Raises:
            UserError: no folder, or no such file.
        """
        return tuple((tag, self.hash_of(tag.name)) for tag in tags)

    def hash_of(self, name: str) -> str:
        """Short SHA-256 hash of the file of a name, as long as the file is the same.

        Raises:
            UserError: no folder, or no such file.
        """
        return short_hash(self.find(name))

    def find(self, name: str) -> Path:
        """The file of a name (its stem), anywhere in the folder.

        Raises:
            UserError: no folder, or no such file; names the nearest.
        """
        if self._folder is None:
            raise UserError(
                f"<lora:{name}>: no LoRA folder is set.",
                hint="Name the folder of the LoRA files; on the command line by --lora-dir.",
            )
        files = {path.stem: path for path in sorted(self._folder.rglob("*")) if path.suffix.lower() in _ENDINGS}
        if name in files:
            return files[name]
        near = difflib.get_close_matches(name, files, n=1, cutoff=0.0)
        raise UserError(
            f"<lora:{name}>: there is no such file in {self._folder}.",
            hint=f"The nearest name is {near[0]!r}." if near else "The folder holds no LoRA files.",
        )

    def _prepare(self, tags: Sequence[LoraTag], model: Model) -> list[_Swap]:
        swaps: dict[int, _Swap] = {}
        targets = lora_targets(model.unet, model.text) if tags else {}
        for tag in tags:
            for name, parts in _modules(read_weights(self.find(tag.name)), targets).items():
                target = targets[name]
                weight = tag.text if target.is_text else tag.unet
                parameter = target.parameter
                swap = swaps.setdefault(id(parameter), _Swap(parameter, parameter.data, parameter.data.clone()))
                _add(target.part_of(swap.changed), parts, weight)
        return list(swaps.values())


def _add(changed: torch.Tensor, parts: dict[str, torch.Tensor], weight: float) -> None:
    delta = lora_delta({key: value.to(changed.device) for key, value in parts.items()}, changed.shape)
    changed.copy_((changed.float() + weight * delta).to(changed.dtype))


def _modules(weights: Weights, targets: dict[str, Target]) -> dict[str, dict[str, torch.Tensor]]:
    """The file's tensors by the module they belong to, without those that this model has no place for."""
    grouped: dict[str, list[str]] = {}
    for key in weights:
        name, _, part = key.partition(".")
        if part in _OTHER_KINDS or part.removesuffix(".weight") in _OTHER_KINDS:
            raise UserError(
                f"{weights.path} is a {_OTHER_KINDS[part.removesuffix('.weight')]} file, which is not read."
            )
        grouped.setdefault(name, []).append(part)
    complete = {name for name, parts in grouped.items() if {"lora_up.weight", "lora_down.weight"} <= set(parts)}
    known = sorted(complete & targets.keys())
    misfits = [name for name in known if not _fits(weights, name, targets[name])]
    if not known or misfits:
        example = misfits[0] if misfits else next(iter(grouped), "none")
        raise UserError(
            f"{weights.path} does not fit this model (for example {example}).",
            hint="A LoRA in the kohya layout that was trained on the same kind of model (SD1 or SD2) is needed.",
        )
    if len(known) < len(grouped):
        logger.warning("%s: %d of %d modules are not used", weights.path.name, len(grouped) - len(known), len(grouped))
    return {name: {part: weights[f"{name}.{part}"] for part in grouped[name]} for name in known}


def _fits(weights: Weights, name: str, target: Target) -> bool:
    up, down = (weights.shapes[f"{name}.lora_{part}.weight"] for part in ("up", "down"))
    shape = target.shape
    mid = weights.shapes.get(f"{name}.lora_mid.weight", ())
    kernel = mid[2:] if mid else down[2:]
    return up[0] == shape[0] and down[1] == shape[1] and (tuple(kernel) or (1, 1)) == (tuple(shape[2:]) or (1, 1))
