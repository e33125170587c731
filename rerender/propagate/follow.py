"""The key's picture itself, followed along the flow, wherever the input frames confirm that the flow is right.

A synthesis may match a patch anywhere that looks alike, and elsewhere again in the next frame: texture wanders. Where
the flow to the key can be verified, its picture is sampled along it instead: once, straight from the key, so nothing
adds up from frame to frame. The synthesis serves where that fails: at holes, outlines, wrong flow, changed light.
"""

from __future__ import annotations

from dataclasses import dataclass

from rerender.arrays import Array, namespace
from rerender.arrays.smoothstep import smoothstep
from rerender.outlines import same_outlines
from rerender.propagate.detail import detail_energy
from rerender.propagate.guides import Input, pixel_grid

_ALIKE, _UNLIKE = 0.7, 1.5  # mean difference of the inputs, in levels: from fully trusted to not at all …
_NOISE_MOST = 4.0  # … above the noise of the clip, its median, of which this much is believed
_WINDOW = 5
_LENIENCE, _SHEAR = 4.0, (1.0, 4.0)
_REACH = 3
_AROUND = 9
_RIM = 1.5  # pixels over which trust falls towards the edge of an untrusted area


@dataclass(frozen=True)
class Key:
    """A key frame.

    Attributes:
        input: its input.
        picture: (H, W, 3) uint8.
        least, largest: (H, W, 3) uint8, the least and largest values of 3×3 pixels of the picture.
        detail: (H, W) float32, energy of the picture's fine detail.
    """

    input: Input
    picture: Array
    least: Array
    largest: Array
    detail: Array

    @classmethod
    def of(cls, frame: Array, picture: Array) -> Key:
        """Prepare a key frame."""
        xp = namespace(picture)
        return cls(Input.of(frame), picture, xp.erode(picture, 3), xp.dilate(picture, 3), detail_energy(picture))


def sample_picture(key: Key, places: Array) -> Array:
    """Return the key's picture at real places, (H, W, 2) → (H, W, 3) float32: Lanczos' kernel without its ringing."""
    xp = namespace(places)
    sharp = xp.sample(key.picture, places, "lanczos")
    least, largest = (xp.sample(bound, places, "nearest") for bound in (key.least, key.largest))
    return xp.clip(sharp, least, largest)


def trust_in_flow(key: Key, here: Input, places: Array, seen: Array, outlines: bool = True) -> Array:
    """How far the key may be followed: 1 where its input, sampled at `places`, looks like the frame; (H, W) float32.

    Differences are means over 5×5 pixels and measured against the noise of the clip, which is their median. Where an
    outline may be drawn here and not there, or the reverse, the key shows ink that belongs to something else.

    Args:
        key: the key frame.
        here: the input frame.
        places: (H, W, 2), pixels of the key that the frame's pixels come from.
        seen: (H, W) in [0, 1], whether the pixel has been visible since the key.
        outlines: whether outlines count.
    """
    xp = namespace(places)
    difference = xp.blur(xp.abs(xp.sample(key.input.frame, places, "cubic") - here.frame).mean(2), _WINDOW)
    visible = (seen > 0.5) & _inside(places)
    noise = xp.median_of(difference, visible, _NOISE_MOST)
    lenience = 1 + _LENIENCE * (1 - smoothstep(_shear(places), *_SHEAR))
    trust = (1 - smoothstep(difference / lenience, _ALIKE + noise, _UNLIKE + 2 * noise)) * visible
    if outlines:
        drawn = xp.abs(xp.sample(key.input.outlines, places, "cubic") - here.outlines)
        trust = trust * same_outlines(drawn)
    return xp.minimum(trust, xp.gaussian(xp.erode(trust, _REACH), _RIM))


def _inside(places: Array) -> Array:
    """Whether places, (H, W, 2), lie in a picture of their own size; (H, W) bool."""
    height, width = places.shape[:2]
    x, y = places[..., 0], places[..., 1]
    return (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)


def _shear(places: Array) -> Array:
    """By how many pixels the surroundings of a pixel have moved apart since the key, (H, W)."""
    xp = namespace(places)
    still = places - xp.constant(pixel_grid, *places.shape[:2])
    spread = xp.dilate(still, _AROUND) - xp.erode(still, _AROUND)
    return xp.hypot(spread[..., 0], spread[..., 1])
