"""Loss and held-out accuracy of runs, against steps and against seconds."""
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from models.compare.picture import accuracies, losses
from models.summary.reading import FoundRun, labels


def draw(runs: Sequence[FoundRun], path: Path) -> None:
    """Write the PNG; seconds are those of metrics.csv: training, evaluation and checkpoints."""
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 8), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 2, sharex="col", sharey="row")
    for number, (name, run) in enumerate(zip(labels(runs), runs)):
        style = {"color": colormaps["tab10"](number % 10), "linestyle": ("-", "--", ":")[number // 10 % 3]}
        seconds = {row["step"]: row["seconds"] for row in run.outcome.rows}
        for axis_row, curve, marker in zip(axes, (losses(run.outcome), accuracies(run.outcome)), ("", ".")):
            steps, values = curve
            axis_row[0].plot(steps, values, label=name, marker=marker, **style)
            axis_row[1].plot([seconds[step] for step in steps], values, label=name, marker=marker, **style)
    axes[0][0].set_ylabel("training loss, running mean")
    axes[1][0].set_ylabel("held-out accuracy, %")
    axes[1][0].set_xlabel("steps")
    axes[1][1].set_xlabel("seconds")
    axes[0][1].legend(fontsize="small")
    part = path.with_name(path.name + ".part")
    figure.savefig(part, dpi=100, format="png")
    part.replace(path)
