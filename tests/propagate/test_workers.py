"""Worker processes: what they are given, and how they end."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from rerender.errors import Interrupted, RerenderError, UserError
from rerender.motion.flow import DisFlow
from rerender.propagate import IntervalJob, PropagationSettings, propagate_all
from rerender.propagate.parallel import _Crew, _Running
from tests.propagate.clips import clip, restyle

FAST = PropagationSettings(preset="fast", device="cpu")
SECONDS = 20.0  # within which what has to happen soon happens on a busy machine


@dataclass(frozen=True)
class Stuck:
    """A flow estimator that notes its process in a file and is never done."""

    path: str

    def __call__(self, reference: np.ndarray, target: np.ndarray) -> np.ndarray:
        Path(f"{self.path}.new").write_text(str(os.getpid()), encoding="utf-8")
        Path(f"{self.path}.new").replace(self.path)
        time.sleep(600)
        raise AssertionError


class Telling:
    """A flow estimator that tells how Ctrl-C reaches the process that it works in."""

    def __call__(self, reference: np.ndarray, target: np.ndarray) -> np.ndarray:
        raise UserError(f"Ctrl-C is {'ignored' if signal.getsignal(signal.SIGINT) is signal.SIG_IGN else 'heard'} here")


@dataclass(frozen=True)
class Killed:
    """DIS, in a process that is killed as the system does it: so many times, as files in a folder tell."""

    folder: str
    times: int

    def __call__(self, reference: np.ndarray, target: np.ndarray) -> np.ndarray:
        for number in range(self.times):
            with contextlib.suppress(FileExistsError):
                (Path(self.folder) / f"{number}").touch(exist_ok=False)
                os.kill(os.getpid(), signal.SIGKILL)
        return DisFlow()(reference, target)


def job() -> IntervalJob:
    frames = clip("translation", 3, 48)[0]
    return IntervalJob(frames, restyle(frames[0]), restyle(frames[2]))


def wait_until_gone(pid: int) -> None:
    try:
        worker = psutil.Process(pid)
        until = time.monotonic() + SECONDS
        while worker.status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < until
            time.sleep(0.05)
    except psutil.NoSuchProcess:
        pass


def test_an_interrupt_ends_the_workers_at_once(tmp_path: Path) -> None:
    noted = tmp_path / "pid"
    started = time.monotonic()
    with pytest.raises(Interrupted):
        list(propagate_all([job()] * 3, FAST, workers=2, flow=Stuck(str(noted)), cancelled=noted.exists))
    assert time.monotonic() - started < 60
    # By number: the pool's own thread may be about to note the end of a process that it waited for.
    for pid in [child.pid or 0 for child in multiprocessing.active_children()] + [int(noted.read_text())]:
        wait_until_gone(pid)


def test_workers_follow_the_flow_that_is_given_and_leave_ctrl_c_to_their_parent() -> None:
    with pytest.raises(UserError, match="Ctrl-C is ignored here"):
        list(propagate_all([job()], FAST, workers=2, flow=Telling()))
    with pytest.raises(UserError, match="Ctrl-C is heard here"):
        list(propagate_all([job()], FAST, workers=1, flow=Telling()))


def test_workers_do_not_outlive_a_parent_that_is_killed(tmp_path: Path) -> None:
    noted = tmp_path / "pid"
    script = (
        "import sys\n"
        "from tests.propagate.test_workers import FAST, Stuck, job\n"
        "from rerender.propagate import propagate_all\n"
        "list(propagate_all([job()], FAST, workers=2, flow=Stuck(sys.argv[1])))\n"
    )
    root = Path(__file__).resolve().parents[2]
    parent = subprocess.Popen([sys.executable, "-c", script, str(noted)], cwd=root)
    try:
        until = time.monotonic() + 3 * SECONDS
        while not noted.exists():
            assert parent.poll() is None
            assert time.monotonic() < until
            time.sleep(0.05)
    finally:
        parent.kill()
        parent.wait()
    wait_until_gone(int(noted.read_text()))


def test_fewer_workers_go_on_where_one_was_killed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    jobs = [job() for _ in range(3)]
    expected = list(propagate_all(jobs, FAST, workers=1))
    made = list(propagate_all(iter(jobs), FAST, workers=3, flow=Killed(str(tmp_path), 1)))
    assert [each[:2] for each in made] == [(0, 1), (1, 1), (2, 1)]
    assert all(np.array_equal(a[2], b[2]) for a, b in zip(made, expected, strict=True))
    assert [record.getMessage().split(": ")[1] for record in caplog.records] == ["1 of them go on"]


def test_a_failure_is_told_where_the_last_worker_was_killed(tmp_path: Path) -> None:
    with pytest.raises(RerenderError, match="memory ran out") as caught:
        list(propagate_all([job()], FAST, workers=2, flow=Killed(str(tmp_path), 9)))
    assert caught.value.exit_status == 1
    assert len(list(tmp_path.iterdir())) == 2


def test_only_what_was_lost_is_made_anew() -> None:
    given = list[tuple[tuple[Any, ...], Future[Any]]]()

    def submit(*work: Any) -> Future[Any]:
        given.append((work, Future()))
        return given[-1][1]

    running = [_Running(number, job(), submit) for number in range(3)]
    given[0][1].set_result(([], None))
    given[1][1].set_exception(BrokenProcessPool())
    for each in running:
        each.start_again()
    assert [work for work, _ in given[3:]] == [given[1][0], given[2][0]]


def test_work_for_a_broken_pool_counts_as_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise BrokenProcessPool

    with closing(_Crew(1, FAST, None)) as crew:
        monkeypatch.setattr(crew._pool, "submit", broken)
        assert isinstance(crew.submit(lambda *_: ([], None)).exception(), BrokenProcessPool)
