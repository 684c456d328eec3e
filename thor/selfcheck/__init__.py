"""Check a device against float64 NumPy: every operator, and training in every graph.

``python -m thor.selfcheck [--device CPU|GPU|Ascend] [--mode graph|pynative] [--train] [--ranks N]``. Run it once on a
new device, MindSpore version or driver, and paste its last lines into an issue.
"""
from thor.selfcheck.command import main

__all__ = ["main"]
