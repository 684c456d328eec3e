"""curvature.csv and curvature.png: what each refresh saw and did, layer by layer."""
from __future__ import annotations

import csv
import time
from pathlib import Path
from typing import Any

from mindspore.train import Callback

from models.callbacks.state import TrainingState
from models.files import replacing, writing
from models.optimizers import thor_within
from thor.curvature.record import LayerReport

COLUMNS = ("step", "layer", "status", "refreshes", "trace", "change", "condition", "damping", "seconds")


class CurvatureFile(Callback):
    """A row for each layer at each refresh; nothing at all where the optimizer is not THOR.

    step counts optimizer steps from 0, seconds are those of the whole training step. A resumed run drops the rows
    of steps it does again. The optimizer remembers its latest refresh alone: of several within one sink
    (models.sinks) the last has rows, and seconds are those of an average step of the sink.
    """

    def __init__(self, state: TrainingState, path: Path) -> None:
        super().__init__()
        self.state = state
        self.path = path
        self.optimizer = thor_within(state.session.optimizer)
        self._began = 0.0
        self._reported = -1

    def on_train_begin(self, run_context: Any) -> None:
        if self.optimizer is None:
            return
        self._reported = self.optimizer.last_refresh
        kept = [row for row in read_rows(self.path) if int(row["step"]) < self._next_step()]
        with replacing(self.path) as part, open(part, "w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(kept)
        report = self.optimizer.curvature_report()
        if any(row.refreshes for row in report):
            self.state.refreshed = _count_refreshed(report)

    def on_train_step_begin(self, run_context: Any) -> None:
        self._began = time.perf_counter()

    def on_train_step_end(self, run_context: Any) -> None:
        if self.optimizer is None or self.optimizer.last_refresh == self._reported:
            return
        step = self._reported = self.optimizer.last_refresh
        seconds = f"{(time.perf_counter() - self._began) / max(self.state.batches - self.state.before, 1):.4f}"
        damping = self.state.damping_at(step)
        report = self.optimizer.curvature_report()
        with writing(self.path), open(self.path, "a", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            for row in report:
                numbers = [_text(value) for value in (row.trace, row.change, row.condition, damping)]
                writer.writerow([step, row.name, row.status, row.refreshes, *numbers, seconds])
        self.state.refreshed = _count_refreshed(report)

    def _next_step(self) -> int:
        return int(self.optimizer.global_step.asnumpy().reshape(()))


class CurvaturePicture(Callback):
    """A heat map of layers against refreshes, drawn from curvature.csv at the end of each epoch."""

    def __init__(self, record: CurvatureFile, path: Path) -> None:
        super().__init__()
        self.record = record
        self.path = path

    def on_train_epoch_end(self, run_context: Any) -> None:
        rows = read_rows(self.record.path) if self.record.state.ends_epoch else []
        if self.record.optimizer is not None and rows:
            draw_curvature(rows, self.path)


def _count_refreshed(report: list[LayerReport]) -> tuple[int, int]:
    """Layers refreshed at the latest refresh, and layers there are."""
    return sum(row.status == "refreshed" for row in report), len(report)


def read_rows(path: Path) -> list[dict[str, str]]:
    """The whole rows of a curvature.csv; a line cut off by a kill is left out."""
    if not path.exists():
        return []
    with open(path, newline="", encoding="utf-8") as stream:
        return [row for row in csv.DictReader(stream) if None not in row.values() and None not in row]


def draw_curvature(rows: list[dict[str, str]], path: Path) -> None:
    """Draw the change of each layer's trace at each refresh, and mark those kept or stopped."""
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure

    layers = list(dict.fromkeys(row["layer"] for row in rows))
    steps = sorted({int(row["step"]) for row in rows})
    place = {(row["layer"], int(row["step"])): row for row in rows}
    changes = np.full((len(layers), len(steps)), np.nan)
    marks = {"kept": [], "stopped": []}
    for i, layer in enumerate(layers):
        for j, step in enumerate(steps):
            row = place.get((layer, step))
            if row and row["change"] and np.isfinite(float(row["change"])):
                changes[i, j] = float(row["change"])
            if row and row["status"] in marks:
                marks[row["status"]].append((j, i))
    figure = Figure(figsize=(10, 1.5 + 0.18 * len(layers)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    image = axes.imshow(np.clip(changes, 1e-4, 10), aspect="auto", cmap="viridis", norm=LogNorm(1e-4, 10))
    for (status, places), symbol in zip(marks.items(), (".", "x")):
        if places:
            axes.scatter(*zip(*places), marker=symbol, s=8, color="white" if status == "kept" else "red", label=status)
    axes.set(xlabel="step", yticks=range(len(layers)), title="change of the trace at each refresh")
    axes.set_yticklabels(layers, fontsize=6)
    shown = range(0, len(steps), max(1, len(steps) // 12))
    axes.set_xticks(list(shown), [steps[j] for j in shown])
    if any(marks.values()):
        axes.legend(loc="upper left", bbox_to_anchor=(1.12, 1))
    figure.colorbar(image, ax=axes, label="relative change")
    with replacing(path) as part:
        figure.savefig(part, dpi=120, format="png")


def _text(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"
