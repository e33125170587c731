"""Output as numbered PNG pictures in a folder."""

from __future__ import annotations

import re
import shutil
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image

from rerender.errors import UserError
from rerender.video.output import Writer, temporary_beside

PATTERN = re.compile(r"%0?(\d*)d(?=\.png$)", re.IGNORECASE)
DEFAULT_NAME = "%06d.png"


class PictureWriter(Writer):
    """Writes PNGs, numbered from 0, to a hidden folder inside the target and moves them up at the end.

    Pictures that an earlier output of the same name pattern left there are replaced, those with higher numbers
    removed, so that two clips never mix; other files in the folder stay.
    """

    def __init__(self, path: Path, size: tuple[int, int], overwrite: bool) -> None:
        super().__init__(path, size)
        has_pattern = bool(PATTERN.search(path.name))
        self._folder = path.parent if has_pattern else path
        self._name = path.name if has_pattern else DEFAULT_NAME
        self._old = self._matching()
        if self._old and not overwrite:
            raise UserError(
                f"The output folder {self._folder} has pictures like {self._old[0].name} already.",
                hint="Choose another folder, or allow them to be replaced (--overwrite).",
            )
        self._temporary = temporary_beside(self._folder / "pictures")
        shutil.rmtree(self._temporary, ignore_errors=True)
        self._temporary.mkdir()

    def _matching(self) -> list[Path]:
        """Pictures in the folder whose names follow the pattern."""
        before, after = PATTERN.split(self._name)[0], ".png"
        files = (path for path in self._folder.iterdir() if path.name.lower().endswith(after))
        stems = ((path, path.name[len(before) : -len(after)]) for path in files if path.name.startswith(before))
        return sorted(path for path, stem in stems if stem.isdecimal())

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
