"""How old the weights are that a gradient of an asynchronous worker belongs to."""
from __future__ import annotations

import heapq

import numpy as np

from thor.checks import IN_RANGE, checked, integer, number

DISTRIBUTIONS = ("constant", "uniform", "poisson", "workers")


def draw_delays(distribution: str, steps: int, mean: float, longest: int, seed: int = 0) -> np.ndarray:
    """Delays of the steps of a run: updates others made between reading the weights and the own update.

    Args:
        distribution: ``constant`` (mean, rounded), ``uniform`` (0 to twice the mean), ``poisson``, or ``workers``:
            mean + 1 of them (rounded) with exponential computing times share the server, each reads the weights
            after its own update; their delays have that mean.
        steps: of the run, >= 1.
        mean: of the delay, before the cut, from 0 to 1e6.
        longest: longer delays are cut to it, >= 0; so many copies of the weights are kept.
        seed: of the draw, >= 0.

    Returns:
        int32 ``(steps,)``; in the first steps no delay is longer than the steps done.
    """
    if distribution not in DISTRIBUTIONS:
        raise ValueError(f"distribution={distribution!r}; must be one of {', '.join(DISTRIBUTIONS)}; "
                         "use constant for the same delay at every step")
    checked("steps", steps, integer(1), "give the steps of the run")
    checked("mean", mean, number(minimum=0, limit=10 ** 6), IN_RANGE)
    checked("longest", longest, integer(0), "use 0 for no delay")
    generator = np.random.default_rng(seed)
    if distribution == "constant":
        delays = np.full(steps, round(mean))
    elif distribution == "uniform":
        delays = generator.integers(0, round(2 * mean) + 1, steps)
    elif distribution == "poisson":
        delays = generator.poisson(mean, steps)
    else:
        delays = _of_workers(steps, round(mean) + 1, generator)
    return np.minimum(np.minimum(delays, longest), np.arange(steps)).astype(np.int32)


def _of_workers(steps: int, workers: int, generator: np.random.Generator) -> np.ndarray:
    """Whoever is ready first updates next; its delay is the updates since it last read the weights."""
    ready = [(time, worker) for worker, time in enumerate(generator.exponential(size=workers))]
    heapq.heapify(ready)
    read_at = np.zeros(workers, int)
    delays = np.empty(steps, int)
    for step in range(steps):
        time, worker = heapq.heappop(ready)
        delays[step] = step - read_at[worker]
        read_at[worker] = step + 1
        heapq.heappush(ready, (time + generator.exponential(), worker))
    return delays
