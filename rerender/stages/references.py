"""What reference frames leave on disk, so that a stopped run goes on with the same bytes.

Two files: the references as they were when the anchor was rendered, and what has been added since. The anchor's half is
written once for each anchor. The other half is written after a key frame only if rendering has taken long enough since
the last time that writing stays below a twentieth of it: features are hundreds of megabytes, for SDXL gigabytes, and a
quick GPU would otherwise wait for the disk at every key frame. A kill never loses more than that much rendering.
"""

from __future__ import annotations

import json
import logging
import time
from collections import ChainMap
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from safetensors import SafetensorError

from rerender.errors import RerenderError
from rerender.tensors import TensorFile, write_tensors
from rerender.translate import Translator

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

_RENDERING_TO_WRITING = 20
_Picture = Callable[[int], np.ndarray]


class ReferenceStore:
    """The two files of a project.

    Args:
        folder: of the project's `state`.
        clock: seconds, monotonic.
    """

    def __init__(self, folder: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self.anchor, self.since = folder / "anchor.safetensors", folder / "since-anchor.safetensors"
        self._clock = clock
        self._written = self._seconds = 0.0
        self._held = ""
        self._anchor_on_disk: str | None = None

    @property
    def is_due(self) -> bool:
        """Whether enough was rendered since the last time to write again."""
        return self._clock() - self._written >= _RENDERING_TO_WRITING * self._seconds

    def save(self, translator: Translator, after: str, anchor: str) -> None:
        """Store the references of `translator`.

        Args:
            after, anchor: fingerprints of the key frame that was rendered last, and of the anchor.

        Raises:
            UserError: the folder cannot be written to, or the device is full.
        """
        if after == self._held:
            return
        started = self._clock()
        if anchor != self._stored_anchor():
            tensors, meta = translator.anchor_state()
            write_tensors(self.anchor, tensors, _labels(anchor, anchor, meta))
            self._anchor_on_disk = anchor
        if after != anchor:
            tensors, meta = translator.state_since_anchor()
            write_tensors(self.since, tensors, _labels(after, anchor, meta))
        self._held, self._written = after, self._clock()
        self._seconds = self._written - started

    def load(self, translator: Translator, shot: Sequence[str], picture: _Picture) -> int:
        """Bring back the latest references of a shot that are stored.

        Args:
            shot: fingerprints of the shot's key frames up to the one that is needed.
            picture: the rendering on disk of a key frame, which counts: it may have been edited by hand since.

        Returns:
            How many of the shot's key frames are behind; 0 where nothing of it is stored.
        """
        with ExitStack() as files:
            anchor, since = (_open(path, files) for path in (self.anchor, self.since))
            if anchor is None:
                return 0
            stored = [anchor]
            if since is not None and since.anchor == anchor.after:
                stored.append(since)
            known = [state for state in stored if state.after in shot]
            if not known:
                return 0
            latest = known[-1]
            frames = {latest.meta["anchor"], latest.meta["previous"]}
            # A ChainMap's type wants mappings that can be written to; this one is only read.
            tensors = ChainMap(*(cast("MutableMapping[str, torch.Tensor]", state.tensors) for state in stored))
            try:
                translator.restore(tensors, latest.meta, pictures={frame: picture(frame) for frame in frames})
            except (RerenderError, SafetensorError, OSError) as error:
                logger.warning("The stored references cannot be used (%s); they are made anew.", error)
                translator.new_shot()
                return 0
        self._held = latest.after
        return shot.index(latest.after) + 1

    def _stored_anchor(self) -> str:
        if self._anchor_on_disk is None:
            with ExitStack() as files:
                found = _open(self.anchor, files)
                self._anchor_on_disk = found.after if found is not None else ""
        return self._anchor_on_disk


@dataclass(frozen=True)
class _Stored:
    tensors: TensorFile
    after: str
    anchor: str
    meta: Mapping[str, Any]


def _labels(after: str, anchor: str, meta: Mapping[str, Any]) -> dict[str, str]:
    return {"after": after, "anchor": anchor, "meta": json.dumps(meta)}


def _open(path: Path, files: ExitStack) -> _Stored | None:
    """A stored part; None where it is missing or damaged."""
    if not path.exists():
        return None
    try:
        tensors = files.enter_context(TensorFile(path))
        labels = tensors.metadata
        return _Stored(tensors, labels["after"], labels["anchor"], json.loads(labels["meta"]))
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        logger.warning("The stored references %s cannot be read (%s); they are made anew.", path, error)
        return None
