"""The goals and what was measured: ``python -m benchmarks --output DIR [--pytorch PYTHON]``.

Runs every benchmark of the table whose numbers are not in DIR yet (all of them take an hour and a half on two idle
cores, most of it ``time_to_target``), then prints the table. ``--only NAME ...`` runs and prints some of them.
"""
from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import common

PROGRAMS = {
    "resnet50": ["step_time", "--warmup", "8", "--repeats", "11"],
    "bert": ["step_time", "--model", "bert", "--warmup", "10", "--repeats", "15"],
    "inverse": ["inverse"],
    "memory": ["memory"],
    "peers": ["peers"],
    "import_time": ["import_time"],
    "time_to_target": ["time_to_target"],
}


@dataclass(frozen=True)
class Goal:
    """A row of the table.

    Args:
        what: is measured.
        program: whose numbers hold it.
        limit: the largest value that meets the goal.
        value, floor: read from the numbers; ``floor`` is None where there is none.
    """

    what: str
    program: str
    limit: float
    value: Callable[[dict[str, Any]], float | None]
    floor: Callable[[dict[str, Any]], float] | None = None

    def row(self, numbers: dict[str, Any]) -> tuple[str, ...]:
        """What, measured, floor, goal and whether it is met."""
        value = self.value(numbers)
        floor = "" if self.floor is None else f"{self.floor(numbers):.3g}"
        met = value is not None and value <= self.limit
        return (self.what, "not reached" if value is None else f"{value:.3g}", floor, f"{self.limit:g}",
                "met" if met else "missed")


def floor_of(step: str) -> Callable[[dict[str, Any]], float]:
    """The least ratio to momentum of a kind of step, from the seconds its products must take."""
    def read(numbers):
        floors = {name: 1 + numbers["floor_s"][name] / numbers["momentum_s"] for name in ("stale", "refresh")}
        if step == "amortised":
            return common.amortised(floors["stale"], floors["refresh"], numbers["work"]["frequency"])
        return floors[step]
    return read


def _step_goals(program: str, work: str, limits: Sequence[float]) -> list[Goal]:
    """The three ratios of ``step_time``."""
    names = ("stale", "refresh", "amortised")
    return [Goal(f"{work}: {name} / momentum", program, limit,
                 lambda numbers, name=name: numbers[f"{name}_ratio"], floor_of(name))
            for name, limit in zip(names, limits)]


GOALS = [
    *_step_goals("resnet50", "ResNet-50, 64x64, batch 32", (1.12, 1.35, 1.12)),
    Goal("ResNet-50: both graphs, compiling / momentum's", "resnet50", 5.0, lambda numbers: numbers["compile_ratio"],
         lambda numbers: 2.0),
    *_step_goals("bert", "BERT, 4 x 256, sequence 128, batch 32", (1.01, 1.15, 1.01)),
    Goal("inverses of ResNet-50's blocks / LAPACK's", "inverse", 1.0, lambda numbers: numbers["inverse_ratio"]),
    Goal("state beyond momentum's, ResNet-50, MiB", "memory", 100.0, lambda numbers: numbers["state_mib"]),
    Goal("momentum step, ResNet-50, MindSpore / PyTorch", "peers", 1.0,
         lambda numbers: numbers["ratio"]["ratio"]),
    Goal("ResNet-50, amortised: THOR / kfac-pytorch, seconds", "peers", 0.45,
         lambda numbers: numbers["amortised_ratio"]["ratio"]),
    Goal("import thor, seconds", "import_time", 0.1, lambda numbers: numbers["import_s"]),
    Goal("91 % on Fashion-MNIST: time / the best of four others", "time_to_target", 0.6,
         lambda numbers: numbers["time_ratio"], lambda numbers: numbers["steps_ratio"] or float("nan")),
]


def main(words: Sequence[str] | None = None) -> int:
    """Run what is left; the exit status."""
    made = common.parser("goals", "The goals of speed and what was measured.")
    made.prog = "python -m benchmarks"
    made.add_argument("--output", required=True, type=Path, metavar="DIR", help="numbers of each benchmark")
    made.add_argument("--only", nargs="+", choices=list(PROGRAMS), default=list(PROGRAMS), help="these benchmarks")
    made.add_argument("--pytorch", metavar="PYTHON", help="with torch and kfac-pytorch; without, peers is left out")
    options = made.parse_args(words)
    names = [name for name in options.only if name != "peers" or options.pytorch]

    def measure() -> dict[str, Any]:
        options.output.mkdir(parents=True, exist_ok=True)
        return {name: _numbers_of(name, options) for name in names}
    return common.run_measurement(measure, report, options.json)


def _numbers_of(name: str, options: Any) -> dict[str, Any]:
    """Numbers of a benchmark, run unless they are there."""
    path = options.output / f"{name}.json"
    if not path.exists():
        more = ["--pytorch", options.pytorch] if name == "peers" else []
        command = [sys.executable, "-m", f"benchmarks.{PROGRAMS[name][0]}", *PROGRAMS[name][1:], *more,
                   "--json", str(path)]
        print(" ".join(command[1:]), flush=True)
        status = subprocess.call(command)
        if status:
            raise common.BenchmarkError(f"benchmarks.{PROGRAMS[name][0]} ended with status {status}")
    return json.loads(path.read_text(encoding="utf-8"))


def report(numbers: dict[str, dict[str, Any]]) -> str:
    """The table to print."""
    rows = [("", "measured", "floor", "goal", "")]
    rows += [goal.row(numbers[goal.program]) for goal in GOALS if goal.program in numbers]
    machines = {common.describe(found["machine"]) for found in numbers.values()}
    return "\n".join([*sorted(machines), "", common.table(rows)])


if __name__ == "__main__":
    sys.exit(main())
