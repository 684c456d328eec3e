"""Loss and accuracy of the best settings against steps and against seconds of training."""
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from models.compare.results import Result
from models.compare.runs import Outcome

SMOOTHING = 0.9


def draw(results: Sequence[Result], path: Path) -> None:
    """Write the PNG: means over the seeds, bands from the lowest to the highest; seconds are steps times s/step."""
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 9), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 2, sharex="col", sharey="row")
    for number, result in enumerate(results):
        color, style = colormaps["tab10"](number % 10), ("-", "--", ":")[number // 10 % 3]
        for row, curves in ((0, [losses(outcome) for outcome in result.outcomes]),
                            (1, [accuracies(outcome) for outcome in result.outcomes])):
            steps, mean, low, high = band(curves)
            for axis, scale in zip(axes[row], (1.0, result.step_seconds or np.nan)):
                width = 2.2 if result.label == "thor" else 1.2
                axis.plot(steps * scale, mean, color=color, label=result.label, linewidth=width, linestyle=style)
                axis.fill_between(steps * scale, low, high, color=color, alpha=0.15, linewidth=0)
    _label(axes, results)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    figure.savefig(part, dpi=100, format="png")
    part.replace(path)


def _label(axes, results: Sequence[Result]) -> None:
    axes[0][0].set_ylabel("training loss")
    axes[1][0].set_ylabel("held-out accuracy, %")
    axes[1][0].set_xlabel("steps")
    axes[1][1].set_xlabel("seconds of training steps")
    best = max((100 * max(result.accuracies) for result in results if result.accuracies), default=100.0)
    target = 100 * results[0].target
    for axis in axes[1]:
        axis.axhline(target, color="black", linestyle=":", linewidth=1)
        axis.set_ylim(max(min(target, best) - 15, 0), max(target, best) + 1)
    axes[0][1].legend(fontsize="small", ncols=2)


def losses(outcome: Outcome) -> tuple[np.ndarray, np.ndarray]:
    """Steps and running mean of the training loss."""
    steps, smoothed = [], []
    for row in outcome.rows:
        before = smoothed[-1] if smoothed else row["loss"]
        steps.append(row["step"])
        smoothed.append(SMOOTHING * before + (1 - SMOOTHING) * row["loss"])
    return np.array(steps), np.array(smoothed)


def accuracies(outcome: Outcome) -> tuple[np.ndarray, np.ndarray]:
    """Steps and held-out accuracy in percent."""
    pairs = outcome.evaluations
    return np.array([step for step, _ in pairs]), np.array([100 * accuracy for _, accuracy in pairs])


def band(curves: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Steps all curves have, and there their mean, lowest and highest; curves that diverged end earlier."""
    common = sorted(set.intersection(*({int(step) for step in steps} for steps, _ in curves)))
    values = np.array([[dict(zip(steps.astype(int).tolist(), curve))[step] for step in common]
                       for steps, curve in curves])
    if not common:
        return (np.empty(0),) * 4
    return np.array(common), values.mean(0), values.min(0), values.max(0)
