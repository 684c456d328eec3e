"""Damaged configurations, data and checkpoints: how each is made, and how it ends."""
