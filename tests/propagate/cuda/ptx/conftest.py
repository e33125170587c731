"""The device on which the committed PTX runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch

from rerender.propagate.cuda.device import PTX, load_kernels
from rerender.propagate.cuda.driver import Driver
from tests.propagate.cuda.conftest import HOME, believe_in_cuda
from tests.propagate.cuda.ptx.driver import InterpretedDevice, Library


def open_interpreted() -> InterpretedDevice:
    """Load the kernels as a process does that has found a GPU."""
    library = Library()
    driver = Driver(library)
    with driver.context(0):
        return InterpretedDevice(0, HOME, driver, load_kernels(driver, 0), library)


@pytest.fixture(scope="module")
def interpreted() -> Iterator[InterpretedDevice]:
    """The committed text. Memory that is not written yet holds the largest numbers of its type, where torch can."""
    with pytest.MonkeyPatch.context() as patch:
        believe_in_cuda(patch)
        torch.use_deterministic_algorithms(True)
        yield open_interpreted()
        torch.use_deterministic_algorithms(False)


@pytest.fixture
def changed(interpreted: InterpretedDevice, monkeypatch: pytest.MonkeyPatch) -> Callable[..., InterpretedDevice]:
    """Loads the committed text with a slip in it."""

    def load(kernel: str, old: str, new: str) -> InterpretedDevice:
        text = PTX.read_text(encoding="ascii")
        start = text.index(f".entry {kernel}(")
        assert old in text[start:]
        monkeypatch.setattr(
            "rerender.propagate.cuda.device.PTX", _Text(text[:start] + text[start:].replace(old, new, 1))
        )
        return open_interpreted()

    return load


class _Text:
    """A file that is none."""

    def __init__(self, text: str) -> None:
        self._text = text

    def read_bytes(self) -> bytes:
        return self._text.encode("ascii")
