"""THOR beside PyTorch and kfac-pytorch: the same network, batch and first-order update, in turn on the same cores.

``python -m benchmarks.peers --pytorch PYTHON``, an interpreter that has torch and kfac-pytorch. MindSpore's sides are
those of :mod:`benchmarks.step_time`; PyTorch's run in a process of that interpreter, :mod:`benchmarks.peers_torch`,
which rests while the others are timed.
"""
from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import common

PROGRAM = Path(__file__).with_name("peers_torch.py")
PYTORCH = {"SGD": "PyTorch, SGD with momentum", "kfac_stale": "kfac-pytorch, stale",
           "kfac_refresh": "kfac-pytorch, refresh"}
MINDSPORE = {"momentum": "MindSpore, momentum", "stale": "THOR, stale", "refresh": "THOR, refresh"}


def main(words: Sequence[str] | None = None) -> int:
    """Measure as the command line says; the exit status."""
    made = common.parser("peers", "ResNet-50 by THOR, momentum, PyTorch's SGD and kfac-pytorch, on the same cores.")
    made.add_argument("--pytorch", metavar="PYTHON", default=sys.executable,
                      help="interpreter with torch and kfac-pytorch")
    made.add_argument("--image-size", type=common.at_least(32), default=64, help="pixels a side")
    made.add_argument("--batch-size", type=common.at_least(1), default=32, help="images a step")
    made.add_argument("--frequency", type=common.at_least(1), default=100, help="steps a refresh")
    common.add_timing(made, warmup=2, repeats=5)
    options = made.parse_args(words)
    return common.run_measurement(lambda: measure(options), report, options.json)


@contextmanager
def pytorch_sides(options: argparse.Namespace) -> Iterator[dict[str, Callable[[], Any]]]:
    """Calls of PyTorch's steps by name; their process ends with the block."""
    command = [options.pytorch, str(PROGRAM), str(options.image_size), str(options.batch_size), str(options.seed)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               text=True)

    def call(name: str) -> float:
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        try:
            process.stdin.write(name + "\n")
            process.stdin.flush()
            answer = process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            reason = (process.stderr.read().strip().splitlines() or ["it ended"])[-1]
            raise common.BenchmarkError(f"--pytorch={options.pytorch}; must have torch and kfac-pytorch: {reason}")
        return json.loads(answer)

    try:
        yield {name: lambda name=name: call(name) for name in PYTORCH}
    finally:
        process.kill()
        process.communicate()


def mindspore_sides(options: argparse.Namespace) -> dict[str, Callable[[], Any]]:
    """Calls of MindSpore's steps by name, momentum's first."""
    from benchmarks import workload
    from models.turns import step_at

    work = workload.Work(image_size=options.image_size, batch_size=options.batch_size, frequency=options.frequency,
                         seed=options.seed)
    first_order, second_order = workload.create_network(work), workload.create_network(work)
    batch = work.kind.create_batch(work)
    momentum, thor = workload.create_momentum_step(first_order, work), workload.create_thor_step(second_order, work)
    return {"momentum": step_at(momentum, momentum.optimizer, batch),
            "stale": step_at(thor, thor.optimizer, batch, 1), "refresh": step_at(thor, thor.optimizer, batch, 0)}


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All sides in turn."""
    with pytorch_sides(options) as pytorch:
        pytorch["SGD"]()  # an interpreter without torch is told before anything is compiled
        sides = {**mindspore_sides(options), **pytorch}
        seconds = common.measure_in_turn(sides, options.warmup, options.repeats)
    return summary(seconds, options)


def summary(seconds: dict[str, np.ndarray], options: argparse.Namespace) -> dict[str, Any]:
    """Medians, and the ratios that compare."""
    thor = common.amortised(seconds["stale"], seconds["refresh"], options.frequency)
    kfac = common.amortised(seconds["kfac_stale"], seconds["kfac_refresh"], options.frequency)
    return {"seconds": {name: float(np.median(values)) for name, values in seconds.items()},
            "ratio": common.ratio(seconds["momentum"], seconds["SGD"]), "amortised_ratio": common.ratio(thor, kfac),
            "to_first_order": {name: common.ratio(values, seconds["momentum" if name in MINDSPORE else "SGD"])
                               for name, values in seconds.items()},
            "frequency": options.frequency, "image_size": options.image_size, "batch_size": options.batch_size,
            "machine": common.machine()}


def report(numbers: dict[str, Any]) -> str:
    """The table to print."""
    rows = [("step", "seconds", "to the first-order step of its framework")]
    for name, text in {**PYTORCH, **MINDSPORE}.items():
        rows.append((text, f"{numbers['seconds'][name]:.3f}", common.spread(numbers["to_first_order"][name])))
    size = numbers["image_size"]
    return "\n".join([
        f"ResNet-50, {size}x{size}, batch {numbers['batch_size']}, float32; kfac-pytorch has whole matrices, THOR "
        "blocks of 128",
        common.describe(numbers["machine"]), "", common.table(rows), "",
        f"MindSpore's momentum / PyTorch's: {common.spread(numbers['ratio'])}",
        f"amortised over {numbers['frequency']} steps, THOR / kfac-pytorch: "
        f"{common.spread(numbers['amortised_ratio'])}"])


if __name__ == "__main__":
    sys.exit(main())
