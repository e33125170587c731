"""Which backend synthesises, chosen once for an interval."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from rerender.propagate.cuda import choose_synthesis
from rerender.propagate.problem import EFFORTS, Guide
from rerender.propagate.settings import PropagationSettings
from rerender.propagate.synthesis import Synthesis

Synthesizer = Callable[[np.ndarray, Sequence[Guide], np.ndarray | None, np.ndarray | None], Synthesis]
"""(style, guides, field to start from or None, mask of what is wanted or None) to a synthesis."""

_WARM_LEVELS = 3


def make_synthesizer(settings: PropagationSettings) -> Synthesizer:
    """Return the synthesis with the settings bound, on the device that they wish for.

    Raises:
        UserError: they insist on CUDA, and it cannot be used.
    """
    synthesize = choose_synthesis(settings.device)

    def run(
        style: np.ndarray, guides: Sequence[Guide], start: np.ndarray | None, wanted: np.ndarray | None
    ) -> Synthesis:
        return synthesize(
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

    return run
