"""Fingerprints: what each result depends on, as one short hash.

A key frame depends on the key frames before it in its shot, so its fingerprint contains theirs: the chain is exact
without any list of dependencies. Propagated frames depend on the *content* of their two key frames, so a key frame
that was redone or edited by hand reaches exactly the frames around it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rerender.files import digest
from rerender.planning import Interval, Plan
from rerender.settings import Settings, flow_of_propagation, frame_seed, schema, values_up_to

METHOD_VERSION = 4
"""Part of each fingerprint: to be raised when the same settings give another picture than before."""

PROPAGATION_VERSION = 4
"""Part of the fingerprints of intervals alone: key frames are kept when only propagation gives another picture."""

MASK_VERSION = 1
"""As METHOD_VERSION, but part of the fingerprints of masked key frames behind an anchor alone."""


_RECORDED = ("attention", "attention_start", "attention_end", "attention_layers", "period_unit")


def key_fingerprints(
    plan: Plan,
    settings: Settings,
    model: Callable[[str], Mapping[str, str]],
    revision: Callable[[int], int],
    prompt: Callable[[int], str] | None = None,
) -> dict[int, str]:
    """Fingerprint of every key frame of the plan, by frame number.

    Args:
        model: identity of checkpoint, VAE, and the LoRA files that a prompt names.
        revision: how often a key frame was asked to be redone. A redone anchor changes its whole shot; another key
            frame changes nothing but itself, so its revision is no part of the chain.
        prompt: of each frame, where the prompt changes along the clip: the others' prompts are no part of it.
    """
    source = [METHOD_VERSION, *_pixels(plan)]
    first, later = values_up_to(settings, "first"), values_up_to(settings, "keys")
    masked = [MASK_VERSION] if plan.mask is not None else []
    prints: dict[int, str] = {}
    for shot in plan.shots:
        anchor = shot[0]
        own = _prompted(first, anchor, prompt)
        own["seed"] = frame_seed(settings, anchor)  # an anchor behind frame 0 depends on the seed mode too
        previous = digest([source, dict(model(own["prompt"])), own, anchor, revision(anchor)])
        prints[anchor] = previous
        for frame in shot[1:]:
            own = _prompted(later, frame, prompt)
            files = [] if prompt is None else [dict(model(own["prompt"]))]
            previous = digest([prints[anchor], previous, own, frame, *masked, *files])
            prints[frame] = previous
    return prints


def _prompted(values: Mapping[str, Any], frame: int, prompt: Callable[[int], str] | None) -> dict[str, Any]:
    """Settings with the prompt that a frame has in place of all of them."""
    return dict(values) if prompt is None else {**values, "prompt": prompt(frame), "prompt_timeline": ""}


def reference_fingerprint(key: str, settings: Settings, seeds: Sequence[int | None] = ()) -> str:
    """What the reference of a key frame depends on, of which its picture is a part.

    The first key frame of a shot is sampled without constraints, but what is kept of it is what attention will need.

    Args:
        key: fingerprint of the key frame.
        seeds: where the shot's first key frame, or this one, was brought back: the offsets of their seeds; else None.
    """
    recorded = [getattr(settings, name) for name in _RECORDED]
    return digest([key, recorded, *([list(seeds)] if any(seed is not None for seed in seeds) else [])])


def interval_fingerprint(
    plan: Plan, settings: Settings, interval: Interval, ends: tuple[str | None, str | None]
) -> str:
    """Fingerprint of the propagated frames of one interval. ends: content hashes of its two key frames."""
    where = [list(interval.frames), list(interval.cuts)]
    own = {**_own(settings, "propagate"), "propagation_flow": flow_of_propagation(settings)}
    return digest([METHOD_VERSION, PROPAGATION_VERSION, *_pixels(plan), where, list(ends), own])


def output_fingerprint(plan: Plan, settings: Settings, parts: list[str]) -> str:
    """Fingerprint of the finished file. parts: fingerprints of the intervals and content hashes of the key frames."""
    times = [str(time) for time in plan.selection.times]
    return digest([METHOD_VERSION, plan.source_hash, times, parts, _own(settings, "output")])


def _pixels(plan: Plan) -> list[Any]:
    """What decides the source's pixels at the working size, and which of them are restyled."""
    geometry = [plan.geometry.box, plan.geometry.width, plan.geometry.height]
    return [plan.source_hash, geometry, *([plan.mask.fingerprint] if plan.mask is not None else [])]


def _own(settings: Settings, stage: str) -> dict[str, Any]:
    return {name: getattr(settings, name) for name, info in schema().items() if info.stage == stage}
