"""Lay runs side by side: ``python -m models.summary RUN... [--picture FILE]``."""
from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from models.command_line import run
from models.summary.reading import read_runs
from models.summary.tables import results_table, settings_table


def main(words: Sequence[str] | None = None) -> int:
    """Command line; the exit status."""
    made = argparse.ArgumentParser(prog="python -m models.summary", allow_abbrev=False,
                                   description="Lay runs side by side: what they reached, took and were set to.")
    made.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder of a run, or of runs")
    made.add_argument("--picture", type=Path, default=Path("summary.png"), metavar="FILE",
                      help="PNG of their curves (default: summary.png)")
    options = made.parse_args(words)
    if not options.picture.absolute().parent.is_dir() or options.picture.is_dir():
        made.error(f"--picture={options.picture}; must be a file in a folder that exists; choose another")

    def entry() -> None:
        found = read_runs(options.runs)
        print(results_table(found))
        settings = settings_table(found)
        if settings:
            print(f"\n{settings}")
        from models.summary.picture import draw  # matplotlib takes its time

        draw(found, options.picture)
        print(f"\ncurves: {options.picture}")
    return run(entry)


if __name__ == "__main__":
    sys.exit(main())
