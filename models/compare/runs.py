"""One training run of a comparison: its configuration, its folder, and what came of it."""
from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from pathlib import Path
from typing import Any

from models.config import Config, config_tree
from models.run_folder import METRICS, metrics_rows

OUTCOME = "outcome.json"
WARM_UP = 6  # steps MindSpore runs slower after a graph is new
NOT_THE_RUN = ("resume", "run_dir", "checkpoint_every_epochs", "checkpoint_every_steps", "checkpoint_keep",
               "keep_best", "log")


@dataclasses.dataclass(frozen=True)
class Run:
    """A run that is to be made.

    Attributes:
        label: of its optimizer.
        number: of the setting, from 0.
        setting: what was searched, by dotted name.
        seed: of weights and data.
        config: the whole configuration.
        parent: folder of all runs of the comparison.
    """

    label: str
    number: int
    setting: dict[str, Any]
    seed: int
    config: Config
    parent: Path

    @property
    def folder(self) -> Path:
        """The run's own, named after everything that makes a difference to it."""
        tree = config_tree(self.config)
        tree["train"] = {key: value for key, value in tree["train"].items() if key not in NOT_THE_RUN}
        digest = hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()[:12]
        return self.parent / self.label.replace("(", "_").replace(")", "") / digest

    @property
    def has_steady_steps(self) -> bool:
        """Whether one interval between refreshes costs what any other does: not where a policy changes them."""
        return not self.config.optimizer.second_order or self.config.curvature.update.policy == "fixed"

    def outcome(self) -> Outcome | None:
        """What came of it, None if it has not ended."""
        try:
            facts = json.loads((self.folder / OUTCOME).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        return Outcome(facts["ended"], facts["peak_memory"], facts["state_bytes"], metrics_of(self.folder))

    def describe(self) -> str:
        """Optimizer, setting and seed in a few words."""
        return f"{self.label}, {describe_setting(self.setting)}, seed {self.seed}"


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came of a run.

    Attributes:
        ended: ``finished``, or ``diverged``.
        peak_memory: of its process, bytes.
        state_bytes: of its last checkpoint: weights and the optimizer's state; 0 if there is none.
        rows: of its metrics.csv, empty fields as None.
    """

    ended: str
    peak_memory: int
    state_bytes: int
    rows: list[dict[str, float | None]]

    @property
    def evaluations(self) -> list[tuple[int, float]]:
        """(steps, accuracy), accuracy 0 to 1."""
        return [(int(row["step"]), row["eval_accuracy"]) for row in self.rows if row["eval_accuracy"] is not None]

    @property
    def accuracy(self) -> float | None:
        """At the end; None if it diverged."""
        return self.evaluations[-1][1] if self.ended == "finished" and self.evaluations else None

    def steps_to(self, target: float) -> int | None:
        """Steps at the first evaluation with ``target`` or more, None if there is none."""
        return next((step for step, accuracy in self.evaluations if accuracy >= target), None)

    @property
    def step_seconds(self) -> float | None:
        """Seconds a step, without compilation, evaluation and checkpoints; None where too little was logged.

        Of every epoch what lies between a row after its first steps and the last before its end.
        """
        epochs: dict[int, list[dict[str, float | None]]] = {}
        for row in self.rows:
            epochs.setdefault(math.ceil(row["epoch"]), []).append(row)
        seconds, steps, start = 0.0, 0.0, 0.0
        for rows in epochs.values():
            inner = [row for row in rows if row["step"] >= start + WARM_UP and row["epoch"] % 1]
            if inner:
                seconds += inner[-1]["seconds"] - inner[0]["seconds"]
                steps += inner[-1]["step"] - inner[0]["step"]
            start = rows[-1]["step"]
        return seconds / steps if steps else None


def metrics_of(folder: Path) -> list[dict[str, float | None]]:
    """Rows of the newest metrics.csv below ``folder``; a line that is not whole ends them."""
    files = sorted(folder.glob(f"*/*/{METRICS}"))
    return metrics_rows(files[-1]) if files else []


def describe_setting(setting: dict[str, Any]) -> str:
    """``learning_rate 0.05, damping 0.1``: the last part of a name that says something, and the value."""
    words = []
    for name, value in setting.items():
        parts = [part for part in name.split(".") if part not in ("optimizer", "initial")]
        words.append(f"{parts[-1]} {value}")
    return ", ".join(words)
