"""LayerNorm: its curvature is the square of its own gradient, fresh in every step; nothing is measured for it."""
from __future__ import annotations

from collections.abc import Sequence

from mindspore import nn, ops

from thor.damping import damped_diagonal
from thor.distribution import world
from thor.layers.base import Inverse, Layer, LayerContext, NotTapped, register_layer
from thor.layers.batch import BatchFacts


@register_layer(nn.LayerNorm)
class LayerNormLayer(Layer):
    """A LayerNorm cell: gamma and, where it is trained, beta."""

    weight_name = "gamma"
    description = "second order: squared gradient"

    def __init__(self, cells: Sequence[nn.Cell], context: LayerContext):
        cell = cells[0]
        if any(user.beta is not cell.beta for user in cells):
            raise NotTapped("LayerNorms of other betas share the gamma")
        super().__init__(cells, context, (1, cell.gamma.size, 1), cell.beta if cell.beta.requires_grad else None)

    def create_preconditioner(self, batch: BatchFacts, *inverses: Inverse) -> nn.Cell:
        ranks = world()[1]  # its gradient is that of all
        return LayerNormPreconditioner(batch, ranks, self.context.options.relative_damping)


class LayerNormPreconditioner(nn.Cell):
    """``g / (g^2 / bs + sqrt(lam))``, bs the samples of the update, of all micro-batches and ranks."""

    def __init__(self, batch: BatchFacts, n_ranks: int, relative: bool):
        super().__init__(auto_prefix=False)
        self.batch, self.n_ranks, self.relative = batch, n_ranks, relative

    def construct(self, gradients, damping):
        samples = self.batch.samples * self.n_ranks
        if self.batch.sums:
            samples = samples * ops.square(self.batch.samples / self.batch.micro_batches)  # g is that many means
        return tuple([g / damped_diagonal(g * g / samples, damping, self.relative) for g in gradients])
