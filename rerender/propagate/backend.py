"""Where an interval is computed, chosen once for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from rerender.propagate.arrays import Array
from rerender.propagate.cuda import choose_synthesis
from rerender.propagate.problem import EFFORTS, Guide
from rerender.propagate.settings import PropagationSettings
from rerender.propagate.synthesis import Synthesis

_WARM_LEVELS = 3

Result = TypeVar("Result")


class Backend:
    """A place to work at, and the synthesis there, with the settings bound.

    Raises:
        UserError: they insist on CUDA, and it cannot be used.
    """

    def __init__(self, settings: PropagationSettings) -> None:
        self._synthesize, self._settings = choose_synthesis(settings.device), settings

    def run(self, work: Callable[..., Result], *arguments: Any) -> Result:
        """Return work(*arguments), with the arrays among the arguments brought to where the work is done."""
        return work(*arguments)

    def here(self, value: Result) -> Result:
        """Bring an array, or what holds arrays, to where the work is done."""
        return value

    def synthesize(self, style: Array, guides: Sequence[Guide], start: Array | None, wanted: Array | None) -> Synthesis:
        """Synthesise, from a field to start from or anew, all of the picture or what a mask wants."""
        settings = self._settings
        return self._synthesize(
            style,
            guides,
            effort=EFFORTS[settings.preset],
            start=start,
            target_mask=wanted,
            start_levels=_WARM_LEVELS,
            threads=settings.threads,
            patch=settings.patch_size,
            uniformity=settings.uniformity,
            weighted=settings.weighted_vote,
            seed=settings.seed,
        )
