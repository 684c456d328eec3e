"""The rows of metrics.csv as scalars in another log."""
from __future__ import annotations

from pathlib import Path
from typing import Any

from mindspore.train import Callback

from models.callbacks.files import MetricsFile
from models.files import writing
from models.logs import WRITERS, Log

UNLOGGED = ("epoch", "step")
HELD_OUT = "eval_"


class ScalarLog(Callback):
    """Writes every row that ``metrics`` writes: ``train/COLUMN``, and ``held_out/NAME`` for columns eval_NAME.

    Args:
        metrics: called before this one.
        name: of models.logs.WRITERS.
        folder: of the log's files.
    """

    def __init__(self, metrics: MetricsFile, name: str, folder: Path) -> None:
        super().__init__()
        self.metrics, self.name, self.folder = metrics, name, folder
        self._log: Log | None = None
        self._logged = 0

    def on_train_begin(self, run_context: Any) -> None:
        if self._log is None:  # else the end of an interrupted epoch was made up for
            self._logged = self.metrics.state.start
            with writing(self.folder):
                self._log = WRITERS[self.name](self.folder, self._logged)

    def on_train_step_end(self, run_context: Any) -> None:
        self._write()

    def on_train_epoch_end(self, run_context: Any) -> None:
        self._write()

    def _write(self) -> None:
        row = self.metrics.latest
        if row and row["step"] > self._logged:
            self._logged = row["step"]
            with writing(self.folder):
                self._log.add(scalars_of(row), row["step"])

    def close(self) -> None:
        """The run is over, however it ended."""
        if self._log is not None:
            self._log.close()


def scalars_of(row: dict[str, float | None]) -> dict[str, float]:
    """A row of metrics.csv by tag, without its empty fields."""
    return {f"held_out/{name.removeprefix(HELD_OUT)}" if name.startswith(HELD_OUT) else f"train/{name}": float(value)
            for name, value in row.items() if value is not None and name not in UNLOGGED}
