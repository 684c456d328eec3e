"""What a run has left in its folder. Importing this module does not import MindSpore."""
from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from models.compare.runs import Outcome
from models.config import Config, load_config
from models.config.errors import invalid
from models.run_folder import CONFIG, METRICS, RESULTS, differing_keys, metrics_rows

ACCURACIES = "top_1_accuracy", "mlm_accuracy", "next_token_accuracy"  # of the tasks, in results.json


@dataclasses.dataclass(frozen=True)
class FoundRun:
    """A run, ended or not.

    Attributes:
        path: its folder.
        config: its settings.
        outcome: its rows of metrics.csv and the evaluations in them.
        results: of results.json, {} where it has not come to its end.
    """

    path: Path
    config: Config
    outcome: Outcome
    results: dict[str, Any]

    @property
    def state(self) -> str:
        """How far it came."""
        if "stopped_early_at_step" in self.results:
            return "stopped early"
        return "finished" if self.results else "not finished"

    @property
    def evaluations(self) -> list[tuple[int, float]]:
        """(step, accuracy from 0 to 1); of a run that evaluated at its end alone, that one."""
        found = self.outcome.evaluations
        accuracy = next((value for name, value in self.results.items() if name in ACCURACIES), None)
        return found if found or accuracy is None else [(self.steps, accuracy)]

    @property
    def final(self) -> float | None:
        """The last accuracy, None before the first."""
        return self.evaluations[-1][1] if self.evaluations else None

    @property
    def best(self) -> tuple[int, float] | None:
        """The first step of the best accuracy, and that; None before the first."""
        return max(self.evaluations, key=lambda pair: (pair[1], -pair[0]), default=None)

    def last(self, column: str) -> float | None:
        """The last value of a column of metrics.csv, None where it has none."""
        return next((row[column] for row in reversed(self.outcome.rows) if row.get(column) is not None), None)

    @property
    def steps(self) -> int:
        """Batches trained, as far as is written."""
        return int(self.last("step") or 0)


def read_run(path: Path) -> FoundRun:
    """The run in a folder; ConfigError, OSError where it has no readable configuration."""
    results = path / RESULTS
    try:
        ended = json.loads(results.read_text(encoding="utf-8")) if results.exists() else {}
    except ValueError:
        ended = {}
    rows = metrics_rows(path / METRICS) if (path / METRICS).exists() else []
    return FoundRun(path, load_config(path / CONFIG), Outcome("finished" if ended else "", 0, 0, rows), ended)


def read_runs(paths: Sequence[Path]) -> list[FoundRun]:
    """The runs in folders, each of one run or of several, in order, each once.

    Raises:
        ConfigError: a path is no such folder.
    """
    found: dict[Path, FoundRun] = {}
    for path in paths:
        below = (file.parent for pattern in ("*", "*/*") for file in path.glob(f"{pattern}/{CONFIG}"))
        inside = [path] if (path / CONFIG).is_file() else sorted(below)
        if not inside:
            raise invalid("RUN", str(path), "the folder of a run, or of runs", f"it has no {CONFIG}; give one that "
                          "models.train made, such as runs/resnet18_digits_thor/20260101-120000")
        for folder in inside:
            found.setdefault(folder.resolve(), read_run(folder))
    return list(found.values())


def labels(runs: Sequence[FoundRun]) -> list[str]:
    """Short names of the runs: the last parts of their paths, as many as tell them apart."""
    for count in (1, 2, 3):
        short = ["/".join(run.path.absolute().parts[-count:]) for run in runs]
        if len(set(short)) == len(short):
            return short
    return [str(run.path) for run in runs]


def differing_settings(runs: Sequence[FoundRun]) -> dict[str, list[Any]]:
    """Of each setting that not all runs share its value in each, by dotted name; folders aside."""
    names = dict.fromkeys(name for run in runs[1:] for name in differing_keys(runs[0].config, run.config))
    return {name: [functools.reduce(getattr, name.split("."), run.config) for run in runs] for name in names}
