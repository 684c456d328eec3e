"""Draw runs beside each other: ``python -m benchmarks.plot_runs RUN RUN ... --output PNG``.

Reads the metrics.csv of each run folder; loss and held-out accuracy against epochs and against seconds.
"""
from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Sequence
from pathlib import Path

PANELS = (("epoch", "loss", "training loss"), ("epoch", "eval_accuracy", "held-out accuracy, %"),
          ("seconds", "eval_accuracy", "held-out accuracy, %"))


def _read_metrics(run: Path) -> list[dict[str, float | None]]:
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


def _smooth(values: list[float], weight: float = 0.9) -> list[float]:
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
        rows = _read_metrics(run)
        for axis, (x, y, label) in zip(axes, PANELS):
            points = [(row[x], row[y]) for row in rows if row[y] is not None]
            values = [value for _, value in points]
            values = _smooth(values) if y == "loss" else [100 * value for value in values]
            axis.plot([place for place, _ in points], values, label=run.parent.name,
                      marker=None if y == "loss" else "o", markersize=3)
            axis.set_xlabel(x)
            axis.set_ylabel(label)
    axes[0].legend()
    figure.tight_layout()
    output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output, dpi=90)


def draw_curves(curves: Sequence[dict], target: float, output: Path) -> None:
    """Write accuracy against steps and against seconds; best runs bold, the others of an optimizer thin.

    Args:
        curves: each has name, steps, seconds, accuracies (0 to 1) and best.
        target: accuracy, 0 to 1, drawn as a line.
        output: the PNG file.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = list(dict.fromkeys(curve["name"] for curve in curves))
    figure, axes = pyplot.subplots(1, 2, figsize=(11, 4), sharey=True)
    for axis, x in zip(axes, ("steps", "seconds")):
        for curve in curves:
            best = curve["best"]
            axis.plot(curve[x], [100 * value for value in curve["accuracies"]], color=f"C{names.index(curve['name'])}",
                      label=curve["name"] if best else None, linewidth=2 if best else 0.7,
                      alpha=1 if best else 0.4)
        axis.axhline(100 * target, color="black", linestyle=":", linewidth=1)
        axis.set_xlabel(x)
        axis.set_ylim(100 * target - 8, 100 * target + 1)
    axes[0].set_ylabel("test accuracy, %")
    axes[0].legend()
    figure.tight_layout()
    output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output, dpi=90)
    pyplot.close(figure)


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
