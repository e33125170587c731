"""Clips with exact truth: rendered frames with known flow, occlusion, depth order and captions.

Example:
    >>> clip = scene("translation", seed=1, size=(64, 64), frames=3)
    >>> clip.frames[0].shape, clip.forward_flow[0].shape, clip.occluded_forward[0].dtype
    ((64, 64, 3), (64, 64, 2), dtype('bool'))
"""

from __future__ import annotations

from rerender.evaluate.scenes.kinds import FIRST_HELD_OUT_SEED, HELD_OUT, KINDS, scene
from rerender.evaluate.scenes.scene import Layer, Scene, Shot

__all__ = ["FIRST_HELD_OUT_SEED", "HELD_OUT", "KINDS", "Layer", "Scene", "Shot", "scene"]
