"""Runs side by side: what they reached, what they took, what was set differently, and their curves."""
