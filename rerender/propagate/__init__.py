"""From key frames to a full clip: guided patch synthesis from both sides, and blending."""

from rerender.propagate.interval import propagate_interval
from rerender.propagate.job import IntervalJob
from rerender.propagate.parallel import propagate_all
from rerender.propagate.settings import PropagationSettings

__all__ = ["IntervalJob", "PropagationSettings", "propagate_all", "propagate_interval"]
