"""Key frames one after the other, each held to the anchor and to the one before it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from rerender.diffusion.bank import FeatureSlot
from rerender.errors import RerenderError
from rerender.host import Host, OnStep, RenderRequest
from rerender.motion.flow import FlowEstimator
from rerender.settings import Settings, frame_seed
from rerender.translate.ahead import Ahead
from rerender.translate.frames import KeyFrame, Link, Reference
from rerender.translate.rendering import Rendering
from rerender.translate.state import VERSION, Tensors, check_version, pack, unpack
from rerender.translate.timeline import parse_timeline, prompt_at
from rerender.translate.tracks import Tracks

Cancelled = Callable[[], bool]
Upcoming = Iterable[tuple[int, np.ndarray]]


class Translator:
    """Renders the key frames of a clip, in order, shot by shot. Use it as a context manager: it holds much memory.

    Args:
        host: renders single pictures.
        settings: of the run, with a seed that is drawn already (not -1).
        estimator: optical flow between source frames.

    Raises:
        UserError: the prompt timeline cannot be read.
    """

    def __init__(self, host: Host, settings: Settings, estimator: FlowEstimator) -> None:
        parse_timeline(settings.prompt_timeline)
        self.host, self.settings, self.estimator = host, settings, estimator
        self._anchor: Reference | None = None
        self._previous: Reference | None = None
        self._spare: FeatureSlot | None = None
        self._tracks = Tracks(estimator)
        self._ahead = Ahead()
        self._keys = self._keys_at_anchor = 0
        self._torn = False
        self.bank_size = 0
        """Bytes that the references' features take at most, from the first key frame of a shot on."""

    def __enter__(self) -> Translator:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give all memory back; the same as `new_shot`."""
        self.new_shot()

    def new_shot(self) -> None:
        """Forget all references; the next key frame is a new anchor."""
        self._ahead.abandon()
        for slot in self._slots():
            slot.clear()
        self._anchor = self._previous = self._spare = None
        self._tracks.keep()
        self._torn = False

    @property
    def reached(self) -> int | None:
        """Source frames behind this one are to be given to `follow` before the next `render_next`; None: none yet."""
        self._ahead.settle()
        return self._tracks.reached

    def follow(self, index: int, picture: np.ndarray) -> None:
        """Take note of a source frame between key frames, so that motion is followed through it.

        Not required, but over long distances flow is far better for it.

        Args:
            index: frame number in the source; ascending.
            picture: source frame, uint8 RGB (H, W, 3).
        """
        self._ahead.settle()
        self._tracks.follow(index, picture)

    @property
    def bank_is_on_host(self) -> bool:
        """Whether the features lie in main memory beside a GPU."""
        return any(slot.on_host for slot in self._slots())

    @property
    def feature_bytes(self) -> int:
        """Bytes that the reference bank holds."""
        return sum(slot.nbytes for slot in self._slots())

    def render_first(
        self,
        index: int,
        picture: np.ndarray,
        *,
        mask: np.ndarray | None = None,
        seed_offset: int = 0,
        on_step: OnStep | None = None,
        cancelled: Cancelled | None = None,
        upcoming: Upcoming | None = None,
    ) -> KeyFrame:
        """Render the first key frame of a shot: plain img2img, recorded. It becomes anchor and previous.

        Args:
            index: frame number in the source.
            picture: source frame, uint8 RGB (H, W, 3), sides multiples of 8.
            mask: float32 (H, W) in [0, 1], 1 where the style goes; elsewhere the source stays. None is everywhere.
            seed_offset: added to the seed, to get another picture.
            upcoming: (frame number, source frame) of the frames up to the next key frame, it included. They are read
                and followed in a thread while the model samples, instead of by `follow`; no byte depends on it. What
                goes wrong there is raised by the next call that needs the motion. Beyond what is kept anyway that
                takes the next key frame's flow and masks, at most 2 × 13 bytes a pixel.

        Raises:
            Interrupted: `cancelled` said yes.
            UserError: the host refuses a setting.
        """
        self.new_shot()
        started = time.perf_counter()
        record = FeatureSlot(self.host.device)
        rendering = self._rendering(index, picture, mask, seed_offset, [], record, is_anchor=True)
        self._tracks.begin(index, picture)
        self._run(rendering, on_step, cancelled, upcoming)
        self._anchor = self._previous = rendering.as_reference()
        self.bank_size = rendering.bank_size
        self._keys = self._keys_at_anchor = 1
        return _finish(rendering, started, is_anchor=True)

    def render_next(
        self,
        index: int,
        picture: np.ndarray,
        *,
        mask: np.ndarray | None = None,
        seed_offset: int = 0,
        on_step: OnStep | None = None,
        cancelled: Cancelled | None = None,
        upcoming: Upcoming | None = None,
    ) -> KeyFrame:
        """Render a further key frame of the shot, under all constraints that are switched on. It becomes previous.

        It becomes the anchor as well if it shows too little of the old one (reanchor_below): its colours were
        matched to the old anchor's, so they carry over.

        Arguments and errors as for `render_first`; after an error, call `restore` or begin a new shot.
        """
        anchor, previous = self._references()
        started = time.perf_counter()
        self.follow(index, picture)
        links = self._links(anchor, previous)
        seconds = time.perf_counter() - started
        visible = {"previous": links[0].visible_share(mask), "anchor": links[-1].visible_share(mask)}
        is_anchor = visible["anchor"] < self.settings.reanchor_below
        record = self._slot_to_record(is_anchor)
        rendering = self._rendering(index, picture, mask, seed_offset, links, record, is_anchor=is_anchor)
        rendering.cost.flow_seconds = seconds
        self._torn = True  # features of the previous frame are replaced one by one
        self._tracks.keep(*(() if is_anchor else (anchor.index,)))
        self._tracks.begin(index, picture)
        self._run(rendering, on_step, cancelled, upcoming)
        self._torn = False
        self._advance(rendering.as_reference(), is_anchor)
        references = {"previous": previous.index, "anchor": anchor.index}
        return _finish(rendering, started, is_anchor=is_anchor, references=references, visible=visible)

    def adopt(self, index: int, picture: np.ndarray) -> None:
        """Take `picture` as the rendering of reference frame `index`, where it is one; for keys edited by hand."""
        for reference in {id(r): r for r in (self._anchor, self._previous) if r is not None}.values():
            if reference.index == index:
                reference.picture = picture

    @property
    def references(self) -> tuple[int, int] | None:
        """Frame numbers of anchor and previous; None where there are none, or a rendering was broken off."""
        if self._torn or self._anchor is None or self._previous is None:
            return None
        return self._anchor.index, self._previous.index

    def state(self) -> tuple[Tensors, dict[str, Any]]:
        """Everything the next key frame depends on: tensors, and values that JSON can hold.

        The tensors are the translator's own, where they lie: store them before the next key frame is rendered.

        Raises:
            RerenderError: there are no references, or a rendering was broken off.
        """
        tensors, meta = self.anchor_state()
        since, later = self.state_since_anchor()
        return tensors | since, later or meta

    def anchor_state(self) -> tuple[Tensors, dict[str, Any]]:
        """`state` as it was when the anchor had just become the anchor: a part of every later one."""
        anchor, _ = self._references()
        return pack("anchor", anchor, features=True), self._meta(anchor, self._keys_at_anchor)

    def state_since_anchor(self) -> tuple[Tensors, dict[str, Any]]:
        """The tensors that `state` has beside those of `anchor_state`, and its values; nothing just after an anchor."""
        anchor, previous = self._references()
        if previous is anchor:
            return {}, {}
        shared = previous.features is anchor.features
        return pack("previous", previous, features=not shared), self._meta(previous, self._keys)

    def _meta(self, previous: Reference, keys: int) -> dict[str, Any]:
        anchor, _ = self._references()
        return {
            "version": VERSION,
            "anchor": anchor.index,
            "previous": previous.index,
            "shared_features": previous.features is anchor.features,
            "keys_at_anchor": self._keys_at_anchor,
            "keys": keys,
        }

    def restore(
        self,
        tensors: Mapping[str, Any],
        meta: Mapping[str, Any],
        *,
        pictures: Mapping[int, np.ndarray] | None = None,
        sources: Mapping[int, np.ndarray] | None = None,
    ) -> None:
        """Go on from what `state` returned.

        The frames behind `reached` are to be given to `follow` again.

        Args:
            pictures, sources: renderings and source frames by frame number, which take the place of the stored ones.

        Raises:
            RerenderError: the state is incomplete or of another version.
        """
        check_version(meta)
        self.new_shot()
        device = self.host.device
        anchor = unpack("anchor", meta["anchor"], tensors, features=None, new_slot=self._new_slot, device=device)
        previous = anchor
        if meta["previous"] != meta["anchor"]:
            shared = anchor.features if meta["shared_features"] else None
            previous = unpack(
                "previous", meta["previous"], tensors, features=shared, new_slot=self._new_slot, device=device
            )
        for reference in (anchor, previous):
            reference.picture = (pictures or {}).get(reference.index, reference.picture)
            reference.source = (sources or {}).get(reference.index, reference.source)
        self._anchor, self._previous = anchor, previous
        self._keys, self._keys_at_anchor = int(meta["keys"]), int(meta["keys_at_anchor"])
        self._track_references()

    def _references(self) -> tuple[Reference, Reference]:
        if self._torn:
            raise RerenderError("A rendering was broken off; restore the references or begin a new shot.")
        if self._anchor is None or self._previous is None:
            raise RerenderError("A shot begins with render_first.")
        return self._anchor, self._previous

    def _links(self, anchor: Reference, previous: Reference) -> list[Link]:
        """Previous, then anchor, each once."""
        references = [anchor] if previous is anchor else [previous, anchor]
        return [Link(each, self._tracks.correspond(each.index)) for each in references]

    def _track_references(self) -> None:
        anchor, previous = self._references()
        self._tracks.keep(anchor.index, previous.index)
        for reference in (anchor, previous):
            self._tracks.begin(reference.index, reference.source)

    def _rendering(
        self,
        index: int,
        picture: np.ndarray,
        mask: np.ndarray | None,
        seed_offset: int,
        links: list[Link],
        record: FeatureSlot | None,
        *,
        is_anchor: bool,
    ) -> Rendering:
        request = request_for(self.settings, index, picture, seed_offset)
        return Rendering(self.host, self.settings, index, request, links, record, mask, is_anchor=is_anchor)

    def _run(
        self, rendering: Rendering, on_step: OnStep | None, cancelled: Cancelled | None, upcoming: Upcoming | None
    ) -> None:
        """Sample, while the frames up to the next key frame are followed."""
        if upcoming is not None:
            self._ahead.start(partial(self._follow_all, upcoming))
        try:
            rendering.run(on_step, cancelled)
        except BaseException:
            self._ahead.abandon()
            self._tracks.keep()
            raise

    def _follow_all(self, upcoming: Upcoming, stopped: Cancelled) -> None:
        for index, picture in upcoming:
            if stopped():
                return
            self._tracks.follow(index, picture)
        self._tracks.prepare()

    def _slot_to_record(self, is_anchor: bool) -> FeatureSlot | None:
        """Where the features of the next key frame go: in place of the previous one's, a new anchor's in the old one's.

        So the bank never exceeds its bound: an anchor's features may be larger than those of others.
        """
        settings = self.settings
        wanted = settings.attention_references != "anchor" and self._keys % settings.attention_update_every == 0
        if not settings.attention or not (wanted or is_anchor):
            return None
        anchor, previous = self._references()
        if is_anchor:
            return anchor.features
        if previous.features is not anchor.features:
            return previous.features
        if self._spare is None:
            self._spare = self._new_slot()
        return self._spare

    def _advance(self, reference: Reference, is_anchor: bool) -> None:
        _, previous = self._references()
        recorded = reference.features
        if recorded is self._spare:
            self._spare = None
        if not len(recorded):
            reference.features = previous.features
        self._keys += 1
        if is_anchor:
            if previous.features is not reference.features:
                self._spare = previous.features
            self._anchor, self._keys_at_anchor = reference, self._keys
        self._previous = reference

    def _new_slot(self) -> FeatureSlot:
        anchor = self._anchor
        on_host = anchor is not None and anchor.features.on_host
        return FeatureSlot(self.host.device, "host" if on_host else "device")

    def _slots(self) -> list[FeatureSlot]:
        slots = [reference.features for reference in (self._anchor, self._previous) if reference is not None]
        slots += [self._spare] if self._spare is not None else []
        return list({id(slot): slot for slot in slots}.values())


def request_for(settings: Settings, index: int, picture: np.ndarray, seed_offset: int = 0) -> RenderRequest:
    """The img2img rendering of one key frame."""
    return RenderRequest(
        picture=picture,
        prompt=prompt_at(parse_timeline(settings.prompt_timeline), index, settings.prompt),
        negative_prompt=settings.negative_prompt,
        sampler=settings.sampler,
        scheduler=settings.scheduler,
        steps=settings.steps,
        cfg_scale=settings.cfg_scale,
        denoising_strength=settings.denoising_strength,
        seed=frame_seed(settings, index, seed_offset),
        clip_skip=settings.clip_skip,
    )


def _finish(rendering: Rendering, started: float, **facts: Any) -> KeyFrame:
    rendering.cost.total_seconds = time.perf_counter() - started
    return replace(rendering.as_key_frame(), **facts)
