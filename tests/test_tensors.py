"""Files of tensors: the layout that safetensors reads, one tensor in memory at a time, whole or absent."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from rerender.tensors import TensorFile, write_tensors

TENSORS = {
    "odd": torch.arange(7, dtype=torch.uint8),
    "wide": torch.arange(6, dtype=torch.int64).reshape(2, 3),
    "half": torch.randn(3, 5).half(),
    "turned": torch.randn(4, 6).T,
    "brain": torch.randn(2).bfloat16(),
    "truth": torch.tensor([True, False]),
    "none": torch.zeros(0, 4),
    "one": torch.tensor(3.5),
}


def test_other_readers_find_the_same_tensors(tmp_path: Path) -> None:
    file = tmp_path / "folder" / "t.safetensors"
    size = write_tensors(file, TENSORS, {"name": "straße"})
    assert file.stat().st_size == size
    read = load_file(file)
    assert read.keys() == TENSORS.keys()
    assert all(torch.equal(read[name], TENSORS[name]) and read[name].dtype == TENSORS[name].dtype for name in read)


def test_our_reader_finds_them_too(tmp_path: Path) -> None:
    write_tensors(tmp_path / "t.safetensors", TENSORS, {"name": "straße"})
    with TensorFile(tmp_path / "t.safetensors") as file:
        assert file.metadata == {"name": "straße"}
        assert set(file) == set(TENSORS)
        assert len(file) == len(TENSORS)
        assert all(torch.equal(file[name], tensor) for name, tensor in TENSORS.items())
        with pytest.raises(KeyError):
            file["unknown"]


def test_no_more_than_one_tensor_is_copied_at_a_time(tmp_path: Path) -> None:
    tensors = {str(number): torch.zeros(1 << 18, dtype=torch.uint8) for number in range(40)}
    tracemalloc.start()
    try:
        write_tensors(tmp_path / "t.safetensors", tensors, {})
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2 * (1 << 18)


def test_a_kind_of_number_without_a_name_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"wrong: torch\.complex64"):
        write_tensors(tmp_path / "t.safetensors", {"wrong": torch.zeros(2, dtype=torch.complex64)}, {})
    assert list(tmp_path.iterdir()) == []
