"""The reference bank: attention inputs of the reference frames, by (model call, layer, row), in half precision.

It is the largest thing the method keeps, so its size is known before a run (`estimate_bytes`), it can lie in pinned
host memory with the next call's part brought to the device ahead of time, and `free` gives all of it back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

import psutil
import torch

from rerender.diffusion.checkerboard import has_checkerboard
from rerender.diffusion.layers import AttentionLayer
from rerender.errors import RerenderError, UserError

Location = Literal["device", "host"]


class Key(NamedTuple):
    """Where features belong: number of the model call, number of the layer, row of the denoiser's batch."""

    call: int
    layer: int
    row: int


def estimate_bytes(
    layers: Iterable[AttentionLayer],
    latent_size: tuple[int, int],
    *,
    calls: int,
    rows: int = 2,
    references: int = 2,
    checkerboard: bool = False,
) -> int:
    """Upper bound of what a bank holds: 2 bytes · calls · rows · Σ over references and layers of tokens · width.

    Args:
        latent_size: (height, width) in cells.
        calls: model calls in which attention reaches across frames.
        rows: rows a model call has (2 with guidance).
        checkerboard: of every reference but the first only half of the tokens is kept in the finest layers.
    """
    values = 0
    for layer in layers:
        tokens = layer.tokens(*latent_size)
        later = tokens // 2 if checkerboard and has_checkerboard(layer) else tokens
        values += layer.width * (tokens + (references - 1) * later)
    return 2 * calls * rows * values


def choose_location(wanted: Literal["auto", "device", "host"], size: int, device: torch.device) -> Location:
    """Where a bank of `size` bytes goes.

    auto: on the device if half of the memory that is free there holds it, else in main memory. What was asked for by
    name is not checked.

    Raises:
        UserError: auto, and there is no room in either.
    """
    if wanted != "auto":
        return wanted if device.type == "cuda" else "device"
    if device.type == "cuda" and size <= torch.cuda.mem_get_info(device)[0] // 2:
        return "device"
    available = psutil.virtual_memory().available
    if size > available:
        raise UserError(
            f"The features of the reference frames need {size / 2**30:.1f} GB of memory, "
            f"{available / 2**30:.1f} GB are free.",
            hint="Half of it or nearly: attention_references=anchor. Less: attention_tokens=checkerboard, fewer steps, "
            "a smaller picture, attention_end below 1, attention_layers=loose. Or close other programs.",
        )
    return "host" if device.type == "cuda" else "device"


class FeatureSlot:
    """Features of one reference frame.

    Args:
        device: where the U-Net runs.
        location: "device", or "host": (pinned) main memory, brought over one model call ahead.
    """

    def __init__(self, device: torch.device, location: Location = "device") -> None:
        self.device = device
        self._features: dict[Key, torch.Tensor] = {}
        self.move(location)

    def __len__(self) -> int:
        return len(self._features)

    def move(self, location: Location) -> None:
        """Keep features in another place from now on; those already stored are forgotten."""
        self._features.clear()
        self.on_host = location == "host" and self.device.type != "cpu"
        self._ahead = _Prefetch(self.device) if self.on_host and self.device.type == "cuda" else None

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return sum(t.numel() * t.element_size() for t in self._features.values())

    def store(self, call: int, layer: int, first_row: int, features: torch.Tensor) -> None:
        """Keep `features` (rows, tokens, width) for the rows from `first_row` on, in place of older ones."""
        for offset, row in enumerate(features.detach()):
            key = Key(call, layer, first_row + offset)
            held = self._features.get(key)
            if held is None or held.shape != row.shape:
                held = self._features[key] = self._empty(row.shape)
            held.copy_(row, non_blocking=self.on_host)

    def load(
        self, call: int, layer: int, first_row: int, into: torch.Tensor, cells: torch.Tensor | None = None
    ) -> None:
        """Write the features of into.shape[0] rows from `first_row` on into `into` (rows, tokens, width).

        Args:
            cells: numbers of the tokens to take; None is all.

        Raises:
            RerenderError: they were never stored, or for another picture size.
        """
        for offset, row in enumerate(into):
            held = self._get(Key(call, layer, first_row + offset))
            row.copy_(held if cells is None else held.index_select(0, cells.to(held.device)))

    def tokens(self, call: int, layer: int, row: int) -> int:
        """Number of tokens stored under a key.

        Raises:
            RerenderError: nothing is.
        """
        return int(self._held(Key(call, layer, row)).shape[0])

    def prefetch(self, call: int) -> None:
        """Begin to bring the features of model call `call` to the device; does nothing where they are there."""
        if self._ahead is not None:
            self._ahead.start(call, {key: held for key, held in self._features.items() if key.call == call})

    def clear(self) -> None:
        """Give the memory back."""
        self._features.clear()
        if self._ahead is not None:
            self._ahead.clear()

    def state_dict(self) -> dict[str, torch.Tensor]:
        """The features by "call.layer.row", (tokens, width) float16, where they lie and not copied."""
        if self.on_host and self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return {f"{key.call}.{key.layer}.{key.row}": held for key, held in self._features.items()}

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Hold exactly what `state_dict` returned; one tensor after the other."""
        self.clear()
        for name, held in state.items():
            call, layer, row = map(int, name.split("."))
            self.store(call, layer, row, held[None])

    def _empty(self, shape: Sequence[int]) -> torch.Tensor:
        if self.on_host:
            return torch.empty(shape, dtype=torch.float16, pin_memory=self.device.type == "cuda")
        return torch.empty(shape, dtype=torch.float16, device=self.device)

    def _held(self, key: Key) -> torch.Tensor:
        if key not in self._features:
            raise RerenderError(
                f"The reference frame has no features for model call {key.call}, layer {key.layer}, row {key.row}.",
                hint="Reference and current frame must be rendered with the same sampler, steps and prompt structure.",
            )
        return self._features[key]

    def _get(self, key: Key) -> torch.Tensor:
        held = self._held(key)
        return held if self._ahead is None else self._ahead.get(key, held)


class _Prefetch:
    """Copies to the device on a stream of their own, one model call ahead of their use."""

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device)
        self._device = device
        self._arrived: dict[Key, torch.Tensor] = {}

    def start(self, call: int, held: dict[Key, torch.Tensor]) -> None:
        self._arrived = {key: tensor for key, tensor in self._arrived.items() if key.call >= call - 1}
        # What the main stream still writes into main memory must be complete before it is read from there.
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            for key in held.keys() - self._arrived.keys():
                self._arrived[key] = held[key].to(self._device, non_blocking=True)

    def get(self, key: Key, held: torch.Tensor) -> torch.Tensor:
        main = torch.cuda.current_stream(self._device)
        main.wait_stream(self._stream)
        arrived = self._arrived.pop(key, None)
        if arrived is None:
            return held
        arrived.record_stream(main)
        return arrived

    def clear(self) -> None:
        self._arrived.clear()
