"""Earlier versions of key frames: the pictures in history/ that newer ones replaced, and what is known of them.

A version is named by its file. When it was made is the file's own time, which moving it does not change; the rest is
what the manifest said of the key frame at that time. Versions of projects that noted nothing have no seed.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rerender.errors import UserError
from rerender.files import file_digest, replacing


@dataclass(frozen=True)
class Version:
    """An earlier version of a key frame.

    Attributes:
        name: of its file in history/.
        seed: that it was rendered with; None where that was not noted, or where it was not rendered here.
        time: when the picture was made, in seconds since 1970.
        edited: whether it was edited by hand after it was rendered.
        differs: settings (and model) of its rendering that are others now, with the values of then; None where they
            were not noted. See `rerender.recipes`.
    """

    frame: int
    name: str
    path: Path
    seed: int | None
    time: float
    edited: bool
    differs: dict[str, Any] | None = None

    @property
    def seed_in_words(self) -> str:
        """Such as "seed 3", "seed unknown"."""
        return "seed unknown" if self.seed is None else f"seed {self.seed}"


class History:
    """The folder history/ of a project.

    Args:
        records: what the manifest notes of each file, by its name; changed in place.
        differences: from a record, see `Version.differs`.
    """

    def __init__(
        self,
        folder: Path,
        records: dict[str, Any],
        differences: Callable[[dict[str, Any]], dict[str, Any] | None] = lambda record: None,
    ) -> None:
        self.folder, self.records, self.differences = folder, records, differences

    def keep(self, picture: Path, entry: dict[str, Any], *, copy: bool = False) -> None:
        """Take in the picture of a key frame, if there is one.

        Args:
            entry: what the manifest says of it.
            copy: leave it where it is, too.

        Raises:
            UserError: the folder cannot be written to.
        """
        if not picture.exists():
            return
        target = self._free(picture, str(entry.get("fingerprint", "unknown"))[:8])
        target.parent.mkdir(exist_ok=True)
        if copy:
            with replacing(target) as temporary:
                shutil.copy2(picture, temporary)
        else:
            picture.replace(target)
        if entry:
            self.records[target.name] = entry

    def forget(self, version: Version) -> dict[str, Any]:
        """Strike a version off the records; returns what they said of it, {} where they said nothing."""
        return dict(self.records.pop(version.name, {}))

    def versions(self, frame: int) -> list[Version]:
        """The earlier versions of a key frame, the newest first."""
        pattern = re.compile(rf"{frame:06d}\.[^.]{{1,8}}(-\d+)?\.png")
        paths = self.folder.iterdir() if self.folder.is_dir() else ()
        found = [self._version(frame, path) for path in paths if pattern.fullmatch(path.name) and path.is_file()]
        return sorted(found, key=lambda version: (version.time, version.name), reverse=True)

    def find(self, frame: int, name: str) -> Version:
        """One version by its name, which is looked up in the list and never made a path of.

        Raises:
            UserError: there is none of that name.
        """
        known = self.versions(frame)
        found = next((version for version in known if version.name == name), None)
        if found is not None:
            return found
        if not known:
            hint = "There is one for each time that it was rendered anew."
            raise UserError(f"Key frame {frame} has no earlier versions.", hint=hint)
        listed = ", ".join(version.name for version in known[:8]) + (" …" if len(known) > 8 else "")
        raise UserError(f"Key frame {frame} has no earlier version {name!r}.", hint=f"It has {listed}.")

    def _version(self, frame: int, path: Path) -> Version:
        record = self.records.get(path.name, {})
        edited = "sha256" in record and file_digest(path) != record["sha256"]
        differs = self.differences(record)
        return Version(frame, path.name, path, record.get("seed"), path.stat().st_mtime, edited, differs)

    def _free(self, picture: Path, mark: str) -> Path:
        target, number = self.folder / f"{picture.stem}.{mark}{picture.suffix}", 1
        while target.exists():
            number += 1
            target = target.with_name(f"{picture.stem}.{mark}-{number}{picture.suffix}")
        return target
