"""The zoo's first-order step of ResNet-50 beside PyTorch's on the same cores.

``python -m benchmarks.first_order --pytorch PYTHON``, an interpreter that has torch and torchvision. Processes take
turns (MindSpore, PyTorch, MindSpore, PyTorch); both train ResNet-50 (v1.5) in float32 by SGD with momentum 0.9 and
weight decay 5e-4 on the same shapes. MindSpore's side is that of :mod:`benchmarks.step_time`, with the instruction set
``models.device`` chooses.
"""
from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks import common

SIDES = ("mindspore", "pytorch")
ROUNDS = 2
LEARNING_RATE, MOMENTUM, WEIGHT_DECAY, CLASSES = 0.01, 0.9, 5e-4, 1000


def main(words: Sequence[str] | None = None) -> int:
    """Measure as the command line says; the exit status."""
    words = sys.argv[1:] if words is None else list(words)
    made = common.parser("first_order", "A momentum step of ResNet-50, MindSpore against PyTorch.")
    made.add_argument("--pytorch", metavar="PYTHON", default=sys.executable, help="interpreter with torch, torchvision")
    made.add_argument("--image-size", type=common.at_least(32), default=64, help="pixels a side")
    made.add_argument("--batch-size", type=common.at_least(1), default=32, help="images a step")
    made.add_argument("--side", choices=SIDES, help="only this one, here; prints its seconds")
    common.add_timing(made, warmup=4, repeats=9)
    options = made.parse_args(words)
    if options.side:
        print(json.dumps(seconds_of(STEPS[options.side](options), options)))
        return 0
    return common.run_measurement(lambda: measure(options, words), report, options.json)


def _mindspore_step(options: argparse.Namespace) -> Callable[[], Any]:
    """A call of the zoo's step."""
    from benchmarks import workload

    work = workload.Work(image_size=options.image_size, batch_size=options.batch_size, classes=CLASSES)
    network = workload.create_network(work)
    step, batch = workload.create_momentum_step(network, work), work.kind.create_batch(work)
    return lambda: step(*batch).asnumpy()


def _pytorch_step(options: argparse.Namespace) -> Callable[[], Any]:
    """The same step as a PyTorch program writes it."""
    import torch
    from torchvision.models import resnet50

    torch.manual_seed(options.seed)
    network, loss_of = resnet50(num_classes=CLASSES).train(), torch.nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(network.parameters(), LEARNING_RATE, MOMENTUM, weight_decay=WEIGHT_DECAY)
    images = torch.randn(options.batch_size, 3, options.image_size, options.image_size)
    labels = torch.randint(0, CLASSES, (options.batch_size,))

    def call():
        optimizer.zero_grad()
        loss = loss_of(network(images), labels)
        loss.backward()
        optimizer.step()
        return loss.item()
    return call


STEPS = {"mindspore": _mindspore_step, "pytorch": _pytorch_step}


def seconds_of(call: Callable[[], Any], options: argparse.Namespace) -> list[float]:
    """Seconds of each timed call."""
    seconds = []
    for _ in range(options.warmup + options.repeats):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return seconds[options.warmup:]


def measure(options: argparse.Namespace, words: Sequence[str]) -> dict[str, Any]:
    """Both sides, process after process."""
    seconds: dict[str, list[list[float]]] = {side: [] for side in SIDES}
    for _ in range(ROUNDS):
        for side in SIDES:
            python = options.pytorch if side == "pytorch" else sys.executable
            done = subprocess.run([python, "-m", "benchmarks.first_order", *words, "--side", side],
                                  capture_output=True, text=True, check=False)
            if done.returncode:
                raise common.BenchmarkError(f"--side={side} ended with status {done.returncode}; {python} must have "
                                            f"torch and torchvision: {done.stderr.strip()[-200:]}")
            seconds[side].append(json.loads(done.stdout.splitlines()[-1]))
    sides = {side: np.array(rounds).reshape(-1) for side, rounds in seconds.items()}
    return {"seconds": {side: float(np.median(values)) for side, values in sides.items()},
            "ratio": common.ratio(sides["mindspore"], sides["pytorch"]), "image_size": options.image_size,
            "batch_size": options.batch_size, "machine": common.machine()}


def report(numbers: dict[str, Any]) -> str:
    """The table to print."""
    rows = [("side", "seconds a step"), *((side, f"{value:.3f}") for side, value in numbers["seconds"].items())]
    size = numbers["image_size"]
    return "\n".join([f"ResNet-50, {size}x{size}, batch {numbers['batch_size']}, momentum",
                      common.describe(numbers["machine"]), "", common.table(rows), "",
                      f"MindSpore / PyTorch: {common.spread(numbers['ratio'])}"])


if __name__ == "__main__":
    sys.exit(main())
