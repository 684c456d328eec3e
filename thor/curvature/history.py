"""The last two factors of every block, to compare the next with: what SP-NGD's rule needs."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from mindspore import Parameter, ParameterTuple, Tensor, nn, ops

from thor.backends.inversion import part


class FactorHistory(nn.Cell):
    """Keeps two copies of all factors.

    Args:
        batches: of blocks, see :class:`thor.curvature.refresh.BlockBatch`.
        sum_of_blocks: sums the blocks of all batches to factors, ``(n_factors, n_blocks)``.
    """

    def __init__(self, batches: Sequence[Any], sum_of_blocks: Tensor):
        super().__init__(auto_prefix=False)
        self.sum_of_blocks = sum_of_blocks
        self.spans = tuple(batch.span for batch in batches)

        def state(name: str) -> ParameterTuple:
            return ParameterTuple([Parameter(Tensor(np.zeros(batch.inverses.shape, np.float32)),
                                             name=f"{name}_{batch.inverses.shape[-1]}", requires_grad=False)
                                   for batch in batches])

        self.latest, self.earlier = state("last_factors"), state("earlier_factors")
        self.concat = ops.Concat()

    def distances(self, factors, measured_calls):
        """Relative distances of each factor from the last and the one before, ``(n_factors,)`` both.

        Args:
            factors: blocks and their scale of every batch.
            measured_calls: calls that measured each factor, ``(n_factors,)``.
        """
        squares = ()
        for i, (blocks, scale) in enumerate(factors):
            squares = squares + (self.squared_distances(blocks * scale, self.latest[i] + 0.0, self.earlier[i] + 0.0),)
        sums = ops.matmul(self.sum_of_blocks, self.concat(squares))  # (n_factors, 4)
        known = ops.logical_and(ops.stack((sums[:, 1], sums[:, 3]), 1) > 0, measured_calls.reshape(-1, 1) > 0)
        ratios = ops.sqrt(ops.stack((sums[:, 0] / sums[:, 1], sums[:, 2] / sums[:, 3]), 1))
        ratios = ops.select(known, ratios, ops.full_like(ratios, np.inf))
        return ratios[:, 0], ratios[:, 1]

    def squared_distances(self, factors, latest, earlier):
        """``|X - Y|^2, |Y|^2, |X - Z|^2, |Z|^2`` of every block, ``(n_blocks, 4)``; Y is the last factor, Z earlier."""
        norms = [(m * m).sum(axis=(1, 2)) for m in (factors - latest, latest, factors - earlier, earlier)]
        norms = ops.stack(norms, 1)
        return ops.select(ops.isfinite(norms), norms, ops.zeros_like(norms))

    def remember(self, factors, wanted):
        """Move the factors whose blocks are ``wanted`` to the last, and the last to the earlier ones."""
        for i, (blocks, scale) in enumerate(factors):
            taken = part(wanted, self.spans[i]) > 0
            earlier = ops.where(taken, self.latest[i], self.earlier[i])
            ops.assign(self.earlier[i], earlier)
            ops.assign(self.latest[i], ops.where(taken, blocks * scale, ops.depend(self.latest[i], earlier)))
        return wanted
