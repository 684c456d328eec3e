"""What a comparison found: the best setting of each optimizer, tables to print and to keep."""
from __future__ import annotations

import csv
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from models.compare.runs import Outcome, Run, describe_setting

MEBIBYTE = 2 ** 20
HEAD = ("optimizer", "best setting", "final accuracy", "reached", "steps", "seconds", "ms/step", "peak MiB",
        "state MiB")


@dataclasses.dataclass(frozen=True)
class Result:
    """An optimizer's runs of its best setting, one a seed.

    Attributes:
        label: of the optimizer.
        setting: the best, by dotted name.
        tried: settings that were.
        diverged: of those.
        outcomes: by seed, in order.
        turns: seconds a step, one value a round, measured in turn with the others; () where that was not.
        target: accuracy whose steps and seconds are told.
    """

    label: str
    setting: dict[str, Any]
    tried: int
    diverged: int
    outcomes: tuple[Outcome, ...]
    target: float
    turns: tuple[float, ...] = ()

    @property
    def accuracies(self) -> list[float]:
        """At the end of each seed's run that did not diverge."""
        return [outcome.accuracy for outcome in self.outcomes if outcome.accuracy is not None]

    @property
    def steps(self) -> list[int]:
        """To the target, of each seed's run that reached it."""
        found = [outcome.steps_to(self.target) for outcome in self.outcomes]
        return [steps for steps in found if steps is not None]

    @property
    def step_seconds(self) -> float | None:
        """Median of those measured in turn, else of the seeds' runs."""
        found = self.turns or [outcome.step_seconds for outcome in self.outcomes if outcome.step_seconds is not None]
        return float(np.median(found)) if found else None

    def numbers(self) -> dict[str, Any]:
        """The row of the CSV file; None where there is nothing to tell."""
        accuracies, steps, step_s = self.accuracies, self.steps, self.step_seconds
        median = float(np.median(steps)) if steps else None
        return {"optimizer": self.label, "setting": json.dumps(self.setting), "settings_tried": self.tried,
                "settings_diverged": self.diverged, "seeds": len(self.outcomes), "seeds_finished": len(accuracies),
                "accuracy_mean": float(np.mean(accuracies)) if accuracies else None,
                "accuracy_low": min(accuracies, default=None), "accuracy_high": max(accuracies, default=None),
                "target": self.target, "seeds_at_target": len(steps), "steps_to_target": median,
                "seconds_to_target": median * step_s if steps and step_s is not None else None,
                "seconds_per_step": step_s, "in_turn": bool(self.turns),
                "seconds_per_step_quartiles": json.dumps([round(float(value), 6) for value in
                                                          np.quantile(self.turns or [step_s or 0], (0.25, 0.75))]),
                "peak_memory_mib": max(outcome.peak_memory for outcome in self.outcomes) / MEBIBYTE,
                "state_mib": max(outcome.state_bytes for outcome in self.outcomes) / MEBIBYTE}


def best_number(outcomes: Sequence[Outcome], choose: str, target: float) -> int:
    """Which of the outcomes of one optimizer's settings is best; the first of equal ones.

    Args:
        outcomes: by number of the setting.
        choose: ``accuracy`` at the end, or fewest ``steps`` to ``target`` and, short of it, accuracy.
        target: 0 to 1.
    """
    def rank(number: int) -> tuple:
        outcome = outcomes[number]
        steps = outcome.steps_to(target) if choose == "steps" and outcome.accuracy is not None else None
        return steps is not None, -(steps or 0), -1 if outcome.accuracy is None else outcome.accuracy, -number
    return max(range(len(outcomes)), key=rank)


def cells(result: Result) -> tuple[str, ...]:
    """The row of the printed table, ``-`` where there is nothing to tell."""
    numbers = result.numbers()

    def show(name: str, form: str, factor: float = 1) -> str:
        return "-" if numbers[name] is None else format(factor * numbers[name], form)
    accuracy = f"{show('accuracy_mean', '.2f', 100)} %"
    if len(result.accuracies) > 1:
        accuracy += f" ({show('accuracy_low', '.2f', 100)} to {show('accuracy_high', '.2f', 100)})"
    if not result.accuracies:
        accuracy = "diverged"
    return (result.label, describe_setting(result.setting), accuracy, f"{len(result.steps)} of {len(result.outcomes)}",
            show("steps_to_target", ".0f"), show("seconds_to_target", ".1f"), show("seconds_per_step", ".1f", 1000),
            show("peak_memory_mib", ".0f"), show("state_mib", ".1f"))


def table(rows: Sequence[Sequence[str]], markdown: bool = False) -> str:
    """Rows as left-aligned columns; the first row is the head."""
    if markdown:
        lines = ["| " + " | ".join(row) + " |" for row in rows]
        return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def report(results: Sequence[Result], markdown: bool = False) -> str:
    """The table, the highest mean accuracy first."""
    ordered = sorted(results, key=lambda result: -np.mean(result.accuracies) if result.accuracies else 1.0)
    return table([HEAD, *map(cells, ordered)], markdown)


def verdict(results: Sequence[Result]) -> str:
    """Where THOR stands among those it was compared with, in a sentence each; "" if it was not among them."""
    thor = next((result for result in results if result.label == "thor" and result.accuracies), None)
    others = [result for result in results if result is not thor]
    if thor is None or not others:
        return ""
    mean = float(np.mean(thor.accuracies))
    above = [result.label for result in others if result.accuracies and np.mean(result.accuracies) > mean]
    lines = [_sentence("in final accuracy", above)]
    if not thor.steps:
        reached = [result.label for result in others if result.steps]
        return "\n".join([*lines, f"thor did not reach the target; {_names(reached)} did"])
    for what in ("steps", "seconds"):
        numbers = {result.label: result.numbers()[f"{what}_to_target"] for result in results}
        own = numbers.pop("thor")
        if own is not None:
            ahead = [label for label, value in numbers.items() if value is not None and value < own]
            lines.append(_sentence(f"in {what} to the target", ahead))
    return "\n".join(lines)


def _sentence(what: str, better: list[str]) -> str:
    return f"{what} thor is behind {_names(better)}" if better else f"{what} nothing is ahead of thor"


def _names(labels: list[str]) -> str:
    return ", ".join(labels) if labels else "none of the others"


def write_results(path: Path, results: Sequence[Result]) -> None:
    """One row an optimizer."""
    _write_csv(path, [result.numbers() for result in results])


def write_runs(path: Path, runs: Sequence[Run], outcomes: Sequence[Outcome], target: float) -> None:
    """One row a run, the search's and the seeds'."""
    _write_csv(path, [{"optimizer": run.label, "setting": json.dumps(run.setting), "seed": run.seed,
                       "ended": outcome.ended, "accuracy": outcome.accuracy,
                       "steps_to_target": outcome.steps_to(target), "seconds_per_step": outcome.step_seconds,
                       "peak_memory_mib": outcome.peak_memory / MEBIBYTE,
                       "state_mib": outcome.state_bytes / MEBIBYTE, "folder": str(run.folder)}
                      for run, outcome in zip(runs, outcomes)])


def _write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    part = path.with_suffix(".part")
    with open(part, "w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    part.replace(path)
