"""A whole interval where the tensors are: the same pictures as on the host, no wait and no way back but the last."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from rerender.arrays import HOST, Operations, bring
from rerender.arrays.device import operations_on
from rerender.errors import Interrupted, UserError
from rerender.propagate import IntervalJob, PropagationSettings, backend, interval, propagate_all, propagate_interval
from rerender.propagate.backend import HostBackend
from rerender.propagate.cuda import device as device_module
from rerender.propagate.cuda import engine
from rerender.propagate.cuda.device import Device
from rerender.propagate.settings import DeviceName
from rerender.propagate.synthesis import Synthesis
from tests.pretended_cuda import DEVICE, pretended_cuda
from tests.propagate.clips import clip, restyle
from tests.propagate.cuda.conftest import HOME, StandIn, believe_in_cuda, there

SIDE = 48

WAITING = {  # what has to know a value, or how many there are, before the next work can be queued
    "aten::_local_scalar_dense", "aten::item", "aten::is_nonzero", "aten::nonzero", "aten::masked_select",
    "aten::equal", "aten::unique_dim", "aten::_unique2", "aten::bincount", "aten::repeat_interleave", "aten::argwhere",
}  # fmt: skip


class SameEngine(HostBackend):
    """The host, but for a synthesis with the GPU's schedule: what is left differs by where it is computed."""

    device: Device

    def synthesize(self, style: Any, guides: Any, start: Any, wanted: Any) -> Synthesis:
        options = self.options(start, wanted)
        style, guides = there((style, guides))
        made = engine.synthesize(self.device, style, guides, **{name: there(value) for name, value in options.items()})
        return bring(made, HOST)


class NoWaiting(TorchDispatchMode):
    """Fails on operations that wait for a device."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = function._schema.name
        assert name not in WAITING, name
        if name in ("aten::index", "aten::index_put", "aten::index_put_"):
            assert all(index is None or index.dtype == torch.int64 for index in args[1]), f"{name} by a mask"
        return function(*args, **(kwargs or {}))


def pictures(
    device: DeviceName, keys: tuple[bool, bool] = (True, True), kind: str = "rotation", **chosen: Any
) -> list[np.ndarray]:
    cuts = chosen.pop("cuts", ())
    frames, flow = clip(kind, 5, SIDE)
    first, last = (restyle(frames[at]) if given else None for at, given in zip((0, -1), keys, strict=True))
    settings = PropagationSettings(preset="fast", threads=1, device=device, **chosen)
    return [p for _, p in propagate_interval(frames, first, last, settings, flow=flow, cuts=cuts)]


@pytest.fixture
def on_host(gpu: StandIn, device: Device, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[np.ndarray]]:
    """`pictures` with the GPU's synthesis and exact Lab, and everything else on the host."""

    def exact_lab(_: Operations, picture: np.ndarray) -> np.ndarray:
        return HOST.here(operations_on(HOME).to_lab(there(picture)))

    def run(**chosen: Any) -> list[np.ndarray]:
        with monkeypatch.context() as patch:
            patch.setattr(SameEngine, "device", device, raising=False)
            patch.setattr(backend, "make_backend", SameEngine)
            patch.setattr(type(HOST), "to_lab", exact_lab)
            return pictures("cpu", **chosen)

    return run


CASES: dict[str, dict[str, Any]] = {
    "as usual": {},
    "parallax": {"kind": "parallax"},
    "first key only": {"keys": (True, False), "kind": "fast"},
    "last key only": {"keys": (False, True)},
    "a cut": {"cuts": (3,)},
    "a shot without a key": {"keys": (True, False), "cuts": (2,)},
    "nothing followed": {"follow": False},
    "plain mix": {"contrast": False, "poisson": False, "ghost_check": False, "latch": False},
}


@pytest.mark.parametrize("name", CASES)
def test_the_pictures_are_the_hosts(on_host: Callable[..., list[np.ndarray]], name: str) -> None:
    expected, made = on_host(**CASES[name]), pictures("cuda", **CASES[name])
    assert len(made) == len(expected) >= 3
    away = np.abs(np.array(made).astype(int) - np.array(expected)).max(-1)
    assert (away <= 1).mean() >= 0.999
    assert (away == 0).mean() > 0.99


def test_opencvs_own_lab_moves_them_by_a_level(gpu: StandIn, device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    made = pictures("cuda")
    monkeypatch.setattr(SameEngine, "device", device, raising=False)
    monkeypatch.setattr(backend, "make_backend", SameEngine)
    away = np.abs(np.array(made).astype(int) - np.array(pictures("cpu")))
    assert (away <= 1).mean() >= 0.999
    assert away.mean() < 0.25


def test_the_pictures_are_the_same_on_a_device_that_refuses_main_memory(
    gpu: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = pictures("cuda")
    with pretended_cuda(), monkeypatch.context() as patch:
        believe_in_cuda(patch)  # forgets the device whose tensors lie on the CPU
        patch.setattr(device_module, "open_library", lambda: gpu.library)
        made = pictures("cuda")
        assert device_module.open_device().home == DEVICE
    np.testing.assert_array_equal(made, expected)


class Transfers:
    """What goes to the device and what comes back, by shape; anything that gets there another way fails."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.up: list[np.ndarray] = []
        self.down: list[torch.Tensor] = []
        from_numpy, numpy = torch.from_numpy, torch.Tensor.numpy
        monkeypatch.setattr(torch, "from_numpy", lambda array: self.up.append(array) or from_numpy(array))
        monkeypatch.setattr(torch.Tensor, "numpy", lambda tensor: self.down.append(tensor) or numpy(tensor))
        for name in ("tensor", "asarray", "from_dlpack"):
            monkeypatch.setattr(torch, name, _forbidden(name))
        for name in ("item", "tolist", "__bool__", "__int__", "__float__", "__index__", "__array__"):
            monkeypatch.setattr(torch.Tensor, name, _forbidden(name))


def _forbidden(name: str) -> Callable[..., None]:
    def fail(*_: object, **__: object) -> None:
        raise AssertionError(f"{name} in the loop")

    return fail


@pytest.mark.parametrize("name", CASES)
def test_nothing_waits_and_only_finished_pictures_come_back(
    gpu: StandIn, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    frames, keys = clip(CASES[name].get("kind", "rotation"), 5, SIDE)[0], CASES[name].get("keys", (True, True))
    transfers = Transfers(monkeypatch)
    with NoWaiting():
        made = pictures("cuda", **CASES[name])
    assert [tensor.shape for tensor in transfers.down] == [(SIDE, SIDE, 3)] * len(made)
    assert all(tensor.dtype == torch.uint8 for tensor in transfers.down)
    coloured = [array for array in transfers.up if array.dtype == np.uint8 and array.shape == (SIDE, SIDE, 3)]
    assert len(coloured) <= len(frames) + sum(keys)  # each frame and each key once
    assert all(sum(np.array_equal(array, frame) for array in coloured) <= 1 for frame in frames)


def test_a_picture_comes_when_the_next_one_is_under_way(gpu: StandIn) -> None:
    frames, flow = clip("translation", 5, 48)
    asked = []
    settings = PropagationSettings(preset="fast", threads=1, device="cuda")
    results = propagate_interval(
        frames, restyle(frames[0]), None, settings, flow=flow, cancelled=lambda: bool(asked.append(1))
    )
    begun = [(offset, len(asked)) for offset, _ in results]
    assert begun == [(1, 2), (2, 3), (3, 4), (4, 4)]


def test_threads_that_look_ahead_change_no_byte(gpu: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = clip("fast", 4, 48)[0]
    started: list[int] = []
    made = []

    class Watched(interval.Lookout):
        def __init__(self, threads: int) -> None:
            started.append(threads)
            super().__init__(threads)

    monkeypatch.setattr(interval, "Lookout", Watched)
    for most, threads in ((8, 3), (0, 3)):
        monkeypatch.setattr(interval, "MOST_THREADS", most)
        settings = PropagationSettings(preset="fast", threads=threads, device="cuda")
        made.append([p for _, p in propagate_interval(frames, restyle(frames[0]), restyle(frames[3]), settings)])
    assert started == [3, 0]
    assert np.array_equal(made[0], made[1])


def test_only_what_may_be_asked_by_several_threads_is_asked_ahead(gpu: StandIn) -> None:
    exact = clip("translation", 3, 48)[1]
    settings = PropagationSettings(preset="fast", threads=3)
    assert interval._lookouts(settings, exact) == 0
    exact.thread_safe = True  # type: ignore[attr-defined]
    assert interval._lookouts(settings, exact) == 3
    assert interval._lookouts(replace(settings, device="cpu"), exact) == 0


class Noting:
    """Exact flow that notes the intervals whose flow was asked for."""

    thread_safe = True

    def __init__(self, flow: Any, frames: list[np.ndarray]) -> None:
        self.flow, self.frames, self.seen = flow, frames, set[int]()
        self.reached = threading.Condition()

    def __call__(self, reference: np.ndarray, target: np.ndarray) -> np.ndarray:
        with self.reached:
            self.seen.add(next(i for i, frame in enumerate(self.frames) if frame is reference) // 3)
            self.reached.notify_all()
        return self.flow(reference, target)


def test_threads_look_into_the_next_interval_but_no_further(gpu: StandIn) -> None:
    frames, exact = clip("translation", 12, 48)
    flow, taken = Noting(exact, frames), list[int]()

    def jobs() -> Iterator[IntervalJob]:
        for number in range(4):
            taken.append(number)
            part = frames[3 * number : 3 * number + 3]
            yield IntervalJob(part, restyle(part[0]), restyle(part[2]))

    results = propagate_all(jobs(), PropagationSettings(preset="fast", threads=2), flow=flow)
    number, *_ = next(results)
    assert number == 0
    with flow.reached:
        assert flow.reached.wait_for(lambda: 1 in flow.seen, 20)
    assert set(taken) == {0, 1}
    assert flow.seen == {0, 1}
    expected = list(propagate_all(jobs(), PropagationSettings(preset="fast", threads=2), flow=exact))
    assert not getattr(exact, "thread_safe", False)  # so that one was asked without threads
    rest = [each[2] for each in results]
    assert np.array_equal(rest, [each[2] for each in expected[1:]])


def test_an_error_of_the_next_interval_comes_in_its_turn(gpu: StandIn) -> None:
    frames, flow = clip("translation", 3, 48)

    def jobs() -> Iterator[IntervalJob]:
        yield IntervalJob(frames, restyle(frames[0]), restyle(frames[2]))
        raise UserError("clip.mp4 has changed")

    results = propagate_all(jobs(), PropagationSettings(preset="fast", threads=2), flow=Noting(flow, frames))
    assert next(results)[:2] == (0, 1)
    with pytest.raises(UserError, match="has changed"):
        next(results)


def test_an_interrupt_leaves_no_thread_with_work(gpu: StandIn) -> None:
    frames, flow = clip("translation", 5, 48)
    asked = iter([False] * 2)
    results = propagate_all(
        [IntervalJob(frames, restyle(frames[0]), restyle(frames[4]))] * 2,
        PropagationSettings(preset="fast", threads=2),
        flow=Noting(flow, frames),
        cancelled=lambda: next(asked, True),
    )
    with pytest.raises(Interrupted):
        list(results)
    for thread in threading.enumerate():
        if thread.name.startswith(("lookout", "one-ahead")):
            thread.join(20)
            assert not thread.is_alive()


def test_nothing_stays_on_the_device_when_the_interval_ends_or_is_left(gpu: StandIn) -> None:
    kept = operations_on(HOME)._constants
    results = iter_pictures()
    next(results)
    assert kept
    results.close()
    assert not kept
    assert len(pictures("cuda")) == 3
    assert not kept


def iter_pictures() -> Any:
    frames, flow = clip("translation", 5, 48)
    return propagate_interval(frames, restyle(frames[0]), None, PropagationSettings(preset="fast"), flow=flow)


@pytest.mark.parametrize("failing", ["dct", "sample", "here"])
def test_memory_that_runs_out_anywhere_leads_to_the_host(
    gpu: StandIn, monkeypatch: pytest.MonkeyPatch, caplog: Any, failing: str
) -> None:
    expected = pictures("cuda")
    usual, calls = getattr(type(operations_on(HOME)), failing), []

    def full(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) > 3:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 MiB")
        return usual(*arguments)

    monkeypatch.setattr(type(operations_on(HOME)), failing, full)
    made = pictures("cuda")
    assert "on the CPU: CUDA out of memory. Tried to allocate 20 MiB" in caplog.text
    assert len(caplog.records) == 1
    assert len(made) == len(expected)
    assert np.mean([np.abs(a.astype(int) - b).mean() for a, b in zip(made, expected, strict=True)]) < 2
