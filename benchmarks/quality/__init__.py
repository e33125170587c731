"""How consistent results are: per-frame img2img, the reference's two-pass scheme, and ours, on a fixed suite.

python -m benchmarks.quality [--set full|reduced|smoke] [--checkpoint FILE] [--json FILE] [--reports DIR] [--docs]
"""
