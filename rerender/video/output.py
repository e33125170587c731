"""What all outputs share: frames one by one, errors of the device as messages, put in place at the end only."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import platform
import re
import secrets
import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import numpy as np
import psutil

from rerender.errors import RerenderError, UserError

log = logging.getLogger(__name__)


class Writer(ABC):
    """Takes frames one by one; a context manager that puts the finished output in place on success.

    Until then everything is written to a hidden temporary file or folder beside the target, which an exception
    removes. An older output stays untouched up to that moment.
    """

    def __init__(self, path: Path, size: tuple[int, int]) -> None:
        self.path = path
        self.width, self.height = size
        self._last_time = Fraction(-1)
        self._count = 0

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                if not self._count:
                    raise RerenderError(f"No frame was written to {self.path}.")
                with disk_errors(self.path):
                    self._finish()
        finally:
            self._discard()

    def write(self, frame: np.ndarray, time: Fraction, duration: Fraction) -> None:
        """Append a frame.

        Args:
            frame: uint8 RGB (height, width, 3).
            time: when it is shown, seconds from the start of the output; later than the frame before.
            duration: how long it is shown if it is the last one, seconds, > 0.

        Raises:
            ValueError: the frame has another size, or the times do not increase.
            UserError: the device is full, or the output can't be written.
        """
        if frame.shape != (self.height, self.width, 3) or frame.dtype != np.uint8:
            raise ValueError(f"expected uint8 {(self.height, self.width, 3)}, got {frame.dtype} {frame.shape}")
        if time <= self._last_time or duration <= 0:
            raise ValueError(f"time {time} with duration {duration} does not follow {self._last_time}")
        self._last_time = time
        with disk_errors(self.path):
            self._write(np.ascontiguousarray(frame), time, duration)
        self._count += 1

    @abstractmethod
    def _write(self, frame: np.ndarray, time: Fraction, duration: Fraction) -> None: ...

    @abstractmethod
    def _finish(self) -> None:
        """Complete the output and put it in place."""

    @abstractmethod
    def _discard(self) -> None:
        """Remove what is left of the temporary output; nothing after `_finish`."""


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn errors of the device, also those that come through FFmpeg, into messages for the user.

    Raises:
        UserError: no space is left, or the output can't be written.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise no_space(path) from error
        raise UserError(
            f"The output {path} can't be written: {error.strerror or error}.",
            hint="Finished frames are kept. Choose another output and run again.",
        ) from error


def no_space(path: Path) -> UserError:
    """The error for a full device: says how much is free on it."""
    folder = next(parent for parent in [path, *path.absolute().parents] if parent.is_dir())
    free = shutil.disk_usage(folder).free / 2**20
    return UserError(
        f"No space is left for the output {path}: {free:.0f} MB are free on that device.",
        hint="Finished work is kept. Free some space or choose an output on another device, then run again.",
    )


def temporary_beside(path: Path) -> Path:
    """A hidden name in the same folder with the same ending, so that a rename puts it in place at once.

    No other writer has it, in this process or another. What killed runs left of the same output is removed.
    """
    _remove_leftovers(path)
    return path.with_name(
        f".{path.stem[:_STEM]}.{_this_host()}-{os.getpid()}-{secrets.token_hex(4)}.partial{path.suffix}"
    )


_STEM = 40  # characters of the target's name: with all the rest they must stay below 255 bytes
_UNTOUCHED_SECONDS = 24 * 3600  # after which something is a leftover, whoever wrote it


def _this_host() -> str:
    """Tells the machines (and containers) apart that write to one shared folder: process numbers say nothing there."""
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]


def _remove_leftovers(path: Path) -> None:
    owner = r"([0-9a-f]{8})-(\d+)-[0-9a-f]{8}\."  # versions before had none
    pattern = re.compile(rf"\.{re.escape(path.stem[:_STEM])}\.({owner})?partial{re.escape(path.suffix)}")
    for file in path.parent.iterdir():
        found = pattern.fullmatch(file.name)
        if found is not None and _is_left_over(file, host=found[2], process=found[3]):
            log.info("%s of a run that was killed is removed.", file)
            with suppress(OSError):  # another writer was quicker
                shutil.rmtree(file) if file.is_dir() and not file.is_symlink() else file.unlink()


def _is_left_over(file: Path, *, host: str | None, process: str | None) -> bool:
    """Whether the process that wrote a temporary output has ended without removing it."""
    if process is not None and host == _this_host() and not psutil.pid_exists(int(process)):
        return True
    with suppress(OSError):
        return time.time() - file.lstat().st_mtime > _UNTOUCHED_SECONDS
    return False
