"""Faults on purpose, and what comes of them: tracebacks, crashes, hangs, lost files.

``python -m benchmarks.faults kills --kills 100 --output DIR [--seed 1] [--only NAME ...]``; see
:mod:`benchmarks.kills`.
"""
from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks import common, kills


def main(words: Sequence[str] | None = None) -> int:
    """Do as the command line says; the exit status."""
    made = common.parser("faults", "Faults on purpose, and what comes of them.")
    made.add_argument("what", choices=["kills"], help="kills: SIGKILLs at random moments, and runs that go on")
    made.add_argument("--kills", type=common.at_least(1), default=100, help="of all configurations together")
    made.add_argument("--only", nargs="+", choices=list(kills.CASES), default=list(kills.CASES), metavar="NAME",
                      help=f"configurations: {', '.join(kills.CASES)}")
    made.add_argument("--output", required=True, type=Path, metavar="DIR", help="new folder for all runs")
    options = made.parse_args(words)
    return common.run_measurement(lambda: kills.measure(options.kills, options.seed, options.only,
                                                        options.output.absolute()), kills.report, options.json)


if __name__ == "__main__":
    sys.exit(main())
