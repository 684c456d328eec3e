"""What the split procedure needs of a network, its data and a device: whole factors, and seconds of an inverse."""
from __future__ import annotations

import statistics
import time
from typing import Any

import numpy as np
from mindspore import Tensor, ops

from thor.optimizer import SECOND_ORDER

ELEMENTS_AT_ONCE = 2 ** 22  # of the batch of blocks whose inverse is timed


def measure_factors(step: Any, batches: Any) -> list[np.ndarray]:
    """Whole factors ``(rows, rows)`` of every layer, averaged over batches, at the weights as they are.

    Args:
        step: what ``thor.train.make_train_step`` made for a THOR with ``split_dim=None``.
    """
    optimizer, network = step.optimizer, step.second_order.network
    wanted = [factor.parameter for layer in optimizer.registration.layers if layer.has_kronecker_factors
              for factor in layer.factors]
    gradient = ops.grad(network, None, wanted)
    sums: list[Any] = [0.0] * len(wanted)
    with optimizer.using_graph(SECOND_ORDER):
        for batch in batches:
            sums = [total + measured.asnumpy().astype(np.float64)
                    for total, measured in zip(sums, gradient(*batch))]
    return [matrix for total in sums for matrix in total if np.isfinite(matrix).all()]


def seconds_of_inverse(backend: Any, size: int, repeats: int = 5) -> float:
    """Seconds to invert one damped block of ``size`` rows, as one of a batch."""
    count = max(1, min(1024, ELEMENTS_AT_ONCE // size ** 2))
    rows = np.random.default_rng(0).standard_normal((size, 2 * size)).astype(np.float32)
    blocks = Tensor(np.broadcast_to(rows @ rows.T / (2 * size), (count, size, size)).copy())
    damping = Tensor(np.full((count, 1, 1), 0.1, np.float32))

    def call() -> float:
        began = time.perf_counter()
        backend.damped_inverse(blocks, damping)[1].asnumpy()
        return (time.perf_counter() - began) / count

    call()
    return statistics.median(call() for _ in range(repeats))
