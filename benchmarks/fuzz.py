"""How damaged input ends: ``python -m benchmarks.faults fuzz [--seed N] [--cases N] [--only PART ...]``.

Each case is one random damage, a function of the seed and its number. The table counts how the command ended: accepted,
told in one line or in several, a traceback, a crash (a signal) or a hang. The status is 1 if there are any of the last
four. Without ``--cases`` there are 500 configurations, 200 data files and 100 checkpoints.
"""
from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import ModuleType

from benchmarks.fuzzing import checkpoints, configurations, datasets
from benchmarks.fuzzing.processes import ACCEPTED, LINE, OUTCOMES, run_all

PARTS: dict[str, tuple[ModuleType, int]] = {
    "configurations": (configurations, 500), "data": (datasets, 200), "checkpoints": (checkpoints, 100)}
Row = tuple[str, Counter]


def main(words: Sequence[str] | None = None) -> int:
    """Run the parts and print the table; the exit status."""
    made = argparse.ArgumentParser(prog="python -m benchmarks.faults fuzz",
                                   description="Damaged input, and how it is met.")
    made.add_argument("--seed", type=int, default=1)
    made.add_argument("--cases", type=int, help="of each part, instead of 500, 200 and 100")
    made.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    made.add_argument("--limit", type=float, default=60.0, help="seconds after which a case counts as a hang")
    made.add_argument("--show", nargs="*", choices=OUTCOMES, default=list(OUTCOMES[2:]), help="print these cases")
    known = made.parse_args(words)
    os.environ.setdefault("GLOG_v", "4")
    rows: list[Row] = []
    for name in known.only:
        module, count = PARTS[name]
        rows += fuzz(module, known.cases or count, known.seed, known.limit, known.show)
    print(table(rows))
    return int(any(count for _, counts in rows for outcome, count in counts.items() if outcome not in (ACCEPTED, LINE)))


def fuzz(module: ModuleType, cases: int, seed: int, limit: float, show: Sequence[str] = ()) -> list[Row]:
    """Run the cases of a part, its kinds in turn.

    Args:
        module: has ``KINDS``, ``make(kind, folder, chance)`` and ``work(case)``, and maybe ``prepare(folder)``.
        cases: how many.
        seed: of the damage.
        limit: seconds of a case.
        show: outcomes whose cases are printed with what they said.
    """
    import mindspore  # noqa: F401  before forking, so that the cases need not

    counts = {kind: Counter() for kind in module.KINDS}
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        folder = Path(name)
        if hasattr(module, "prepare"):
            (outcome, said), = run_all([folder], lambda path: module.prepare(path) or 0, 600)
            if outcome != ACCEPTED:
                raise RuntimeError(f"the whole files could not be made: {said}")
        numbers = range(cases)
        results = run_all(numbers, partial(_case, module, seed, folder), limit)
        for number, (outcome, said) in zip(numbers, results):
            kind = _kind(module, number)
            counts[kind][outcome] += 1
            if outcome in show:
                print(f"--seed {seed}, case {number}, {kind}: {outcome}\n{said}", file=sys.stderr)
    return list(counts.items())


def _kind(module: ModuleType, number: int) -> str:
    return module.KINDS[number % len(module.KINDS)]


def _case(module: ModuleType, seed: int, folder: Path, number: int) -> int:
    kind = _kind(module, number)
    return module.work(module.make(kind, folder, random.Random(f"{seed} {kind} {number}")))


def table(rows: Sequence[Row]) -> str:
    """Outcomes of each kind of input, and of all, in Markdown."""
    total: Counter = sum((counts for _, counts in rows), Counter())
    lines = ["| damaged | cases | " + " | ".join(OUTCOMES) + " |", "|---|" + "---:|" * (len(OUTCOMES) + 1)]
    for name, counts in (*rows, ("all", total)):
        lines.append(f"| {name} | {sum(counts.values())} | " + " | ".join(str(counts[o]) for o in OUTCOMES) + " |")
    return "\n".join(lines)
