"""Output as numbered PNG pictures in a folder."""

from __future__ import annotations

import re
import shutil
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image

from rerender.video.output import Writer, temporary_beside

PATTERN = re.compile(r"%0?(\d*)d(?=\.png$)", re.IGNORECASE)
DEFAULT_NAME = "%06d.png"


def _folder_and_name(path: Path) -> tuple[Path, str]:
    return (path.parent, path.name) if PATTERN.search(path.name) else (path, DEFAULT_NAME)


def pictures_at(path: Path) -> list[Path]:
    """Pictures that an output to `path`, a folder or a name like frames/%06d.png, would replace or remove."""
    folder, name = _folder_and_name(path)
    before, after = PATTERN.split(name)[0], ".png"
    files = (file for file in folder.iterdir() if file.name.lower().endswith(after))
    stems = ((file, file.name[len(before) : -len(after)]) for file in files if file.name.startswith(before))
    return sorted(file for file, stem in stems if stem.isdecimal())


class PictureWriter(Writer):
    """Writes PNGs, numbered from 0, to a hidden folder inside the target and moves them up at the end.

    Pictures that an earlier output of the same name pattern left there are replaced, those with higher numbers
    removed, so that two clips never mix; other files in the folder stay.
    """

    def __init__(self, path: Path, size: tuple[int, int]) -> None:
        super().__init__(path, size)
        self._folder, self._name = _folder_and_name(path)
        self._old = pictures_at(path)
        self._temporary = temporary_beside(self._folder / "pictures")
        self._temporary.mkdir()

    def _write(self, frame: np.ndarray, time: Fraction, duration: Fraction) -> None:
        Image.fromarray(frame).save(self._temporary / (self._name % self._count), compress_level=4)

    def _finish(self) -> None:
        for path in sorted(self._temporary.iterdir()):
            path.replace(self._folder / path.name)
        written = {self._name % number for number in range(self._count)}
        for path in self._old:
            if path.name not in written:
                path.unlink()

    def _discard(self) -> None:
        shutil.rmtree(self._temporary, ignore_errors=True)
