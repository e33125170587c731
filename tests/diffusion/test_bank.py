from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from rerender.diffusion import bank
from rerender.diffusion.bank import FeatureSlot, choose_location, estimate_bytes
from rerender.diffusion.layers import decoder_layers
from rerender.errors import RerenderError, UserError
from tests.diffusion.test_attention import recorded
from tests.diffusion.toys import ToyUNet

CPU = torch.device("cpu")


def features(seed, rows=2, tokens=3, width=4):
    return torch.randn(rows, tokens, width, generator=torch.Generator().manual_seed(seed))


def loaded(slot, call=0, layer=0, row=0, rows=2):
    into = torch.empty(rows, 3, 4)
    slot.load(call, layer, row, into)
    return into


def test_size_is_known_beforehand():
    slot, _ = recorded(torch.zeros(1, 4, 4, 6))
    bound = estimate_bytes(decoder_layers(ToyUNet()), (4, 6), calls=3, rows=2, references=1)
    assert slot.nbytes == bound == 2 * 3 * 2 * (2 * 3 * 16 + 4 * 6 * 8)


def test_stores_in_half_precision_by_row():
    slot = FeatureSlot(CPU)
    slot.store(0, 0, 1, features(1))
    assert torch.equal(loaded(slot, row=1), features(1).half().float())
    assert torch.equal(loaded(slot, row=2, rows=1), features(1)[1:].half().float())


def test_a_new_frame_takes_no_new_memory():
    slot = FeatureSlot(CPU)
    slot.store(0, 0, 0, features(1))
    held = {key: tensor.data_ptr() for key, tensor in slot.state_dict().items()}
    slot.store(0, 0, 0, features(2))
    assert {key: tensor.data_ptr() for key, tensor in slot.state_dict().items()} == held
    assert torch.equal(loaded(slot), features(2).half().float())


def test_state_brings_the_same_bytes_back():
    slot, other = FeatureSlot(CPU), FeatureSlot(CPU)
    slot.store(3, 1, 0, features(1))
    other.store(9, 9, 9, features(2))
    other.load_state_dict(slot.state_dict())
    assert other.state_dict().keys() == {"3.1.0", "3.1.1"}
    assert torch.equal(loaded(other, 3, 1), loaded(slot, 3, 1))


def test_clear_gives_everything_back():
    slot = FeatureSlot(CPU)
    slot.store(0, 0, 0, features(1))
    slot.clear()
    assert slot.nbytes == len(slot) == 0
    with pytest.raises(RerenderError, match="no features"):
        loaded(slot)


@pytest.mark.parametrize(
    ("wanted", "device", "free", "expected"),
    [
        ("auto", "cpu", 0, "device"),
        ("host", "cpu", 0, "device"),
        ("auto", "cuda", 3000, "device"),
        ("auto", "cuda", 1000, "host"),
        ("device", "cuda", 0, "device"),
        ("host", "cuda", 10**12, "host"),
    ],
)
def test_location_follows_setting_and_free_memory(monkeypatch, wanted, device, free, expected):
    room(monkeypatch, device=free, host=1000)
    assert choose_location(wanted, 1000, torch.device(device)) == expected


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_bank_that_fits_nowhere_is_refused_before_anything_is_sampled(monkeypatch, device):
    room(monkeypatch, device=2**31, host=3 * 2**30)
    with pytest.raises(UserError, match=r"need 4\.0 GB of memory, 3\.0 GB are free") as caught:
        choose_location("auto", 2**32, torch.device(device))
    assert "attention_references" in caught.value.hint


def room(monkeypatch, device, host):
    monkeypatch.setattr(bank.torch.cuda, "mem_get_info", lambda _: (device, 10**12))
    monkeypatch.setattr(bank.psutil, "virtual_memory", lambda: SimpleNamespace(available=host))
