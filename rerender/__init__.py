"""Rerender A Video: zero-shot, prompt-guided restyling of videos that stays consistent over time."""

__version__ = "0.1.0"
