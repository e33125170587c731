"""One direction of an interval: from its key frame through the frames, each started from the one before."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from rerender.arrays import Array, namespace
from rerender.propagate.attachment import shared_motion
from rerender.propagate.backend import Backend
from rerender.propagate.follow import Key, sample_picture, trust_in_flow
from rerender.propagate.guides import Input, frame_guides, pixel_grid, places_of
from rerender.propagate.settings import PropagationSettings
from rerender.propagate.steps import Step

_AROUND = 7  # pixels synthesised around those that are wanted, so that patches there see the same things


@dataclass(frozen=True)
class Swept:
    """A frame as one direction gives it.

    Attributes:
        picture: (H, W, 3) uint8.
        error: (H, W) float32, of the synthesis; 0 where none was needed.
        trust: (H, W) float32 in [0, 1]: share of the key's picture, followed along the flow; the rest is synthesised.
        seen: (H, W) float32 in [0, 1]: whether a pixel has been visible in all frames since the key.
        detail: (H, W) float32, energy of fine detail at the places in the key that the picture comes from.
    """

    picture: Array
    error: Array
    trust: Array
    seen: Array
    detail: Array


@dataclass(frozen=True)
class _Carried:
    """What the frame before hands on, brought here along the flow, holes filled.

    Attributes:
        to_key: (H, W, 2) float32, flow to the key frame.
        picture: (H, W, 3) float32, the result.
        field: (H, W, 2) int32, the matches.
        seen: (H, W) float32 in [0, 1], whether a pixel has been visible since the key frame.
        surface: (H, W, 3) float32: `to_key` and `seen` of what lies at a pixel; the others are those of what is drawn
            there, which may belong to an object beside it.
    """

    to_key: Array
    picture: Array
    field: Array
    seen: Array
    surface: Array


@dataclass(frozen=True)
class _Followed:
    """The key's picture along the flow.

    Attributes:
        picture: (H, W, 3) float32.
        trust: (H, W) float32 in [0, 1].
        field: (H, W, 2) int32, where the matches are to be looked for.
    """

    picture: Array
    trust: Array
    field: Array


@dataclass(frozen=True)
class State:
    """How far a sweep has come: all that the next frame is made from, beside the key frame.

    Attributes:
        result: the frame that was made last.
        field: (H, W, 2) int32, its matches.
        surface: (H, W, 3) float32, of what lies at each pixel the flow to the key frame and visibility.
    """

    result: Swept
    field: Array
    surface: Array


@dataclass(frozen=True)
class _Means:
    """What every frame of a sweep is made with."""

    settings: PropagationSettings
    backend: Backend


def sweep(
    frame: Array,
    picture: Array,
    path: Iterable[tuple[Array, Step | None]],
    settings: PropagationSettings,
    backend: Backend,
    start: State | None = None,
) -> Iterator[State]:
    """Yield the frames of a path in the style of a key frame, each with what it takes to go on from there.

    Args:
        frame: (H, W, 3) uint8, the input of the key frame.
        picture: (H, W, 3) uint8, the key frame.
        path: the frames after it, or after that of `start`, (H, W, 3) uint8, in the order of the sweep; and what leads
            to each from the one before, None across a scene cut.
        settings: weights and effort.
        backend: where the work is done.
        start: where to go on; None is at the key frame.
    """
    means = _Means(settings, backend)
    key, at_key = backend.run(_at_key, frame, picture)
    state = start or at_key
    del start, at_key
    for frame, step in path:
        key = backend.here(key)
        state = backend.run(_advance, key, state, frame, step, means)
        yield state


def _at_key(frame: Array, picture: Array) -> tuple[Key, State]:
    xp, (height, width) = namespace(frame), frame.shape[:2]
    nothing = xp.zeros((height, width), xp.float32)
    field = xp.astype(xp.constant(pixel_grid, height, width), xp.int32)
    key = Key.of(frame, picture)
    start = Swept(picture, nothing, nothing + 1, nothing + 1, key.detail)
    return key, State(start, field, _surface(xp.zeros((height, width, 2), xp.float32), start.seen))


def _advance(key: Key, state: State, frame: Array, step: Step | None, means: _Means) -> State:
    here = Input.of(frame)
    if step is None or not means.settings.temporal:
        return _start_anew(key, here, means)
    carried = _carry(state, step)
    if means.settings.outline_weight > 0:
        carried = _attach(key, here, carried, state, step)
    return _go_on(key, carried, here, means)


def _start_anew(key: Key, here: Input, means: _Means) -> State:
    """A frame that no flow connects with the key."""
    xp, shape = namespace(here.frame), here.frame.shape[:2]
    guides = frame_guides(means.settings, key.input, key.picture, here, None, None)
    made = means.backend.synthesize(key.picture, guides, None, None)
    nothing = xp.zeros(shape, xp.float32)
    to_key = made.nnf - xp.constant(pixel_grid, *shape)
    detail = xp.sample(key.detail, made.nnf, "nearest")
    return State(Swept(made.picture, made.error, nothing, nothing, detail), made.nnf, _surface(to_key, nothing))


def _go_on(key: Key, carried: _Carried, here: Input, means: _Means) -> State:
    """Follow the key's picture where that can be trusted, and synthesise the rest."""
    xp = namespace(here.frame)
    followed = _follow(key, carried, here, means.settings)
    picture, error, field = _fill_in(key, carried, followed, here, means)
    detail = _detail(key, carried, followed.trust, field)
    result = Swept(xp.astype(xp.rint(picture), xp.uint8), error, followed.trust, carried.seen, detail)
    return State(result, field, carried.surface)


def _detail(key: Key, carried: _Carried, trust: Array, field: Array) -> Array:
    """Energy of the key's fine detail where the flow leads, and where the matches do, mixed by trust; (H, W)."""
    xp = namespace(field)
    followed, matched = (xp.sample(key.detail, places, "nearest") for places in (places_of(carried.to_key), field))
    return matched + trust * (followed - matched)


def _follow(key: Key, carried: _Carried, here: Input, settings: PropagationSettings) -> _Followed:
    xp, places = namespace(here.frame), places_of(carried.to_key)
    if settings.follow:
        trust = trust_in_flow(key, here, places, carried.seen, outlines=settings.outline_weight > 0)
    else:
        trust = xp.zeros(carried.seen.shape, xp.float32)
    guess = xp.astype(xp.rint(places), xp.int32)
    field = xp.where((trust < 1)[..., None], carried.field, guess)
    return _Followed(sample_picture(key, places), trust, field)


def _fill_in(
    key: Key, carried: _Carried, followed: _Followed, here: Input, means: _Means
) -> tuple[Array, Array, Array]:
    """Picture (float32), error and field, with what cannot be followed synthesised and mixed in."""
    xp, wanted = namespace(here.frame), followed.trust < 1
    if not xp.perhaps_any(wanted):
        return followed.picture, xp.zeros(wanted.shape, xp.float32), followed.field
    mask = xp.dilate(wanted, _AROUND)
    guides = frame_guides(means.settings, key.input, key.picture, here, carried.to_key, carried.picture)
    made = means.backend.synthesize(key.picture, guides, followed.field, mask)
    picture = made.picture + followed.trust[..., None] * (followed.picture - made.picture)
    return picture, made.error, xp.where(mask[..., None], made.nnf, followed.field)


def _carry(state: State, step: Step) -> _Carried:
    xp, flow = namespace(step.flow), step.flow
    to_key = flow + xp.warp(xp.contiguous(state.surface[..., :2]), flow)
    picture = xp.warp(xp.astype(state.result.picture, xp.float32), flow)
    filled = step.filling.of(xp.concat([to_key, picture], 2))
    to_key, picture = xp.contiguous(filled[..., :2]), filled[..., 2:]
    guess = xp.astype(xp.rint(places_of(to_key)), xp.int32)
    field = xp.where(step.holes[..., None], guess, xp.warp(state.field, flow, mode="nearest"))
    seen = xp.where(step.holes, 0.0, xp.warp(xp.contiguous(state.surface[..., 2]), flow))
    return _Carried(to_key, picture, field, seen, _surface(to_key, seen))


def _attach(key: Key, here: Input, carried: _Carried, state: State, step: Step) -> _Carried:
    """Carry along the motion of a neighbour what is drawn at a pixel and belongs to that neighbour."""
    xp = namespace(step.flow)
    holes = xp.astype(step.holes, xp.float32)[..., None]
    motion, moved = shared_motion(key.input, here, xp.concat([carried.surface, step.flow, holes], 2))
    to_key, flow = xp.contiguous(motion[..., :2]), xp.contiguous(motion[..., 3:5])
    known = (moved & (motion[..., 5] < 0.5))[..., None]
    picture = xp.where(known, xp.warp(xp.astype(state.result.picture, xp.float32), flow), carried.picture)
    field = xp.where(known, xp.warp(state.field, flow, mode="nearest"), carried.field)
    return _Carried(to_key, picture, field, motion[..., 2], carried.surface)


def _surface(to_key: Array, seen: Array) -> Array:
    return namespace(to_key).concat([to_key, seen[..., None]], 2)
