"""What benchmarks.time_to_target makes of finished runs and seconds a step: numbers, curves, the table."""
from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks import common

LOWER = (0.01, 0.02)  # below the target; what a search whose runs end short of it still says


def line(run: dict[str, Any]) -> str:
    """A finished run in one line."""
    end = "reached the target" if run["reached"] else "did not reach the target"
    setting = " ".join(f"{key.rpartition('.')[0].rpartition('.')[2] or key}.{key.rpartition('.')[2]}={value}"
                       for key, value in run["identity"]["setting"].items())
    return (f"{run['identity']['optimizer']:<9} {run['steps']:5d} steps, best {100 * highest(run):.2f} %, "
            f"{end}: {setting}")


def highest(run: dict[str, Any]) -> float:
    """Highest accuracy of a run; 0 if it was never evaluated."""
    return max((accuracy for _, accuracy in run["accuracies"]), default=0.0)


def steps_to(run: dict[str, Any], level: float) -> int | None:
    """Steps at a run's first evaluation of ``level`` or more, None if there is none."""
    return next((step for step, accuracy in run["accuracies"] if accuracy >= level), None)


def seconds_for(name: str, steps: int, times: dict[str, np.ndarray], every: int) -> np.ndarray:
    """Seconds ``(rounds,)`` of the first ``steps``; THOR refreshes before the first and after ``every`` so many."""
    if name != "thor":
        return steps * times[name]
    refreshes = -(-steps // every)
    return refreshes * times["refresh"] + (steps - refreshes) * times["stale"]


def summary(runs: list[dict[str, Any]], times: dict[str, np.ndarray], every: int, target: float) -> dict[str, Any]:
    """Results at the target, and ``lower`` for the same at accuracies below it.

    Args:
        runs: finished runs.
        times: seconds a step ``(rounds,)`` by optimizer, THOR's as stale and refresh.
        every: THOR's frequency.
        target: accuracy, 0 to 1.
    """
    names = {run["identity"]["optimizer"] for run in runs}
    return {**_level_summary(runs, times, every, target), "target": target, "runs": runs, "frequency": every,
            "settings_each": len(runs) // max(len(names), 1),
            "step_seconds": {name: list(values) for name, values in times.items()},
            "lower": {str(round(target - less, 4)): _level_summary(runs, times, every, round(target - less, 4))
                      for less in LOWER}}


def _level_summary(runs: list[dict[str, Any]], times: dict[str, np.ndarray], every: int,
                   level: float) -> dict[str, Any]:
    """Steps, seconds and seconds a step to an accuracy, and THOR's relative to the best of the others.

    Returns:
        ``best`` by optimizer: the run with the fewest steps, None if none reached it. ``time_ratio``,
        ``steps_ratio`` and ``step_ratio`` are None unless THOR and another reached it.
    """
    best: dict[str, Any] = {}
    for run in runs:
        name, steps = run["identity"]["optimizer"], steps_to(run, level)
        best.setdefault(name, None)
        if steps is not None and (best[name] is None or steps < best[name]["steps"]):
            seconds = float(np.median(seconds_for(name, steps, times, every)))
            best[name] = {"steps": steps, "seconds": seconds, "step_s": seconds / steps}
    numbers: dict[str, Any] = {"best": best, "time_ratio": None, "steps_ratio": None, "step_ratio": None}
    others = {name: found for name, found in best.items() if name != "thor" and found}
    if best.get("thor") and others:
        other = min(others, key=lambda name: others[name]["seconds"])
        thor_s, other_s = (seconds_for(name, best[name]["steps"], times, every) for name in ("thor", other))
        result = common.ratio(thor_s, other_s)
        steps = best["thor"]["steps"] / best[other]["steps"]
        numbers.update(best_other=other, time_ratio=result["ratio"], steps_ratio=steps,
                       step_ratio=result["ratio"] / steps, time_ratio_quartiles=[result["low"], result["high"]])
    return numbers


def curves(numbers: dict[str, Any]) -> list[dict[str, Any]]:
    """What to draw: of every run its steps, seconds and accuracies, and whether it is its optimizer's best."""
    times = {name: np.array([np.median(values)]) for name, values in numbers["step_seconds"].items()}
    runs, chosen = numbers["runs"], {}
    for number, run in enumerate(runs):
        rank = (run["reached"], -run["steps"] if run["reached"] else highest(run))
        name = run["identity"]["optimizer"]
        chosen[name] = max(chosen.get(name, (rank, number)), (rank, number), key=lambda pair: pair[0])
    drawn = []
    for number, run in enumerate(runs):
        name = run["identity"]["optimizer"]
        steps = [step for step, _ in run["accuracies"]]
        seconds = [float(seconds_for(name, step, times, numbers["frequency"])[0]) for step in steps]
        drawn.append({"name": name, "steps": steps, "seconds": seconds, "best": chosen[name][1] == number,
                      "accuracies": [accuracy for _, accuracy in run["accuracies"]]})
    return drawn


def report(numbers: dict[str, Any]) -> str:
    """The tables to print: one for the target, one for each lower accuracy."""
    steps = [(name, *(f"{np.quantile(values, part):.4f}" for part in (0.5, 0.25, 0.75)))
             for name, values in numbers["step_seconds"].items()]
    highest_rows = [(name, f"{100 * max(map(highest, own)):.2f} %") for name, own in _by_optimizer(numbers).items()]
    tables = [_level_report(numbers, numbers, numbers["target"])]
    tables += [_level_report(numbers, results, float(level)) for level, results in numbers["lower"].items()]
    return "\n".join(["", f"{numbers['settings_each']} settings each, {common.describe(numbers['machine'])}", "",
                      common.table([("optimizer", "highest test accuracy"), *highest_rows]), "",
                      f"seconds a step, {numbers['repeats']} rounds in turn after {numbers['warmup']}",
                      common.table([("side", "median", "low quartile", "high quartile"), *steps]), *tables])


def _level_report(numbers: dict[str, Any], results: dict[str, Any], level: float) -> str:
    """The table of one accuracy and THOR's ratio to the best of the others."""
    rows = [("optimizer", "reached by", "steps", "seconds a step", "seconds")]
    for name, found in results["best"].items():
        own = _by_optimizer(numbers)[name]
        reached = sum(steps_to(run, level) is not None for run in own)
        rows.append((name, f"{reached} of {len(own)}", *((found["steps"], f"{found['step_s']:.4f}",
                                                          f"{found['seconds']:.1f}") if found else "---")))
    if results["time_ratio"] is None:
        end = "THOR to the best of the others: not both reached it"
    else:
        low, high = results["time_ratio_quartiles"]
        end = (f"THOR to {results['best_other']}, the best of the others: time "
               f"{common.spread({'ratio': results['time_ratio'], 'low': low, 'high': high})} = steps "
               f"{results['steps_ratio']:.3f} x seconds a step {results['step_ratio']:.3f}")
    return "\n".join(["", f"to {100 * level:g} % test accuracy", common.table(rows), end])


def _by_optimizer(numbers: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Runs by optimizer."""
    found: dict[str, list[dict[str, Any]]] = {}
    for run in numbers["runs"]:
        found.setdefault(run["identity"]["optimizer"], []).append(run)
    return found
