"""Independent pieces of host arithmetic on all cores, and memory that is used again."""
from __future__ import annotations

import functools
import math
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from thor.backends import blas

_one_at_a_time = threading.Lock()
_own = threading.local()


def for_each(function: Callable, items: Sequence) -> None:
    """Call ``function(item)`` for all items, which must not depend on one another.

    Every core takes the next item, with one BLAS thread each: two pools of threads would fight for the cores.
    With fewer items than cores the items run in turn, each with all of BLAS' own threads.
    """
    cores = len(os.sched_getaffinity(0))
    if cores == 1 or len(items) < cores:
        for item in items:
            function(item)
        return
    remaining = iter(items)  # shared: next() of an iterator is atomic under the interpreter's lock

    def work() -> None:
        for item in remaining:
            function(item)

    with _one_at_a_time, blas.libraries().limit(limits=1):
        helpers = [_pool(os.getpid(), cores - 1).submit(work) for _ in range(cores - 1)]
        work()
        for helper in helpers:
            helper.result()


def scratch(role: str, shape: tuple) -> np.ndarray:
    """Uninitialised float32 memory of this thread, the same for every call with this role.

    What a graph node returns is copied at once, so that the next node may use it again; memory that is new at
    every call costs more in page faults than the arithmetic that fills it.
    """
    size = math.prod(shape)
    buffers = _own.__dict__
    if role not in buffers or buffers[role].size < size:
        buffers[role] = np.empty(size, np.float32)
    return buffers[role][:size].reshape(shape)


def zeros(shape: tuple) -> np.ndarray:
    """Zeros that nobody may write to: memory that stays in the cache, where fresh zeros would be written first."""
    size = math.prod(shape)
    known = getattr(_own, "zeros", None)
    if known is None or known.size < size:
        known = _own.zeros = np.zeros(size, np.float32)
        known.flags.writeable = False
    return known[:size].reshape(shape)


@functools.cache
def _pool(process: int, workers: int) -> ThreadPoolExecutor:
    """Threads of this process; a forked one has none of its parent's."""
    return ThreadPoolExecutor(workers, f"thor-host-{process}")
