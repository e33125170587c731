"""The report: one HTML file that needs nothing beside it, neither network nor scripts."""

from __future__ import annotations

from rerender.evaluate.report.page import write_report

__all__ = ["write_report"]
