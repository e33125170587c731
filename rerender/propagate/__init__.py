"""From key frames to a full clip: guided patch synthesis from both sides, and blending."""

from rerender.propagate.interval import IntervalJob, propagate_interval
from rerender.propagate.parallel import propagate_all
from rerender.propagate.settings import PropagationSettings

__all__ = ["IntervalJob", "PropagationSettings", "propagate_all", "propagate_interval"]
