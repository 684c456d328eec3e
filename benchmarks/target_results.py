"""What benchmarks.time_to_target makes of finished runs and seconds a step: numbers, curves, the table."""
from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks import common


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


def seconds_for(name: str, steps: int, times: dict[str, np.ndarray], every: int) -> np.ndarray:
    """Seconds ``(rounds,)`` of the first ``steps``; THOR refreshes before the first and after ``every`` so many."""
    if name != "thor":
        return steps * times[name]
    refreshes = -(-steps // every)
    return refreshes * times["refresh"] + (steps - refreshes) * times["stale"]


def summary(runs: list[dict[str, Any]], times: dict[str, np.ndarray], every: int) -> dict[str, Any]:
    """Steps, seconds a step and seconds to the target of each optimizer, and THOR's relative to the best other.

    Args:
        runs: finished runs.
        times: seconds a step ``(rounds,)`` by optimizer, THOR's as stale and refresh.
        every: THOR's frequency.

    Returns:
        ``best`` by optimizer: the run with the fewest steps to the target, None if there is none. ``time_ratio``,
        ``steps_ratio`` and ``step_ratio`` are None unless THOR and another reached it.
    """
    best: dict[str, Any] = {}
    for run in runs:
        name = run["identity"]["optimizer"]
        best.setdefault(name, None)
        if run["reached"] and (best[name] is None or run["steps"] < best[name]["steps"]):
            seconds = seconds_for(name, run["steps"], times, every)
            best[name] = {"steps": run["steps"], "seconds": float(np.median(seconds)),
                          "step_s": float(np.median(seconds)) / run["steps"]}
    numbers = {"best": best, "runs": runs, "frequency": every, "settings_each": len(runs) // max(len(best), 1),
               "step_seconds": {name: list(values) for name, values in times.items()},
               "time_ratio": None, "steps_ratio": None, "step_ratio": None}
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
    """The table to print."""
    rows = [("optimizer", "reached by", "highest", "steps", "seconds a step", "seconds to the target")]
    for name, found in numbers["best"].items():
        own = [run for run in numbers["runs"] if run["identity"]["optimizer"] == name]
        rows.append((name, f"{sum(run['reached'] for run in own)} of {len(own)} settings",
                     f"{100 * max(map(highest, own)):.2f} %",
                     *((found["steps"], f"{found['step_s']:.4f}", f"{found['seconds']:.1f}") if found
                       else ("-", "-", "-"))))
    steps = [f"{name} {np.median(values):.4f} ({np.quantile(values, 0.25):.4f} to {np.quantile(values, 0.75):.4f})"
             for name, values in numbers["step_seconds"].items()]
    if numbers["time_ratio"] is None:
        end = "THOR to the best of the others: not both reached the target"
    else:
        low, high = numbers["time_ratio_quartiles"]
        end = (f"THOR to {numbers['best_other']}, the best of the others: time "
               f"{common.spread({'ratio': numbers['time_ratio'], 'low': low, 'high': high})} = steps "
               f"{numbers['steps_ratio']:.3f} x seconds a step {numbers['step_ratio']:.3f}")
    return "\n".join(["", f"target {100 * numbers['target']:g} % test accuracy, "
                      f"{numbers['settings_each']} settings each",
                      common.describe(numbers["machine"]), "", common.table(rows), "",
                      f"seconds a step, {numbers['repeats']} rounds in turn after {numbers['warmup']}: "
                      + ", ".join(steps), end])
