"""All blocks of one size, over all layers: one batch for the device instead of many small operators."""
from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops

from thor.backends.base import Backend
from thor.curvature.preconditioners import BlockFactor
from thor.curvature.settings import CurvatureSettings


class BlockBatch(nn.Cell):
    """The blocks of one size: gathered, scaled to factors, inverted and given back.

    Args:
        members: factors with blocks of this size.
        measurements: index of each member's measurement among the step's gradients.
        layers: index of each member's layer among the layers that have factors.
        places: index of each member among all factors of the network.
        selective: only some of the factors are refreshed at a time.
        compares: keep the last two factors to compare the next with.
    """

    def __init__(self, backend: Backend, settings: CurvatureSettings, members: list[BlockFactor],
                 measurements: list[int], layers: list[int], places: list[int], selective: bool, compares: bool):
        super().__init__(auto_prefix=False)
        self.average = settings.running_average
        self.factors = ms.ParameterTuple([m.factor for m in members])
        self.inverses = ms.ParameterTuple([m.inverse for m in members])
        self.measurements = tuple(measurements)
        counts = [m.factor.shape[0] for m in members]
        starts = np.concatenate(([0], np.cumsum(counts)[:-1]))
        size = members[0].factor.shape[-1]
        self.slices = tuple(((int(start), 0, 0), (count, size, size)) for start, count in zip(starts, counts))
        self.of_layer = Tensor(np.repeat(layers, counts), ms.int32)  # (n_blocks,)
        self.of_factor = Tensor(np.repeat(places, counts), ms.int32)  # (n_blocks,)
        roles = np.repeat([m.role for m in members], counts)
        self.is_a = Tensor((roles == "a").reshape(-1, 1, 1))
        self.is_unit = Tensor((roles == "unit").reshape(-1, 1, 1))
        self.inverse = create_inverse(backend, selective, self.slices)
        self.compares = compares
        if compares:
            self.last = Parameter(Tensor(np.zeros((sum(counts), size, size), np.float32)),
                                  name=f"last_factors_{size}", requires_grad=False)
            self.earlier = self.last.clone()
            self.earlier.name = f"earlier_factors_{size}"
        self.concat, self.gather, self.diagonal_stride = ops.Concat(), ops.Gather(), size + 1

    def per_block(self, values, index):
        """``values`` (n,) picked for every block, ``(n_blocks, 1, 1)``."""
        return self.gather(values, index, 0).reshape(-1, 1, 1)

    def measure(self, gradients, measured, gradient_scale):
        """Factors ``(n_blocks, size, size)`` of this step; not finite where nothing was measured.

        Args:
            measured: calls that measured each factor, ``(n_factors,)``.
        """
        blocks = self.concat(tuple([gradients[i] for i in self.measurements]))
        calls = self.per_block(measured, self.of_factor)
        scale = ops.select(self.is_a, ops.ones_like(calls), gradient_scale * ops.ones_like(calls))
        factors = blocks * (scale / calls)
        if self.average == 0.0:
            return factors
        stored = self.concat(self.factors)
        weight = self.average * (ops.abs(stored).sum(axis=(1, 2), keepdims=True) > 0).astype(ms.float32)
        return weight * stored + (1.0 - weight) * factors

    def diagonals(self, blocks):
        """``(n_blocks, size)`` of blocks ``(n_blocks, size, size)``."""
        return blocks.reshape(blocks.shape[0], -1)[:, ::self.diagonal_stride]

    def traces(self, factors):
        """Trace of every block, ``(n_blocks,)``; 0 where it is not finite, so that a layer spoils no other's pi."""
        return finite_or_zero(self.diagonals(factors).sum(axis=1))

    def squared_distances(self, factors):
        """``|X - Y|^2, |Y|^2, |X - Z|^2, |Z|^2`` of every block, ``(n_blocks, 4)``; Y is the last factor, Z earlier."""
        last, earlier = self.last + 0.0, self.earlier + 0.0
        norms = [(m * m).sum(axis=(1, 2)) for m in (factors - last, last, factors - earlier, earlier)]
        return finite_or_zero(ops.stack(norms, 1))

    def remember(self, factors, wanted):
        """Move the factors that are refreshed to the last, and the last to the earlier ones."""
        taken = self.per_block(wanted, self.of_factor) > 0
        earlier = ops.where(taken, self.last, self.earlier)
        ops.assign(self.earlier, earlier)
        return ops.assign(self.last, ops.where(taken, factors, ops.depend(self.last, earlier)))

    def invert(self, factors, damping, root, pi, positions, wanted):
        """Store inverses where they are wanted and good, keep the last good ones elsewhere.

        Args:
            factors: ``(n_blocks, size, size)``.
            damping: lam, ``()``.
            root: sqrt(lam / HW) of each layer, ``(n_layers,)``.
            pi: what multiplies the damping of each factor, ``(n_factors,)``.
            positions: of each layer, ``(n_layers,)``.
            wanted: 1.0 for each factor to refresh, ``(n_factors,)``.

        Returns:
            The blocks rejected, ``()``; and a lower bound of the condition number of each damped block, the product
            of the largest diagonal elements of block and inverse, 0 where there is no inverse, ``(n_blocks,)``.
        """
        even = self.per_block(root, self.of_layer) * self.per_block(pi, self.of_factor)
        even = ops.select(self.is_unit, damping * ops.ones_like(even), even)
        wanted = self.per_block(wanted, self.of_factor)
        inverse, accepted = self.inverse(factors, even, wanted)
        divisor = ops.select(self.is_a, self.per_block(positions, self.of_layer), ops.ones_like(even))
        good = accepted > 0
        keep(self.inverses, self.slices, good, inverse / divisor)
        if self.average > 0.0:
            keep(self.factors, self.slices, good, factors)
        condition = (self.diagonals(factors).max(axis=1) + even.reshape(-1)) * self.diagonals(inverse).max(axis=1)
        return ((1.0 - accepted) * wanted).sum(), finite_or_zero(condition)


class BatchInverse(nn.Cell):
    """All blocks, whether wanted or not: ``(blocks, damping, wanted) -> (inverse, accepted)``."""

    def __init__(self, backend: Backend):
        super().__init__(auto_prefix=False)
        self.backend = backend

    def construct(self, blocks, damping, wanted):
        return self.backend.damped_inverse(blocks, damping)


class SelectedInverse(BatchInverse):
    """The wanted blocks only."""

    def construct(self, blocks, damping, wanted):
        return self.backend.selected_inverse(blocks, damping, wanted)


class InverseByMember(nn.Cell):
    """The wanted blocks only, factor by factor, for a device that inverts a batch as a whole.

    Args:
        slices: ``(begin, size)`` of each factor's blocks.
    """

    def __init__(self, backend: Backend, slices: tuple):
        super().__init__(auto_prefix=False)
        self.slices = slices
        self.members = nn.CellList([SelectedInverse(backend) for _ in slices])
        self.slice, self.concat = ops.Slice(), ops.Concat()

    def construct(self, blocks, damping, wanted):
        inverses, accepted = (), ()
        for i, member in enumerate(self.members):
            begin, size = self.slices[i]
            column = (size[0], 1, 1)
            inverse, good = member(self.slice(blocks, begin, size), self.slice(damping, begin, column),
                                   self.slice(wanted, begin, column))
            inverses, accepted = inverses + (inverse,), accepted + (good,)
        return self.concat(inverses), self.concat(accepted)


def create_inverse(backend: Backend, selective: bool, slices: tuple) -> nn.Cell:
    """``(blocks, damping, wanted) -> (inverse, accepted)``, skipping what is not wanted as well as the device can."""
    if not selective:
        return BatchInverse(backend)
    return SelectedInverse(backend) if backend.skips_blocks else InverseByMember(backend, slices)


def finite_or_zero(values):
    """``values`` with 0 where they are not finite."""
    return ops.select(ops.isfinite(values), values, ops.zeros_like(values))


def keep(stored, slices, good, fresh):
    """Assign blocks of ``fresh`` to the parameters ``stored`` where ``good``; leave the rest as it was."""
    kept = ops.where(good, fresh, ops.Concat()(stored))
    for i, (begin, size) in enumerate(slices):
        ops.Assign()(stored[i], ops.Slice()(kept, begin, size))
    return True
