"""Cells that only the benchmarks compile."""
from __future__ import annotations

from mindspore import nn


class InverseGraph(nn.Cell):
    """``backend.damped_inverse`` of several batches; blocks and damping in turn to inverses."""

    def __init__(self, backend, batches: int):
        super().__init__(auto_prefix=False)
        self.backend = backend
        self.batches = batches

    def construct(self, *inputs):
        inverses = ()
        for i in range(self.batches):
            inverses = inverses + (self.backend.damped_inverse(inputs[2 * i], inputs[2 * i + 1])[0],)
        return inverses
