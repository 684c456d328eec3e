"""A refresh of curvature: all layers' blocks are damped and inverted together, one batch per block size.

Working on batches instead of layers keeps the compiled graph small and gives the device few large operators.
"""
from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops

from thor.backends.base import Backend
from thor.curvature.preconditioners import BlockFactor
from thor.curvature.settings import CurvatureSettings


class BlockBatch(nn.Cell):
    """The blocks of one size, over all layers: gathered, scaled to factors, inverted and given back.

    Args:
        members: factors with blocks of this size.
        measurements: index of each member's measurement among the step's gradients.
        layers: index of each member's layer among the layers that have factors.
        places: index of each member among all factors of the network.
    """

    def __init__(self, backend: Backend, settings: CurvatureSettings, members: list[BlockFactor],
                 measurements: list[int], layers: list[int], places: list[int]):
        super().__init__(auto_prefix=False)
        self.backend = backend
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
        self.identity = Tensor(np.eye(size, dtype=np.float32))
        self.concat, self.slice, self.gather = ops.Concat(), ops.Slice(), ops.Gather()
        self.assign, self.select = ops.Assign(), ops.Select()

    def per_block(self, values, index):
        """``values`` (n,) picked for every block, ``(n_blocks, 1, 1)``."""
        return self.gather(values, index, 0).reshape(-1, 1, 1)

    def measure(self, gradients, calls, gradient_scale):
        """Factors ``(n_blocks, size, size)`` of this step; not finite where a layer did not run."""
        measured = self.concat(tuple([gradients[i] for i in self.measurements]))
        calls = self.per_block(calls, self.of_layer)
        scale = ops.select(self.is_a, ops.ones_like(calls), gradient_scale * ops.ones_like(calls))
        factors = measured * (scale / calls)
        if self.average == 0.0:
            return factors
        stored = self.concat(self.factors)
        weight = self.average * (ops.abs(stored).sum(axis=(1, 2), keepdims=True) > 0).astype(ms.float32)
        return weight * stored + (1.0 - weight) * factors

    def traces(self, factors):
        """Trace of every block, ``(n_blocks,)``; 0 where it is not finite, so that a layer spoils no other's pi."""
        traces = (factors * self.identity).sum(axis=(1, 2))
        return ops.select(ops.isfinite(traces), traces, ops.zeros_like(traces))

    def invert(self, factors, damping, root, pi, positions, calls):
        """Store inverses where they are good, keep the last good ones elsewhere; return the blocks rejected, ``()``.

        Args:
            factors: ``(n_blocks, size, size)``.
            damping: lam, ``()``.
            root: sqrt(lam / HW) of each layer, ``(n_layers,)``.
            pi: what multiplies the damping of each factor, ``(n_factors,)``.
            positions, calls: of each layer, ``(n_layers,)``.
        """
        even = self.per_block(root, self.of_layer) * self.per_block(pi, self.of_factor)
        inverse, accepted = self.backend.damped_inverse(
            factors, ops.select(self.is_unit, damping * ops.ones_like(even), even))
        divisor = ops.select(self.is_a, self.per_block(positions, self.of_layer), ops.ones_like(even))
        good = accepted > 0
        keep(self.inverses, self.slices, good, inverse / divisor)
        if self.average > 0.0:
            keep(self.factors, self.slices, good, factors)
        ran = self.per_block(calls, self.of_layer) > 0
        return ((1.0 - accepted) * ran.astype(ms.float32)).sum()


class Refresh(nn.Cell):
    """Turns the measurements of one step into the damped inverses of all layers.

    Args:
        block_factors: of each layer that has factors.
        measurements: index of each of them among the step's gradients, by layer.
        calls: index of each layer's call count among the step's gradients.
    """

    def __init__(self, backend: Backend, settings: CurvatureSettings, block_factors: list[tuple[BlockFactor, ...]],
                 measurements: list[tuple[int, ...]], calls: list[int]):
        super().__init__(auto_prefix=False)
        self.batch_size = settings.batch_size
        self.pi_correction = settings.pi_correction
        self.calls = tuple(calls)
        entries = [(factor, index, layer) for layer, factors in enumerate(block_factors)
                   for factor, index in zip(factors, measurements[layer])]
        sizes = sorted({factor.factor.shape[-1] for factor, _, _ in entries})
        batches = []
        for size in sizes:
            places = [i for i, (factor, _, _) in enumerate(entries) if factor.factor.shape[-1] == size]
            members, indices, layers = zip(*[entries[i] for i in places])
            batches.append(BlockBatch(backend, settings, list(members), list(indices), list(layers), places))
        self.batches = nn.CellList(batches, auto_prefix=False)
        self.rejected = Parameter(Tensor(0.0, ms.float32), name="rejected_blocks", requires_grad=False)
        self.seen_calls = Parameter(Tensor(np.ones(len(calls)), ms.float32), name="calls_at_last_refresh",
                                    requires_grad=False)
        self.no_correction = Tensor(np.ones(len(entries)), ms.float32)
        self._prepare_pi(entries, len(block_factors))
        self.concat = ops.Concat()

    def _prepare_pi(self, entries, n_layers: int) -> None:
        """Constants that sum traces over blocks and pair each layer's A with its G."""
        order = np.concatenate([batch.of_factor.asnumpy() for batch in self.batches])
        dims = np.array([factor.dim for factor, _, _ in entries])
        self.mean_of_blocks = Tensor((order[None] == np.arange(len(entries))[:, None]) / dims[:, None], ms.float32)
        partner, sign = np.arange(len(entries)), np.zeros(len(entries))
        for layer in range(n_layers):
            pair = {factor.role: i for i, (factor, _, of) in enumerate(entries) if of == layer}
            if "a" in pair and "g" in pair:
                partner[pair["a"]], partner[pair["g"]] = pair["g"], pair["a"]
                sign[pair["a"]] = sign[pair["g"]] = 1.0
        self.partner, self.paired = Tensor(partner, ms.int32), Tensor(sign > 0)

    def construct(self, gradients, damping, loss_scale):
        """Refresh; ``gradients`` are those of all parameters, ``damping`` and ``loss_scale`` have shape ``()``."""
        counts = self.concat(tuple([gradients[i] for i in self.calls])).reshape(-1, 2)  # (n_layers, 2)
        calls = counts[:, 0]
        ops.assign(self.seen_calls, calls)
        positions = counts[:, 1] / calls
        root = ops.sqrt(damping / positions)
        gradient_scale = self.batch_size * self.batch_size / (loss_scale * loss_scale)
        factors = tuple([batch.measure(gradients, calls, gradient_scale) for batch in self.batches])
        pi = self.pi(factors) if self.pi_correction else self.no_correction
        rejected = self.rejected
        for i, batch in enumerate(self.batches):
            rejected = rejected + batch.invert(factors[i], damping, root, pi, positions, calls)
        return ops.assign(self.rejected, rejected)

    def pi(self, factors):
        """sqrt(mean diagonal of A / of G) for A, its inverse for G; 1 where that is not a positive number."""
        traces = self.concat(tuple([batch.traces(factors[i]) for i, batch in enumerate(self.batches)]))
        mean = ops.matmul(self.mean_of_blocks, traces.reshape(-1, 1)).reshape(-1)  # (n_factors,)
        other = ops.gather(mean, self.partner, 0)
        usable = ops.logical_and(self.paired, ops.logical_and(mean > 0, other > 0))
        return ops.select(usable, ops.sqrt(mean / ops.select(usable, other, ops.ones_like(other))),
                          ops.ones_like(mean))


def keep(stored, slices, good, fresh):
    """Assign blocks of ``fresh`` to the parameters ``stored`` where ``good``; leave the rest as it was."""
    kept = ops.where(good, fresh, ops.Concat()(stored))
    for i, (begin, size) in enumerate(slices):
        ops.Assign()(stored[i], ops.Slice()(kept, begin, size))
    return True
