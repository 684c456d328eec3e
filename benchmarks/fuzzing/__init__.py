"""Damaged configurations, data and checkpoints: how to make them, and how each ends; ``python -m benchmarks.fuzz``."""
