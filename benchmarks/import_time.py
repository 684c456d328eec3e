"""Seconds that ``import thor`` takes once MindSpore is there, each time in a new process.

``python -m benchmarks.import_time --json import_time.json``
"""
from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks import common

PROGRAM = ("import time, mindspore; start = time.perf_counter(); import thor; "
           "print(time.perf_counter() - start)")


def main(words: Sequence[str] | None = None) -> int:
    """Measure as the command line says; the exit status."""
    made = common.parser("import_time", "Seconds that import thor takes, without MindSpore's own import.")
    made.add_argument("--repeats", type=common.at_least(1), default=7, help="processes that are timed")
    options = made.parse_args(words)
    return common.run_measurement(lambda: measure(options.repeats), report, options.json)


def measure(repeats: int) -> dict[str, Any]:
    """Import in new processes, one more than ``repeats``: the first fills the file cache; all numbers."""
    seconds = [import_seconds() for _ in range(repeats + 1)][1:]
    return {"import_s": float(np.median(seconds)), "import_s_each": seconds, "repeats": repeats,
            "machine": common.machine()}


def import_seconds() -> float:
    """Seconds of one import."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    if done.returncode:
        raise common.BenchmarkError(f"import thor failed: {done.stderr.strip().splitlines()[-1]}")
    return float(done.stdout.split()[-1])


def report(numbers: dict[str, Any]) -> str:
    """The lines to print."""
    each = numbers["import_s_each"]
    return (f"{common.describe(numbers['machine'])}\n\nimport thor after mindspore: {numbers['import_s']:.3f} s, "
            f"median of {numbers['repeats']} processes ({min(each):.3f} to {max(each):.3f})")


if __name__ == "__main__":
    sys.exit(main())
