"""Metrics, scenes with exact truth, and reports."""
