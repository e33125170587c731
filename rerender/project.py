"""The project folder: what was asked for, what is done, and which results are still valid.

    project.json       the manifest
    keys/000040.png    rendered key frames, named by the frame number in the source
    frames/000041.png  propagated frames
    state/             what the key frame stage needs to go on after a stop
    targets/000040.png what a key frame was pulled to where its references show it, for `inspect`
    history/           key frames that newer ones took the place of, see `rerender.history`

Results carry a fingerprint of everything they depend on. A result is valid when its fingerprint is the one that the
present settings would give; so a changed setting invalidates what depends on it and nothing else, and there is no
list of dependencies to keep up to date. The manifest is written after each result, atomically: a process that is
killed loses at most the result it was working on.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from rerender.errors import UserError
from rerender.files import file_digest, read_picture, remove_unfinished, storage_error, write_json, write_png
from rerender.history import History, Version
from rerender.recipes import differences, note_recipe
from rerender.settings import Settings, make_settings, schema

MANIFEST_VERSION = 1


@dataclass(frozen=True)
class KeyResult:
    """A key frame on disk.

    Attributes:
        references: frame numbers of the key frames "previous" and "anchor" it was held to; empty if there were none.
        visible: share of it that each of them shows, in [0, 1].
        seed: that it was rendered with; None where that was not noted, or where it was not rendered here.
        recipe: digest of the settings and model of its rendering; "" likewise. See `rerender.recipes`.
        brought_back: whether it is an earlier version, and stands for another rendering.
    """

    frame: int
    fingerprint: str
    sha256: str
    revision: int
    seconds: float
    references: dict[str, int] = field(default_factory=dict)
    visible: dict[str, float] = field(default_factory=dict)
    seed: int | None = None
    recipe: str = ""
    brought_back: bool = False


class Project:
    """A project folder and its manifest. Open it with `with Project(folder) as project:`; it is locked meanwhile.

    A folder that was made for it goes again where nothing came into it: a refused command leaves nothing behind.

    Raises:
        UserError: the folder is in use by another process, cannot be written to, or holds an unreadable manifest.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = FileLock(str(folder / ".lock"))
        self._manifest: dict[str, Any] = {}
        self._is_new = False

    def __enter__(self) -> Project:
        try:
            self._is_new = not self.folder.exists()
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise UserError(
                f"The project {self.folder} is in use by another process.",
                hint="Wait for it to finish, or choose another folder with --project.",
            ) from error
        except OSError as error:
            raise UserError(
                f"Cannot use the project folder {self.folder}: {error.strerror or error}.",
                hint="It lies beside the output: choose another --output, or another place for it with --project.",
            ) from error
        try:
            self._manifest = self._read()
            for name in (".", "keys", "frames", "state", "targets", "history"):
                remove_unfinished(self.folder / name)
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()
        if self._is_new and not self.path.exists():
            with contextlib.suppress(OSError):  # another process may have come to use it
                Path(self._lock.lock_file).unlink(missing_ok=True)
                self.folder.rmdir()

    @classmethod
    def as_it_is(cls, folder: Path) -> Project:
        """A project to look at, not to change: needs no lock, so that a run may be at work on it.

        Raises:
            UserError: there is no project in the folder, or its manifest cannot be read.
        """
        project = cls(folder)
        if not project.path.is_file():
            raise UserError(f"There is no project in {folder}.", hint="Name a folder that holds a project.json.")
        project._manifest = project._read()
        return project

    @property
    def path(self) -> Path:
        """The manifest file."""
        return self.folder / "project.json"

    def _read(self) -> dict[str, Any]:
        if not self.path.exists():
            return {"version": MANIFEST_VERSION, "settings": {}, "keys": {}, "intervals": {}, "stages": {}}
        try:
            manifest = json.loads(self.path.read_text(encoding="utf-8"))
            version = manifest["version"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"The manifest {self.path} cannot be read: {error}.",
                hint="Repair the file, or choose another folder with --project.",
            ) from error
        if version != MANIFEST_VERSION:
            raise UserError(f"The manifest {self.path} has version {version}; this program knows {MANIFEST_VERSION}.")
        return manifest

    def save(self) -> None:
        """Write the manifest."""
        write_json(self.path, self._manifest)

    # What was asked for

    @property
    def settings(self) -> Settings | None:
        """The settings of the last run, or None in a new project. Names that other versions knew are left out."""
        stored = self.stored_settings
        return make_settings({name: stored[name] for name in schema() if name in stored}) if stored else None

    @property
    def stored_settings(self) -> dict[str, Any]:
        """The settings of the last run as the manifest has them, {} in a new project."""
        return dict(self._manifest["settings"])

    @property
    def model(self) -> dict[str, str]:
        """Paths of the checkpoint and VAE of the last run."""
        return dict(self._manifest.get("model", {}))

    @property
    def source(self) -> dict[str, Any]:
        """Path, hash, size, rate and number of frames of the source, or {} in a new project."""
        return dict(self._manifest.get("source", {}))

    def check_source(self, sha256: str) -> None:
        """Refuse a source that is not the project's.

        Raises:
            UserError: the project belongs to another source; nothing was changed.
        """
        known = self.source
        if known and known["sha256"] != sha256:
            raise UserError(
                f"The project {self.folder} belongs to another source ({known['path']}).",
                hint="Choose another folder with --project; nothing was changed.",
            )

    def begin(self, source: dict[str, Any], settings: Settings, model: dict[str, str] | None = None) -> None:
        """Note what a run is asked for.

        Raises:
            UserError: the project belongs to another source.
        """
        self.check_source(source["sha256"])
        self._manifest["source"] = source
        self._manifest["settings"] = settings.dict()
        if model is not None:
            self._manifest["model"] = model
        self.save()

    def set_stage(self, stage: str, state: str) -> None:
        """Note the state of a stage ("running", "done") for whoever reads the manifest."""
        self._manifest["stages"][stage] = state
        self.save()

    @property
    def analysis(self) -> dict[str, Any]:
        """What the pass over the whole source found (cuts, motion), with its fingerprint."""
        return self._manifest.get("analysis", {})

    def set_analysis(self, analysis: dict[str, Any]) -> None:
        """Store what the pass over the whole source found."""
        self._manifest["analysis"] = analysis
        self.save()

    # Key frames

    def key_path(self, frame: int) -> Path:
        """Where the key frame of a source frame number is."""
        return self.folder / "keys" / f"{frame:06d}.png"

    def key(self, frame: int) -> KeyResult | None:
        """The key frame of a source frame number, or None where there is none on disk."""
        entry = self._manifest["keys"].get(str(frame))
        if entry is None or not self.key_path(frame).exists():
            return None
        return KeyResult(frame=frame, **entry)

    def key_picture(self, frame: int) -> np.ndarray:
        """The picture of a key frame, uint8 RGB (H, W, 3); it may have been edited by hand.

        Raises:
            UserError: there is none, or its file is damaged.
        """
        path = self.key_path(frame)
        if self.key(frame) is None:
            raise UserError(f"The key frame {path} does not exist.", hint="Run the stage keys first.")
        return read_picture(path)

    def add_key(
        self,
        frame: int,
        picture: np.ndarray,
        fingerprint: str,
        *,
        revision: int,
        seconds: float,
        references: dict[str, int] | None = None,
        visible: dict[str, float] | None = None,
        target: np.ndarray | None = None,
        seed: int | None = None,
        recipe: Mapping[str, Any] | None = None,
    ) -> None:
        """Store a rendered key frame; one that it replaces goes to history/.

        Args:
            references, visible, seed: see `KeyResult`.
            recipe: what it was rendered with, see `rerender.recipes`.
            target: the picture it was pulled to, uint8 RGB (H, W, 3), if there was one.
        """
        path = self.key_path(frame)
        if target is not None:
            write_png(self.target_path(frame), target)
        else:
            self.target_path(frame).unlink(missing_ok=True)
        self.history.keep(path, self._manifest["keys"].get(str(frame), {}))
        write_png(path, picture)
        self._manifest["keys"][str(frame)] = {
            "fingerprint": fingerprint,
            "sha256": file_digest(path),
            "revision": revision,
            "seconds": round(seconds, 3),
            "references": references or {},
            "visible": {name: round(share, 4) for name, share in (visible or {}).items()},
            "seed": seed,
            "recipe": note_recipe(self._manifest, recipe) if recipe else "",
        }
        self.save()

    def target_path(self, frame: int) -> Path:
        """Where the picture that a key frame was pulled to is."""
        return self.folder / "targets" / f"{frame:06d}.png"

    def revision(self, frame: int) -> int:
        """How often the key frame was asked to be redone."""
        return int(self._manifest.get("revisions", {}).get(str(frame), 0))

    def is_edited(self, frame: int) -> bool:
        """Whether the key frame on disk is not what was rendered."""
        result = self.key(frame)
        return result is not None and file_digest(self.key_path(frame)) != result.sha256

    def ask_redo(self, frame: int) -> None:
        """Have the key frame rendered anew, with another seed, by the next run of the stage keys.

        Asking again before that run has rendered it changes nothing: a command that was interrupted may be repeated.
        """
        result = self.key(frame)
        if result is None or result.revision != self.revision(frame):
            return
        revisions = self._manifest.setdefault("revisions", {})
        revisions[str(frame)] = self.revision(frame) + 1
        self.save()

    def take_back_redo(self, frame: int) -> None:
        """Let the key frame stay as it is, after `ask_redo`."""
        if self.revision(frame):
            self._manifest["revisions"][str(frame)] -= 1
            self.save()

    @property
    def history(self) -> History:
        """The earlier versions of key frames."""
        records = self._manifest.setdefault("history", {})
        return History(self.folder / "history", records, partial(differences, self._manifest))

    def bring_back(self, frame: int, name: str) -> Version:
        """Put an earlier version of a key frame in the place of the present one, which goes to history/.

        It is used as a picture that was edited by hand: it counts as what the present settings give, so nothing but the
        frames around it is made anew. A redo that was asked for and not rendered is taken back.

        Raises:
            UserError: there is no such version, or it has another size than the present one.
        """
        version, present = self.history.find(frame, name), self.key_path(frame)
        entry = self._manifest["keys"].get(str(frame))
        if entry is None:
            raise UserError(f"The project {self.folder} holds no key frame {frame}.", hint="Run the stage keys first.")
        _check_size(version, present)
        self.history.keep(present, entry, copy=True)
        self.save()  # should the process end here, the present one lies in history/, too, and nothing is lost
        sha256 = file_digest(version.path)
        try:
            version.path.replace(present)
        except OSError as error:
            raise storage_error(error, present) from error
        self._take_over(frame, entry, {"sha256": sha256, "seed": None, "recipe": "", **self.history.forget(version)})
        return version

    def _take_over(self, frame: int, entry: dict[str, Any], record: dict[str, Any]) -> None:
        """Note that the picture of a record stands for the rendering of an entry."""
        if "references" in record and record["references"] != entry.get("references"):
            self.target_path(frame).unlink(missing_ok=True)  # it was made of other references
        stands_for = {name: entry[name] for name in ("fingerprint", "revision")}
        self._manifest["keys"][str(frame)] = {**entry, **record, **stands_for, "brought_back": True}
        if self.revision(frame) > entry["revision"]:
            self._manifest["revisions"][str(frame)] = entry["revision"]
        self.save()

    # Propagated frames

    def frame_path(self, frame: int) -> Path:
        """Where the propagated picture of a source frame number is."""
        return self.folder / "frames" / f"{frame:06d}.png"

    def has_interval(self, name: str, fingerprint: str, frames: Sequence[int]) -> bool:
        """Whether the propagated frames of an interval are there and valid."""
        entry = self._manifest["intervals"].get(name)
        valid = entry is not None and entry["fingerprint"] == fingerprint
        return valid and all(self.frame_path(frame).exists() for frame in frames)

    def add_interval(self, name: str, fingerprint: str, *, seconds: float) -> None:
        """Note that all frames of an interval are written."""
        self._manifest["intervals"][name] = {"fingerprint": fingerprint, "seconds": round(seconds, 3)}
        self.save()

    def interval_seconds(self, name: str) -> float:
        """How long the propagation of an interval took."""
        return float(self._manifest["intervals"].get(name, {}).get("seconds", 0.0))

    # Output

    def output_fingerprint(self, output: Path) -> str | None:
        """Fingerprint of what was written to this place; None where the project has written nothing there."""
        place = str(output.resolve())
        outputs: dict[str, str] = self._manifest.get("outputs", {})
        last = self._manifest.get("output", {})  # all that earlier versions noted
        if place not in outputs and last and Path(last["path"]).resolve() == output.resolve():
            return str(last["fingerprint"])
        return outputs.get(place)

    def set_output(self, path: Path, fingerprint: str) -> None:
        """Note a finished file. A project may have several: as mp4, as webm, as pictures."""
        # Absolute: the same words in another working directory would be another, perhaps a precious file.
        place = str(path.resolve())
        self._manifest.setdefault("outputs", {})[place] = fingerprint
        self._manifest["output"] = {"path": place, "fingerprint": fingerprint}
        self.save()


def _check_size(version: Version, present: Path) -> None:
    old = read_picture(version.path).shape[:2]
    try:
        new = read_picture(present).shape[:2]
    except UserError:  # it was removed or is damaged: all the more reason to bring one back
        return
    if old != new:
        raise UserError(
            f"The version {version.name} has {old[1]}x{old[0]} pixels, the key frame now {new[1]}x{new[0]}.",
            hint="Run the key frames at that size again first.",
        )
