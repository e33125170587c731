"""The key frame loop: references → constraints → one rendered key frame."""

from rerender.translate.frames import Cost, KeyFrame
from rerender.translate.translator import Translator

__all__ = ["Cost", "KeyFrame", "Translator"]
