"""Files that are either whole or absent: atomic writes, digests, pictures."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import secrets
import shutil
from argparse import ArgumentTypeError
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from rerender.errors import UserError
from rerender.pictures import UNREADABLE, load_rgb


def typed_path(text: str) -> Path:
    """A path as somebody typed it, "~" being the home folder; for argparse.

    Raises:
        ArgumentTypeError: it is empty, as an unset variable of a script is; it would stand for the working directory.
    """
    if not text.strip():
        raise ArgumentTypeError("the path is empty")
    return Path(text).expanduser()


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; when the block ends well it takes the place of `path` in one step.

    Raises:
        UserError: the folder cannot be written to, or the device is full. `path` is then as it was.
    """
    temporary = path.with_name(f".{path.stem[:40]}.{secrets.token_hex(4)}.tmp{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch(exist_ok=False)  # not by tempfile: that would hide the result from other users
        yield temporary
        _sync(temporary)
        temporary.replace(path)
    except OSError as error:
        raise storage_error(error, path) from error
    finally:
        with contextlib.suppress(OSError):  # where the folder itself was refused there is nothing to remove
            temporary.unlink(missing_ok=True)


_UNFINISHED = re.compile(r"\..*\.[0-9a-f]{8}\.tmp(\.\w+)?")
"""Names that `replacing` gives."""


def remove_unfinished(folder: Path) -> None:
    """Remove what `replacing` left in a folder when its process was killed; only for whoever alone writes there."""
    if not folder.is_dir():
        return
    for path in folder.iterdir():
        if _UNFINISHED.fullmatch(path.name):
            with contextlib.suppress(OSError):
                path.unlink()


def _sync(path: Path) -> None:
    """Let the data reach the disk before the rename does, so that a crash leaves the old file or the new one."""
    handle = os.open(path, os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def storage_error(error: OSError, path: Path) -> UserError:
    """The message for a full device, a missing permission, or another refusal of the file system."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        folder = next(p for p in (path.parent, *path.parents) if p.exists())
        free = shutil.disk_usage(folder).free / 2**20
        return UserError(
            f"No space left for {path} ({free:.0f} MB free).",
            hint="Free some space and run the same command again: everything finished so far is kept.",
        )
    reason = error.strerror or str(error)
    return UserError(f"Cannot write {path}: {reason}.", hint="Choose a folder that you may write to.")


def write_json(path: Path, document: Any) -> None:
    """Write a JSON document atomically."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def write_png(path: Path, picture: np.ndarray) -> None:
    """Write a uint8 RGB picture (H, W, 3) losslessly and atomically."""
    with replacing(path) as temporary:
        Image.fromarray(picture).save(temporary, format="PNG", compress_level=1)


def read_picture(path: Path) -> np.ndarray:
    """Read a picture file as uint8 RGB (H, W, 3).

    Raises:
        UserError: the file is missing or not a picture.
    """
    try:
        return load_rgb(path)
    except FileNotFoundError as error:
        raise UserError(f"The picture {path} does not exist.") from error
    except UNREADABLE as error:
        raise UserError(f"The picture {path} cannot be read: {error}.", hint="Remove or replace the file.") from error


def digest(document: Any) -> str:
    """A short hash of JSON values, equal for equal values."""
    text = json.dumps(document, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def file_digest(path: Path) -> str:
    """sha256 of a file's content, in hex."""
    with path.open("rb") as file:
        value = hashlib.sha256()
        while block := file.read(1 << 20):
            value.update(block)
    return value.hexdigest()
