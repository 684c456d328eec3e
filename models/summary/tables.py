"""The tables of a summary."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from models.summary.reading import FoundRun, differing_settings, labels
from thor.checks import shortened


def results_table(runs: Sequence[FoundRun]) -> str:
    """A row for each run."""
    rows = [("run", "state", "final accuracy", "best accuracy", "at step", "held-out loss", "steps", "seconds")]
    for name, run in zip(labels(runs), runs):
        best = run.best or (None, None)
        rows.append((name, run.state, _number(run.final, ".4f"), _number(best[1], ".4f"), _number(best[0], "d"),
                     _number(run.last("eval_loss"), ".4f"), str(run.steps), _number(run.last("seconds"), ".1f")))
    averages = [run.last("eval_ema_accuracy") for run in runs]
    if any(value is not None for value in averages):
        rows = [(*row, cell) for row, cell in zip(rows, ("of averages", *(_number(x, ".4f") for x in averages)))]
    return aligned(rows)


def settings_table(runs: Sequence[FoundRun]) -> str:
    """A row for each setting that differs, a column for each run."""
    settings = differing_settings(runs)
    if not settings:
        return "all settings are the same" if len(runs) > 1 else ""
    rows: list[tuple[str, ...]] = [("setting", *labels(runs))]
    rows += [(name, *(shortened(str(value), 40) for value in values)) for name, values in settings.items()]
    return aligned(rows)


def _number(value: Any, form: str) -> str:
    return "-" if value is None else format(value, form)


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Rows as columns of equal width, the first row as the head."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])
