"""metrics.csv and curves.png of a run."""
from __future__ import annotations

import csv
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mindspore.train import Callback

from models.callbacks.state import TrainingState
from models.files import replacing, writing
from models.metrics import EMA
from models.sinks import ROWS_PER_EPOCH, passed

COLUMNS = ("epoch", "step", "loss", "learning_rate", "damping", "refreshed_layers", "skipped_updates", "eval_loss",
           "eval_accuracy", "seconds")


class MetricsFile(Callback):
    """About 50 rows an epoch, the last of an epoch with the evaluation; under a data sink at most one a sink.

    The columns are COLUMNS and, before the last of them, eval_NAME for each of the task's other metrics, and
    eval_ema_loss, eval_ema_accuracy and gradient_norm where averages are kept and the norm is recorded.

    step counts training batches, loss is that batch's, seconds count time spent in training, interruptions
    left out. A resumed run drops the rows after its first batch and goes on below them, so that the file is
    that of an uninterrupted run but for the seconds.
    """

    def __init__(self, state: TrainingState, path: Path) -> None:
        super().__init__()
        self.state = state
        self.path = path
        task = state.session.task
        self._metrics = {"eval_loss": "loss", "eval_accuracy": task.accuracy,
                         **{f"eval_{name}": name for name in task.other_metrics}}
        if state.session.config.train.ema.decay is not None:
            self._metrics |= {"eval_ema_loss": f"{EMA}loss", "eval_ema_accuracy": EMA + task.accuracy}
        norm = ("gradient_norm",) if state.session.config.train.record_gradient_norm else ()
        evaluations = (column for column in self._metrics if column not in COLUMNS)
        self.columns = (*COLUMNS[:-1], *evaluations, *norm, COLUMNS[-1])
        self._every = max(1, state.per_epoch // ROWS_PER_EPOCH)
        self.latest: dict[str, float | None] = {}  # the row written last
        self._written = 0
        self._before = self._started = 0.0

    def rows(self) -> Iterator[dict[str, float | None]]:
        """The whole rows of the file, empty fields as None; a line cut off by a kill is left out."""
        if not self.path.exists():
            return
        with open(self.path, newline="", encoding="utf-8") as stream:
            for row in csv.DictReader(stream):
                row.setdefault("skipped_updates", "")  # not in files of earlier versions
                try:
                    yield {name: float(row[name]) if row[name] else None for name in self.columns}
                except (KeyError, TypeError, ValueError):
                    return

    def on_train_begin(self, run_context: Any) -> None:
        kept = [row for row in self.rows() if row["step"] <= self.state.start]
        self._before = kept[-1]["seconds"] if kept else 0.0
        self._written = int(kept[-1]["step"]) if kept else 0
        with replacing(self.path) as part, open(part, "w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(self.columns)
            writer.writerows([_text(row[name]) for name in self.columns] for row in kept)
        self._started = time.perf_counter()

    def on_train_step_end(self, run_context: Any) -> None:
        state = self.state
        of_epoch = state.batches % state.per_epoch
        if of_epoch and passed(self._every, state.before % state.per_epoch, of_epoch):
            self._write()

    def on_train_epoch_end(self, run_context: Any) -> None:
        if self.state.ends_epoch and self.state.batches > self._written:
            self._write()

    def _write(self) -> None:
        state = self.state
        row = {"epoch": state.epoch, "step": state.batches, "loss": state.loss, "learning_rate": state.learning_rate,
               "damping": state.damping, "refreshed_layers": state.refreshed and state.refreshed[0],
               "skipped_updates": state.skipped.total, "gradient_norm": state.gradient_norm,
               "seconds": round(self._before + time.perf_counter() - self._started, 3),
               **{column: state.evaluation.get(metric) for column, metric in self._metrics.items()}}
        with writing(self.path), open(self.path, "a", newline="", encoding="utf-8") as stream:
            csv.writer(stream, lineterminator="\n").writerow([_text(row[name]) for name in self.columns])
        self._written, self.latest = state.batches, row


def _text(value: float | None) -> str:
    return "" if value is None else f"{value:.9g}"


class CurvesPicture(Callback):
    """A PNG of loss and held-out accuracy by epoch, drawn anew from metrics.csv at the end of each epoch."""

    def __init__(self, metrics: MetricsFile, path: Path) -> None:
        super().__init__()
        self.metrics = metrics
        self.path = path

    def on_train_epoch_end(self, run_context: Any) -> None:
        if self.metrics.state.ends_epoch:
            draw_curves(list(self.metrics.rows()), self.path)


def draw_curves(rows: list[dict[str, float | None]], path: Path) -> None:
    """Draw training and held-out loss, and held-out accuracy, of ``rows`` (see COLUMNS) into ``path``."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    FigureCanvasAgg(figure)
    loss, accuracy = figure.subplots(1, 2)
    loss.plot([row["epoch"] for row in rows], [row["loss"] for row in rows], linewidth=0.8,
              label="training batch")
    held_out = [row for row in rows if row["eval_accuracy"] is not None]
    epochs = [row["epoch"] for row in held_out]
    loss.plot(epochs, [row["eval_loss"] for row in held_out], marker=".", label="held out")
    loss.set(xlabel="epoch", ylabel="loss", ylim=(0, None))
    loss.legend()
    accuracy.plot(epochs, [100 * row["eval_accuracy"] for row in held_out], marker=".")
    accuracy.set(xlabel="epoch", ylabel="held-out accuracy, %")
    with replacing(path) as part:
        figure.savefig(part, dpi=120, format="png")
