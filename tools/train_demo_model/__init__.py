"""Trains the small Stable Diffusion model that the demo, the tests and the reports use. See docs/model-card.md."""
