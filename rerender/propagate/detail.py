"""Fine detail that sampling, votes and mixes take away, given back: as much as the key frames have of it.

A local form of variance-preserving blending (Heitz and Neyret, 2018): the detail that is left is amplified until its
energy is that of the places in the key that a picture comes from. The energy varies slowly, so it can be carried along
a flow or a field of matches without the loss that the detail itself suffers.
"""

from __future__ import annotations

from rerender.arrays import Array, namespace

_FINE, _AROUND = 3, 15  # pixels: detail is what 3×3 means lack, its energy counts within 15×15
_LEAST = 0.1  # energy, in Lab units, below which there is nothing to amplify
_MOST = 2.0
_BOUNDS = 7  # pixels around, whose least and largest values are not left: no halo beside an outline
_SYNTHESISED = 0.7  # share given back to what was not followed, since some of it lies a little beside its place


def detail_energy(picture: Array) -> Array:
    """How much fine detail there is around each pixel of a uint8 RGB picture; (H, W) float32, in Lab units."""
    return _energy(_fine(namespace(picture).to_lab(picture)))


def missing_detail(lab: Array, wanted: Array, trust: Array) -> Array:
    """What a picture lacks of the fine detail that it should have: to be added to it.

    Args:
        lab: (H, W, 3) float32, the picture in CIE Lab.
        wanted: (H, W), energy that its detail should have.
        trust: (H, W) in [0, 1], how much of it was followed, not synthesised.
    """
    xp, detail = namespace(lab), _fine(lab)
    gain = xp.clip(wanted / xp.clip(_energy(detail), _LEAST, None), 1, _MOST) - 1
    gain = gain * (_SYNTHESISED + (1 - _SYNTHESISED) * trust)
    return xp.clip(gain[..., None] * detail, xp.erode(lab, _BOUNDS) - lab, xp.dilate(lab, _BOUNDS) - lab)


def _fine(lab: Array) -> Array:
    return lab - namespace(lab).blur(lab, _FINE)


def _energy(detail: Array) -> Array:
    """Root mean square around a pixel, of all channels together."""
    xp = namespace(detail)
    # Running sums leave a rest that may be negative.
    return xp.sqrt(xp.clip(xp.blur((detail**2).sum(2), _AROUND), 0, None))
