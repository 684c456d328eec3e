"""A refresh of curvature: what the layers measured becomes their damped inverses, all layers together.

It goes in phases: the statistics of the step, the factors, the choice of layers, damping and inversion.
Blocks of one size, over all layers, are one batch for the device instead of many small operators.
"""
from __future__ import annotations

from collections.abc import Sequence

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops

from thor.backends.base import Backend
from thor.backends.geometry import diagonals
from thor.backends.inversion import BlockUpdate, keep_blocks, part
from thor.curvature.choice import LayerChoice
from thor.curvature.history import FactorHistory
from thor.curvature.policies import UpdatePolicy
from thor.curvature.record import RefreshRecord
from thor.damping import FactorDamping
from thor.distribution import SharedUpdate, assign_block_owners, world
from thor.layers.base import Factor, Inverse, Layer, running_average
from thor.layers.batch import BatchFacts
from thor.layers.tap import CALLS, MEASUREMENT_SCALE, POSITIONS, ROWS, STATISTICS, TRACE_A, TRACE_G
from thor.options import CurvatureOptions
from thor.registration import Registration

# Primitives, where MindSpore's functions and methods of tensors are each a dozen functions for its compiler to read.
_reshape, _cast, _select, _sum = ops.Reshape(), ops.Cast(), ops.Select(), ops.ReduceSum()
_ones_like, _zeros_like, _square, _segment_max = ops.OnesLike(), ops.ZerosLike(), ops.Square(), ops.UnsortedSegmentMax()


class Curvature(nn.Cell):
    """The curvature of all layers: the measurements of a step become damped inverses of those a policy chooses.

    Args:
        registration: of the network.
        layers: its layers with factors.
        policy: chooses; its ``due`` is the caller's business.
        batch_facts: samples and loss scale of the step.

    Attributes:
        factor_parameters: those whose gradients :meth:`construct` takes, in its order: the factors batch by batch,
            what layers refresh themselves, the statistics.
        inverses: for each layer, an :class:`Inverse` for each of its factors.
    """

    def __init__(self, registration: Registration, layers: Sequence[Layer], policy: UpdatePolicy,
                 batch_facts: BatchFacts):
        super().__init__(auto_prefix=False)
        context = registration.context
        backend, options = context.backend, context.options
        self.batch_facts, self.chooses, self.compares = batch_facts, policy.gated or context.traced, policy.compares
        factors = [factor for layer in layers for factor in layer.factors]
        of_layer = [i for i, layer in enumerate(layers) for _ in layer.factors]
        batches = _create_batches(backend, options, factors, policy)
        self.batches = nn.CellList(batches, auto_prefix=False)
        self._find_inverses(layers)
        self._order_measurements(layers)
        self.measured_column_of_factor = Tensor([STATISTICS * i + factor.measured_column
                                                 for factor, i in zip(factors, of_layer)], ms.int32)
        self.of_layer, self.n_layers = Tensor(of_layer, ms.int32), len(layers)  # (n_factors,)
        self.of_inputs = Tensor([factor.of_inputs for factor in factors])  # (n_factors,)
        order = np.concatenate([np.repeat(batch.places, batch.counts) for batch in batches])
        self.factor_of_block, self.layer_of_block = Tensor(order, ms.int32), Tensor(np.array(of_layer)[order], ms.int32)
        self.dims = Tensor([factor.dim for factor in factors], ms.float32)
        self.sum_of_blocks = Tensor(order[None] == np.arange(len(factors))[:, None], ms.float32)
        self.damping = FactorDamping([factor.role for factor in factors], of_layer, options.pi_correction,
                                     options.relative_damping)
        self.record = RefreshRecord([layer.name for layer in layers], context.traced)
        if self.chooses:
            self.counts_samples = Tensor([layer.counts_samples for layer in layers])
            self.choice = LayerChoice(policy, layers, registration.gates, self.record, options.relative_damping)
        if self.compares:
            self.history = FactorHistory(batches, self.sum_of_blocks)
        preconditioners = [layer.create_preconditioner(batch_facts, *inverses)
                           for layer, inverses in zip(layers, self.inverses)]
        self.preconditioners = nn.CellList(preconditioners, auto_prefix=False)
        self.self_refreshed = tuple((i, self.self_refreshed_places[i])
                                    for i, preconditioner in enumerate(preconditioners)
                                    if hasattr(preconditioner, "refresh"))
        self.concat, self.gather, self.columns = ops.Concat(), ops.Gather(), ops.Unstack(axis=1)

    def _find_inverses(self, layers: Sequence[Layer]) -> None:
        """Where each layer's inverses are kept."""
        found = {id(factor): Inverse(batch.inverses, *span)
                 for batch in self.batches for factor, span in zip(batch.members, batch.spans)}
        object.__setattr__(self, "layers", tuple(layers))
        object.__setattr__(self, "inverses", [[found[id(f)] for f in layer.factors] for layer in layers])

    def _order_measurements(self, layers: Sequence[Layer]) -> None:
        """Factors batch by batch, what layers refresh themselves, statistics."""
        ordered = [factor.parameter for batch in self.batches for factor in batch.members]
        inverted = {id(parameter) for parameter in ordered}
        own = [[parameter for role, parameter in layer.factor_parameters.items()
                if role != "statistics" and id(parameter) not in inverted] for layer in layers]
        of_g = 0.0 if self.batch_facts.sums else 2.0
        of_layers = [-1.0 if layer.counts_samples else 0.0 for layer in layers]
        rows = np.zeros((len(layers), STATISTICS))
        rows[:, TRACE_A], rows[:, TRACE_G] = of_layers, of_g
        self.batch_facts.set_powers([
            *[0.0 if factor.of_inputs else of_g for batch in self.batches for factor in batch.members],
            *[power for power, parameters in zip(of_layers, own) for _ in parameters], *rows])
        counts = np.cumsum([len(ordered)] + [len(parameters) for parameters in own]).tolist()
        self.self_refreshed_places = tuple(zip(counts[:-1], counts[1:]))  # (first, last + 1) of each layer
        ordered += [parameter for parameters in own for parameter in parameters]
        self.first_statistics = len(ordered)
        ordered += [layer.factor_parameters["statistics"] for layer in layers]
        object.__setattr__(self, "factor_parameters", ordered)

    def inverses_by_role(self) -> dict[str, dict]:
        """The damped inverses by layer name and role: "a" and "g", or "unit"; arrays ``(n_blocks, size, size)``.

        A is divided by the layer's output positions; the diagonal A of an embedding is not among them.
        """
        return {layer.name: {factor.role: inverse.asnumpy() for factor, inverse in zip(layer.factors, inverses)}
                for layer, inverses in zip(self.layers, self.inverses)}

    def construct(self, measurements, damping, next_damping, loss_scale):
        """Refresh the layers the policy chooses.

        Args:
            measurements: gradients of :attr:`factor_parameters`.
            damping: lam of this step, ``()``; ``next_damping`` that of the next refresh.
            loss_scale: s, ``()``.

        Returns:
            What :class:`thor.curvature.record.RefreshRecord` keeps.
        """
        # Statistics: how often each layer ran, over how many positions, and which factors were measured.
        rows = self.concat(measurements[self.first_statistics:])  # (7 n_layers,)
        statistics = self.columns(_reshape(rows, (-1, STATISTICS)))  # 7 of (n_layers,)
        calls = statistics[CALLS]
        positions = statistics[POSITIONS] / calls
        measured_calls = self.gather(rows, self.measured_column_of_factor, 0)  # calls, (n_factors,)

        # Factors: blocks of one size together; the gradient of the mean loss becomes that of a sample.
        samples = self.batch_facts.see(statistics[ROWS] / MEASUREMENT_SCALE, calls / MEASUREMENT_SCALE)
        gradient_scale = _square(self.batch_facts.divisor(samples) / loss_scale)
        ones = _ones_like(measured_calls)
        scale = self.per_block(_select(self.of_inputs, ones, gradient_scale * ones) / measured_calls)
        factors = tuple([batch.factors(measurements, scale) for batch in self.batches])

        # Choice: which factors, and so which layers, are refreshed.
        wanted, choice = self.choose(statistics, measured_calls, factors, gradient_scale, samples, damping,
                                     next_damping)

        # Inversion: of damped factors where they are wanted and good; the last good inverses stay elsewhere.
        rejected, worst = self.invert(factors, self.per_block(wanted), positions, damping)
        for layer, (first, last) in self.self_refreshed:
            self.preconditioners[layer].refresh(measurements[first:last], calls[layer], samples, choice[0][layer],
                                                damping)
        return (calls, rejected, worst) + choice

    def choose(self, statistics, measured_calls, factors, gradient_scale, samples, damping, next_damping):
        """1.0 for each factor to refresh, ``(n_factors,)``; and what the record keeps of the choice, by layer."""
        if not self.chooses:
            wanted = _cast(measured_calls > 0, ms.float32)
            refreshed = _segment_max(wanted, self.of_layer, self.n_layers)
            return wanted, (refreshed, _zeros_like(refreshed))
        positions = statistics[POSITIONS] / statistics[CALLS]
        ones = _ones_like(positions)
        # what makes the product of a layer's measured traces tr(HW A x G), (n_layers,)
        trace_scale = gradient_scale * positions / _select(self.counts_samples, samples * ones, ones)
        distances = self.history.distances(factors, measured_calls) if self.compares else None
        return self.choice(statistics, measured_calls, trace_scale, damping, next_damping, distances)

    def invert(self, factors, wanted, positions, damping):
        """Refresh the blocks that are ``wanted`` (1.0), ``(n_blocks, 1, 1)``.

        Returns:
            How many of them were rejected, ``()``; the largest condition number of each layer's blocks,
            ``(n_layers,)``, None where nothing of it is recorded.
        """
        means = self.mean_diagonals(factors) if self.damping.reads_diagonals else None
        added = self.per_block(self.damping(damping, positions, means))
        of_factors = self.gather(positions, self.of_layer, 0)
        divisor = self.per_block(_select(self.of_inputs, of_factors, _ones_like(of_factors)))
        accepted, conditions = (), ()
        for i, batch in enumerate(self.batches):
            good, condition = batch.invert(factors[i][0], factors[i][1], added, divisor, wanted)
            accepted, conditions = accepted + (good,), conditions + (condition,)
        if self.compares:
            self.history.remember(factors, wanted)
        worst = None
        if self.record.traced:
            worst = _segment_max(_reshape(self.concat(conditions), (-1,)), self.layer_of_block, self.n_layers)
        return _sum((1.0 - self.concat(accepted)) * wanted), worst

    def per_block(self, values):
        """``values`` of the factors ``(n_factors,)`` for every block, ``(n_blocks, 1, 1)``."""
        return _reshape(self.gather(values, self.factor_of_block, 0), (-1, 1, 1))

    def mean_diagonals(self, factors):
        """Of each factor, ``(n_factors,)``."""
        traces = self.concat(tuple([batch.traces(factors[i][0], factors[i][1])
                                    for i, batch in enumerate(self.batches)]))
        return ops.matmul(self.sum_of_blocks, traces.reshape(-1, 1)).reshape(-1) / self.dims


class BlockBatch(nn.Cell):
    """The blocks of one size: gathered, scaled to factors, and their inverses.

    Args:
        members: factors with blocks of this size.
        places: of each member among all factors.
        first: place of their measurements, one after the other, among those of the step.
        first_block: of theirs among those of all batches.
        update: makes new inverses.
        average: weight of the stored factors in the running average.
    """

    def __init__(self, members: list[Factor], places: list[int], first: int, first_block: int, update: nn.Cell,
                 average: float):
        super().__init__(auto_prefix=False)
        self.places, self.average, self.update = places, average, update
        object.__setattr__(self, "members", tuple(members))
        self.running_factors = ms.ParameterTuple([factor.parameter for factor in members])
        self.first, self.last = first, first + len(members)
        self.spans = _spans_of(members)
        self.counts = [count for _, count in self.spans]
        self.span = (first_block, sum(self.counts))
        size = members[0].parameter.shape[-1]
        identity = np.tile(np.eye(size, dtype=np.float32), (sum(self.counts), 1, 1))
        self.inverses = Parameter(Tensor(identity), name=f"inverses_{size}", requires_grad=False)
        if average > 0.0:
            self.refreshes = Parameter(Tensor(np.zeros((sum(self.counts), 1, 1)), ms.float32), requires_grad=False,
                                       name=f"refreshes_of_blocks_{size}")
        self.concat = ops.Concat()

    def factors(self, measurements, scale):
        """Blocks ``(n_blocks, size, size)`` and the scale ``(n_blocks, 1, 1)`` that makes them this step's factors.

        Args:
            scale: of the measured blocks of all batches; not finite where nothing was measured.
        """
        blocks, scale = self.concat(measurements[self.first:self.last]), part(scale, self.span)
        if self.average == 0.0:
            return blocks, scale
        stored = self.concat(self.running_factors)
        return running_average(stored, blocks * scale, self.average, self.refreshes + 0.0), _ones_like(scale)

    def traces(self, blocks, scale):
        """Trace of every factor block, ``(n_blocks,)``; 0 where not finite, so that a layer spoils no other's pi."""
        traces = _sum(diagonals(blocks), 1) * _reshape(scale, (-1,))
        return _select(ops.isfinite(traces), traces, _zeros_like(traces))

    def invert(self, blocks, scale, damping, divisor, wanted):
        """Store inverses where they are wanted and good, keep the last good ones elsewhere.

        Args:
            blocks, scale: of :meth:`factors`.
            damping, divisor, wanted: of the blocks of all batches: what is added to the diagonal, what the inverse is
                divided by, and 1.0 where it is wanted.

        Returns:
            1.0 for each block that was wanted and good; and a lower bound of its condition number, 0 for the others;
            ``(n_blocks, 1, 1)`` both.
        """
        damping, divisor, wanted = part(damping, self.span), part(divisor, self.span), part(wanted, self.span)
        inverses, accepted, condition = self.update(blocks, scale, damping, divisor, wanted, self.inverses)
        ops.assign(self.inverses, inverses)
        if self.average > 0.0:
            keep_blocks(self.running_factors, self.spans, accepted > 0, blocks)
            ops.assign(self.refreshes, self.refreshes + accepted)
        return accepted, condition


def _create_batches(backend: Backend, options: CurvatureOptions, factors: list[Factor],
                    policy: UpdatePolicy) -> list[BlockBatch]:
    """A batch for each block size; with shared inverses every block has an owner among the ranks."""
    batches, first, first_block = [], 0, 0
    by_size: dict[int, list[int]] = {}
    for place in sorted(range(len(factors)), key=lambda i: factors[i].parameter.shape[-1]):
        by_size.setdefault(factors[place].parameter.shape[-1], []).append(place)
    counts = [sum(factors[i].parameter.shape[0] for i in places) for places in by_size.values()]
    owners = assign_block_owners(list(by_size), counts) if options.share_inverses else None
    for batch, places in enumerate(by_size.values()):
        members = [factors[i] for i in places]
        update = backend.block_update_operator(_spans_of(members), policy.gated) if owners is None else \
            SharedUpdate(BlockUpdate(backend), owners[batch], *world())
        batches.append(BlockBatch(members, places, first, first_block, update, options.running_average))
        first, first_block = first + len(members), first_block + counts[batch]
    return batches


def _spans_of(members: list[Factor]) -> tuple[tuple[int, int], ...]:
    """``(first, count)`` of each factor's blocks in a batch of all."""
    counts = [factor.parameter.shape[0] for factor in members]
    return tuple(zip(np.cumsum([0, *counts]).tolist(), counts))
