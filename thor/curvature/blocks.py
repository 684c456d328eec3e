"""All blocks of one size, over all layers: one batch for the device instead of many small operators."""
from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops

from thor.backends.base import Backend
from thor.backends.geometry import diagonals
from thor.backends.operators import part
from thor.curvature.preconditioners import BlockFactor, InverseSpan
from thor.curvature.settings import CurvatureSettings
from thor.maps import pick

_kept = ops.MultitypeFuncGraph("kept")


@_kept.register("Tensor", "Tensor", "Tuple")
def _keep(blocks, stored, span):
    """Assign one member's part of ``blocks``."""
    return ops.depend(True, ops.assign(stored, part(blocks, span)))


class BlockBatch(nn.Cell):
    """The blocks of one size: gathered, scaled to factors, and their inverses.

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
        self.measurements = tuple(measurements)
        counts = [m.factor.shape[0] for m in members]
        firsts = np.concatenate(([0], np.cumsum(counts)[:-1])).tolist()
        size = members[0].factor.shape[-1]
        self.spans = tuple(zip(firsts, counts))
        self.of_layer = Tensor(np.repeat(layers, counts), ms.int32)  # (n_blocks,)
        self.of_factor = Tensor(np.repeat(places, counts), ms.int32)  # (n_blocks,)
        roles = np.repeat([m.role for m in members], counts)
        self.is_a = Tensor((roles == "a").reshape(-1, 1, 1))
        self.is_unit = Tensor((roles == "unit").reshape(-1, 1, 1))
        identity = np.tile(np.eye(size, dtype=np.float32), (sum(counts), 1, 1))
        self.inverses = Parameter(Tensor(identity), name=f"inverses_{size}", requires_grad=False)
        self.update = create_update(backend, selective, self.spans)
        self.compares = compares
        if compares:
            self.last = Parameter(Tensor(np.zeros_like(identity)), name=f"last_factors_{size}", requires_grad=False)
            self.earlier = Parameter(Tensor(np.zeros_like(identity)), name=f"earlier_factors_{size}",
                                     requires_grad=False)
        self.concat, self.gather = ops.Concat(), ops.Gather()

    def span_of(self, member: int) -> InverseSpan:
        """Where the inverse of a member is."""
        return InverseSpan(self.inverses, *self.spans[member])

    def per_block(self, values, index):
        """``values`` (n,) picked for every block, ``(n_blocks, 1, 1)``."""
        return self.gather(values, index, 0).reshape(-1, 1, 1)

    def measure(self, gradients, measured, gradient_scale):
        """Blocks ``(n_blocks, size, size)`` and the scale ``(n_blocks, 1, 1)`` that makes them this step's factors.

        The scale is not finite where nothing was measured.

        Args:
            measured: calls that measured each factor, ``(n_factors,)``.
        """
        blocks = self.concat(pick(gradients, self.measurements))
        calls = self.per_block(measured, self.of_factor)
        scale = ops.select(self.is_a, ops.ones_like(calls), gradient_scale * ops.ones_like(calls)) / calls
        if self.average == 0.0:
            return blocks, scale
        stored = self.concat(self.factors)
        weight = self.average * (ops.abs(stored).sum(axis=(1, 2), keepdims=True) > 0).astype(ms.float32)
        return weight * stored + (1.0 - weight) * (blocks * scale), ops.ones_like(scale)

    def traces(self, blocks, scale):
        """Trace of every factor block, ``(n_blocks,)``; 0 where not finite, so that a layer spoils no other's pi."""
        return finite_or_zero(diagonals(blocks).sum(axis=1) * scale.reshape(-1))

    def squared_distances(self, blocks, scale):
        """``|X - Y|^2, |Y|^2, |X - Z|^2, |Z|^2`` of every block, ``(n_blocks, 4)``; Y is the last factor, Z earlier."""
        factors, last, earlier = blocks * scale, self.last + 0.0, self.earlier + 0.0
        norms = [(m * m).sum(axis=(1, 2)) for m in (factors - last, last, factors - earlier, earlier)]
        return finite_or_zero(ops.stack(norms, 1))

    def remember(self, blocks, scale, wanted):
        """Move the factors that are refreshed to the last, and the last to the earlier ones."""
        taken = self.per_block(wanted, self.of_factor) > 0
        earlier = ops.where(taken, self.last, self.earlier)
        ops.assign(self.earlier, earlier)
        return ops.assign(self.last, ops.where(taken, blocks * scale, ops.depend(self.last, earlier)))

    def invert(self, blocks, scale, damping, root, pi, positions, wanted):
        """Store inverses where they are wanted and good, keep the last good ones elsewhere.

        Args:
            blocks, scale: of :meth:`measure`.
            damping: lam, ``()``.
            root: sqrt(lam / HW) of each layer, ``(n_layers,)``.
            pi: what multiplies the damping of each factor, ``(n_factors,)``.
            positions: of each layer, ``(n_layers,)``.
            wanted: 1.0 for each factor to refresh, ``(n_factors,)``.

        Returns:
            The blocks rejected, ``()``; and a lower bound of the condition number of each damped block that was
            inverted, 0 for the others, ``(n_blocks,)``.
        """
        even = self.per_block(root, self.of_layer) * self.per_block(pi, self.of_factor)
        even = ops.select(self.is_unit, damping * ops.ones_like(even), even)
        divisor = ops.select(self.is_a, self.per_block(positions, self.of_layer), ops.ones_like(even))
        wanted = self.per_block(wanted, self.of_factor)
        inverses, accepted, condition = self.update(blocks, scale, even, divisor, wanted, self.inverses)
        ops.assign(self.inverses, inverses)
        if self.average > 0.0:
            keep(self.factors, self.spans, accepted > 0, blocks)
        return ((1.0 - accepted) * wanted).sum(), condition.reshape(-1)


class InverseUpdate(nn.Cell):
    """``Backend.updated_inverse`` of all blocks."""

    def __init__(self, backend: Backend):
        super().__init__(auto_prefix=False)
        self.backend = backend

    def construct(self, blocks, scale, damping, divisor, wanted, old):
        return self.backend.updated_inverse(blocks, scale, damping, divisor, wanted, old)


class InverseUpdateIfWanted(InverseUpdate):
    """Nothing at all where none of the blocks is wanted."""

    def construct(self, blocks, scale, damping, divisor, wanted, old):
        if wanted.sum() > 0:
            return self.backend.updated_inverse(blocks, scale, damping, divisor, wanted, old)
        return old + 0.0, ops.zeros_like(wanted), ops.zeros_like(wanted)


class InverseUpdateByMember(nn.Cell):
    """Factor by factor, for a device that inverts a batch as a whole.

    A tree over the factors: a loop would nest as deep as there are factors, and a map cannot hold the branch.

    Args:
        spans: ``(first, count)`` of each factor's blocks.
    """

    def __init__(self, backend: Backend, spans: tuple):
        super().__init__(auto_prefix=False)
        self.tree = MemberTree(backend, spans)
        self.concat = ops.Concat()

    def construct(self, blocks, scale, damping, divisor, wanted, old):
        inverses, accepted, conditions = self.tree(blocks, scale, damping, divisor, wanted, old)
        return self.concat(inverses), self.concat(accepted), self.concat(conditions)


class MemberTree(nn.Cell):
    """Updates of the factors at ``spans``: three tuples, of inverses, what was accepted, and conditions."""

    def __init__(self, backend: Backend, spans: tuple):
        super().__init__(auto_prefix=False)
        self.leaf = len(spans) == 1
        if self.leaf:
            self.span, self.update = spans[0], InverseUpdateIfWanted(backend)
        else:
            half = len(spans) // 2
            self.left, self.right = MemberTree(backend, spans[:half]), MemberTree(backend, spans[half:])

    def construct(self, blocks, scale, damping, divisor, wanted, old):
        if self.leaf:
            inverse, accepted, condition = self.update(
                part(blocks, self.span), part(scale, self.span), part(damping, self.span), part(divisor, self.span),
                part(wanted, self.span), part(old, self.span))
            return (inverse,), (accepted,), (condition,)
        left = self.left(blocks, scale, damping, divisor, wanted, old)
        right = self.right(blocks, scale, damping, divisor, wanted, old)
        return left[0] + right[0], left[1] + right[1], left[2] + right[2]


def create_update(backend: Backend, selective: bool, spans: tuple) -> nn.Cell:
    """The update of a batch that saves the work of what is not wanted as well as the device can."""
    if not selective or backend.skips_blocks:
        return InverseUpdate(backend)
    return InverseUpdateByMember(backend, spans)


def finite_or_zero(values):
    """``values`` with 0 where they are not finite."""
    return ops.select(ops.isfinite(values), values, ops.zeros_like(values))


def keep(stored, spans, good, fresh):
    """Assign blocks of ``fresh`` to the parameters ``stored`` where ``good``; leave the rest as it was."""
    kept = ops.where(good, fresh, ops.Concat()(stored))
    return ops.Map()(ops.partial(_kept, kept), stored, spans)
