"""A refresh of curvature: what the layers measured becomes their damped inverses, all layers together."""
from __future__ import annotations

from dataclasses import dataclass

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops

from thor.backends.base import Backend
from thor.curvature.blocks import BlockBatch, InverseUpdate
from thor.curvature.layer_choice import LayerChoice
from thor.curvature.policies import UpdatePolicy
from thor.curvature.preconditioners import BlockFactor
from thor.curvature.settings import CurvatureSettings
from thor.layers.gates import MEASURED_A, MEASURED_G, STATISTICS
from thor.maps import pick
from thor.parallel import SharedUpdate, assign_owners, inverse_cost, world


@dataclass(frozen=True)
class MeasuredLayer:
    """A layer with factors, as a refresh sees it.

    Args:
        block_factors: what is inverted for it.
        measurements: index of each of them among the step's gradients.
        statistics: index of its statistics among the step's gradients.
        fisher_rows: rows of its Fisher block A x G.
        trace_scale: what its traces' product is multiplied with, beside positions and batch size.
        uses: how many taps share its weight.
    """

    block_factors: tuple[BlockFactor, ...]
    measurements: tuple[int, ...]
    statistics: int
    fisher_rows: int
    trace_scale: float = 1.0
    uses: int = 1


def measured_layer(layer, preconditioner, place: dict, batch_size: int) -> MeasuredLayer:
    """A layer as its refresh sees it; ``place`` tells where each parameter, by id, stands among the gradients."""
    groups, rows, columns = layer.matrix
    fisher_rows = 2 * groups if layer.kind == "batchnorm" else groups * rows * groups * columns
    block_factors = preconditioner.block_factors
    return MeasuredLayer(block_factors, tuple(place[id(f.factor)] for f in block_factors),
                         place[id(layer.factors["statistics"])], fisher_rows,
                         1.0 / batch_size if layer.kind == "embedding" else 1.0, len(layer.taps))


class Refresh(nn.Cell):
    """Turns the measurements of one step into the damped inverses of the layers a policy chooses.

    Args:
        policy: chooses; its ``due`` is the caller's business.
        gates: see :mod:`thor.layers.gates`.
        traced: the statistics hold traces.

    Attributes:
        inverses: for each layer, an :class:`InverseSpan` for each of its block factors.
    """

    def __init__(self, backend: Backend, settings: CurvatureSettings, layers: list[MeasuredLayer],
                 policy: UpdatePolicy, gates: Parameter, traced: bool):
        super().__init__(auto_prefix=False)
        self.batch_size = settings.batch_size
        self.pi_correction = settings.pi_correction
        self.statistics = tuple(layer.statistics for layer in layers)
        entries = [(factor, index, i) for i, layer in enumerate(layers)
                   for factor, index in zip(layer.block_factors, layer.measurements)]
        batches, spans = create_batches(backend, settings, entries, policy)
        self.batches = nn.CellList(batches, auto_prefix=False)
        object.__setattr__(self, "inverses", [[spans[i] for i, (_, _, of) in enumerate(entries) if of == layer]
                                              for layer in range(len(layers))])
        self.rejected = Parameter(Tensor(0.0, ms.float32), name="rejected_blocks", requires_grad=False)
        self.seen_calls = Parameter(Tensor(np.ones(len(layers)), ms.float32), name="calls_at_last_refresh",
                                    requires_grad=False)
        self.no_correction = Tensor(np.ones(len(entries)), ms.float32)
        self.n_factors = len(entries)
        self.measured_places = Tensor([STATISTICS * i + (MEASURED_A if factor.role == "a" else MEASURED_G)
                                       for factor, _, i in entries], ms.int32)
        self._prepare_sums(entries, len(layers))
        self.choice = LayerChoice(policy, layers, gates, traced)
        self.traced = traced
        self.concat, self.gather = ops.Concat(), ops.Gather()

    def _prepare_sums(self, entries, n_layers: int) -> None:
        """Constants that sum blocks to factors and pair each layer's A with its G."""
        order = np.concatenate([batch.of_factor.asnumpy() for batch in self.batches])  # (n_blocks,)
        self.of_factor = Tensor(order, ms.int32)
        self.dims = Tensor([factor.dim for factor, _, _ in entries], ms.float32)
        self.sum_of_blocks = Tensor(order[None] == np.arange(len(entries))[:, None], ms.float32)
        partner, sign = np.arange(len(entries)), np.zeros(len(entries))
        for layer in range(n_layers):
            pair = {factor.role: i for i, (factor, _, of) in enumerate(entries) if of == layer}
            if "a" in pair and "g" in pair:
                partner[pair["a"]], partner[pair["g"]] = pair["g"], pair["a"]
                sign[pair["a"]] = sign[pair["g"]] = 1.0
        self.partner, self.paired = Tensor(partner, ms.int32), Tensor(sign > 0)

    def construct(self, gradients, damping, next_damping, loss_scale):
        """Refresh the layers the policy chooses.

        Args:
            gradients: those of all parameters.
            damping: lam of this step, ``()``; ``next_damping`` that of the next refresh.
            loss_scale: s, ``()``.

        Returns:
            1.0 for each layer that was refreshed, ``(n_layers,)``.
        """
        told = self.concat(pick(gradients, self.statistics)).reshape(-1, STATISTICS)
        calls = told[:, 0]
        ops.assign(self.seen_calls, calls)
        positions = told[:, 1] / calls
        measured = self.gather(told.reshape(-1), self.measured_places, 0)  # (n_factors,)
        root = ops.sqrt(damping / positions)
        gradient_scale = self.batch_size * self.batch_size / (loss_scale * loss_scale)
        factors = tuple([batch.measure(gradients, measured, gradient_scale) for batch in self.batches])
        distances = self.distances(factors, measured) if self.choice.compares else None
        wanted, of_layers = self.choice(told, measured, gradient_scale, damping, next_damping, distances)
        pi = self.pi(factors) if self.pi_correction else self.no_correction
        rejected, conditions = self.rejected, ()
        for i, batch in enumerate(self.batches):
            more, condition = batch.invert(factors[i][0], factors[i][1], damping, root, pi, positions, wanted)
            rejected, conditions = rejected + more, conditions + (condition,)
            if self.choice.compares:
                batch.remember(factors[i][0], factors[i][1], wanted)
        ops.assign(self.rejected, rejected)
        if self.traced:
            worst = ops.unsorted_segment_max(self.concat(conditions), self.of_factor, self.n_factors)
            self.choice.record_condition(worst, of_layers)
        return of_layers

    def pi(self, factors):
        """sqrt(mean diagonal of A / of G) for A, its inverse for G; 1 where that is not a positive number."""
        traces = self.concat(tuple([batch.traces(factors[i][0], factors[i][1])
                                    for i, batch in enumerate(self.batches)]))
        mean = ops.matmul(self.sum_of_blocks, traces.reshape(-1, 1)).reshape(-1) / self.dims  # (n_factors,)
        other = ops.gather(mean, self.partner, 0)
        usable = ops.logical_and(self.paired, ops.logical_and(mean > 0, other > 0))
        return ops.select(usable, ops.sqrt(mean / ops.select(usable, other, ops.ones_like(other))),
                          ops.ones_like(mean))

    def distances(self, factors, measured):
        """Relative distances of each factor from the last and the one before, ``(n_factors,)`` both."""
        squares = self.concat(tuple([batch.squared_distances(factors[i][0], factors[i][1])
                                     for i, batch in enumerate(self.batches)]))
        sums = ops.matmul(self.sum_of_blocks, squares)  # (n_factors, 4)
        known = ops.logical_and(ops.stack((sums[:, 1], sums[:, 3]), 1) > 0, measured.reshape(-1, 1) > 0)
        ratios = ops.sqrt(ops.stack((sums[:, 0] / sums[:, 1], sums[:, 2] / sums[:, 3]), 1))
        ratios = ops.select(known, ratios, ops.full_like(ratios, np.inf))
        return ratios[:, 0], ratios[:, 1]


def create_batches(backend: Backend, settings: CurvatureSettings, entries: list, policy: UpdatePolicy) -> tuple:
    """A batch for each block size, and for each entry ``(factor, measurement, layer)`` where its inverse is."""
    batches, spans = [], {}
    for size in sorted({factor.factor.shape[-1] for factor, _, _ in entries}):
        places = [i for i, (factor, _, _) in enumerate(entries) if factor.factor.shape[-1] == size]
        members, measurements, layers = zip(*[entries[i] for i in places])
        batches.append(BlockBatch(backend, settings, list(members), list(measurements), list(layers), places,
                                  policy.gated, policy.compares))
        for member, place in enumerate(places):
            spans[place] = batches[-1].span_of(member)
    if settings.share_inverses:
        share_inverses(batches)
    return batches, spans


def share_inverses(batches: list[BlockBatch]) -> None:
    """Give every block an owner among the ranks, by what its inverse costs."""
    rank, ranks = world()
    if ranks == 1:
        return
    sizes = [batch.inverses.shape[-1] for batch in batches for _ in range(batch.inverses.shape[0])]
    owners = assign_owners([inverse_cost(size) for size in sizes], ranks)
    for batch in batches:
        count = batch.inverses.shape[0]
        batch.update = SharedUpdate(InverseUpdate(batch.update.backend), owners[:count], rank, ranks)
        owners = owners[count:]
