"""Timing in turn, so that other work on the machine slows all sides alike. Importing it does not import MindSpore."""
from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np


def measure_in_turn(sides: dict[str, Callable[[], Any]], warmup: int, repeats: int,
                    clock: Callable[[], float] = time.perf_counter) -> dict[str, np.ndarray]:
    """Call all sides in turn, A B A B, and time each call.

    Args:
        sides: functions by name; each must not return before its work is done.
        warmup: rounds that are not timed.
        repeats: rounds that are.

    Returns:
        Seconds ``(repeats,)`` of each side.
    """
    seconds = {name: np.empty(repeats) for name in sides}
    for turn in range(-warmup, repeats):
        for name, call in sides.items():
            start = clock()
            call()
            if turn >= 0:
                seconds[name][turn] = clock() - start
    return seconds


def step_at(step: Any, optimizer: Any, batch: Sequence[Any], position: int | None = None) -> Callable[[], Any]:
    """A call of a train step; of THOR's as at ``position`` steps after a refresh, 0 refreshes."""
    from mindspore import Tensor, ops

    at = None if position is None else Tensor([position], optimizer.global_step.dtype)

    def call() -> Any:
        if at is not None:
            ops.assign(optimizer.global_step, at)
        return step(*batch).asnumpy()
    return call
