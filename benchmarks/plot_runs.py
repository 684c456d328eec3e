"""Draw runs beside each other: ``python -m benchmarks.plot_runs RUN RUN ... --output PNG``.

Reads the metrics.csv of each run folder; loss and held-out accuracy against epochs and against seconds.
"""
from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path
from typing import Sequence

PANELS = (("epoch", "loss", "training loss"), ("epoch", "eval_accuracy", "held-out accuracy, %"),
          ("seconds", "eval_accuracy", "held-out accuracy, %"))


def read_metrics(run: Path) -> list[dict[str, float | None]]:
    """Rows of a run's metrics.csv, empty fields as None.

    Raises:
        SystemExit: the file is not there; the message names it.
    """
    path = run / "metrics.csv"
    if not path.is_file():
        raise SystemExit(f"error: {path} is not a file; give the run folder that training printed")
    with open(path, newline="", encoding="utf-8") as stream:
        return [{name: float(value) if value else None for name, value in row.items()}
                for row in csv.DictReader(stream)]


def smooth(values: list[float], weight: float = 0.9) -> list[float]:
    """Running mean, started with the first value."""
    smoothed, mean = [], values[0]
    for value in values:
        mean = weight * mean + (1 - weight) * value
        smoothed.append(mean)
    return smoothed


def draw(runs: Sequence[Path], output: Path) -> None:
    """Write the picture."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(PANELS), figsize=(14, 4))
    for run in runs:
        rows = read_metrics(run)
        for axis, (x, y, label) in zip(axes, PANELS):
            points = [(row[x], row[y]) for row in rows if row[y] is not None]
            values = [value for _, value in points]
            values = smooth(values) if y == "loss" else [100 * value for value in values]
            axis.plot([place for place, _ in points], values, label=run.parent.name,
                      marker=None if y == "loss" else "o", markersize=3)
            axis.set_xlabel(x)
            axis.set_ylabel(label)
    axes[0].legend()
    figure.tight_layout()
    output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output, dpi=90)


def main(words: Sequence[str] | None = None) -> int:
    """The command line; the exit status."""
    made = argparse.ArgumentParser(prog="python -m benchmarks.plot_runs", description=__doc__.splitlines()[0])
    made.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    made.add_argument("--output", required=True, type=Path, metavar="PNG")
    arguments = made.parse_args(words)
    draw(arguments.runs, arguments.output)
    print(f"picture {arguments.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
