"""Faults on purpose, and what comes of them: tracebacks, crashes, hangs, lost files.

``python -m benchmarks.faults kills --kills 100 --output DIR [--seed 1] [--only NAME ...]``: SIGKILLs at random moments,
and runs that go on; see :mod:`benchmarks.kills`.
``python -m benchmarks.faults fuzz [--seed 1] [--cases N] [--only PART ...]``: damaged configurations, data and
checkpoints; see :mod:`benchmarks.fuzz`.
"""
from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks import common, fuzz, kills


def main(words: Sequence[str] | None = None) -> int:
    """Do as the command line says; the exit status."""
    first, *rest = list(sys.argv[1:] if words is None else words) or [""]
    if first in PARTS:
        return PARTS[first](rest)
    if first in ("-h", "--help"):
        print(__doc__)
        return 0
    print(f"error: {first or 'nothing'} given; must be {' or '.join(PARTS)} first; --help shows both", file=sys.stderr)
    return 2


def kill(words: Sequence[str]) -> int:
    """Kill runs as the command line says; the exit status."""
    made = common.parser("faults kills", "SIGKILLs at random moments, and runs that go on.")
    made.add_argument("--kills", type=common.at_least(1), default=100, help="of all configurations together")
    made.add_argument("--only", nargs="+", choices=list(kills.CASES), default=list(kills.CASES), metavar="NAME",
                      help=f"configurations: {', '.join(kills.CASES)}")
    made.add_argument("--output", required=True, type=Path, metavar="DIR", help="new folder for all runs")
    options = made.parse_args(words)
    return common.run_measurement(lambda: kills.measure(options.kills, options.seed, options.only,
                                                        options.output.absolute()), kills.report, options.json)


PARTS = {"kills": kill, "fuzz": fuzz.main}


if __name__ == "__main__":
    sys.exit(main())
