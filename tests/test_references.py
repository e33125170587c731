"""The references on disk: when they are written, and how little of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rerender.stages import references
from rerender.stages.references import ReferenceStore


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Stub:
    """Stands in for a translator with one anchor and key frames after it."""

    def __init__(self) -> None:
        self.restored: Any = None

    def anchor_state(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        return {"anchor": torch.ones(3)}, {"anchor": 0, "previous": 0}

    def state_since_anchor(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        return {"previous": torch.zeros(2)}, {"anchor": 0, "previous": 5}

    def restore(self, tensors: Any, meta: Any, *, pictures: Any) -> None:
        self.restored = ({name: tensor.tolist() for name, tensor in tensors.items()}, meta, sorted(pictures))


def picture(_: int) -> np.ndarray:
    return np.zeros((8, 8, 3), np.uint8)


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files in the order they are written."""
    names: list[str] = []
    original = references.write_tensors
    monkeypatch.setattr(references, "write_tensors", lambda path, *a: (names.append(path.stem), original(path, *a))[1])
    return names


def test_the_anchor_is_written_once(tmp_path: Path, written: list[str]) -> None:
    store = ReferenceStore(tmp_path)
    for after in ("a", "b", "c", "c"):
        store.save(Stub(), after, "a")
    assert written == ["anchor", "since-anchor", "since-anchor"]
    ReferenceStore(tmp_path).save(Stub(), "d", "a")
    assert written[3:] == ["since-anchor"]
    store.save(Stub(), "e", "e")
    assert written[4:] == ["anchor"]


def test_writing_takes_at_most_a_twentieth_of_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    store = ReferenceStore(tmp_path, clock)
    assert store.is_due
    original = references.write_tensors

    def slow(*arguments: Any) -> int:
        clock.now += 3
        return original(*arguments)

    monkeypatch.setattr(references, "write_tensors", slow)
    store.save(Stub(), "a", "a")
    clock.now += 59
    assert not store.is_due
    clock.now += 1
    assert store.is_due


def test_the_latest_of_the_shot_is_brought_back(tmp_path: Path) -> None:
    store, stub = ReferenceStore(tmp_path), Stub()
    store.save(stub, "a", "a")
    assert store.load(stub, ["a", "b", "c"], picture) == 1
    assert stub.restored == ({"anchor": [1, 1, 1]}, {"anchor": 0, "previous": 0}, [0])
    store.save(stub, "b", "a")
    assert store.load(stub, ["a", "b", "c"], picture) == 2
    assert stub.restored == ({"anchor": [1, 1, 1], "previous": [0, 0]}, {"anchor": 0, "previous": 5}, [0, 5])
    assert store.load(stub, ["a"], picture) == 1
    assert stub.restored[1]["previous"] == 0
    assert store.load(stub, ["x", "y"], picture) == 0


def test_what_was_added_to_another_anchor_is_not_used(tmp_path: Path) -> None:
    store, stub = ReferenceStore(tmp_path), Stub()
    store.save(stub, "b", "a")
    store.save(stub, "z", "z")
    assert store.load(stub, ["z", "b"], picture) == 1
    assert store.load(stub, ["a", "b"], picture) == 0
