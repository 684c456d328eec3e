"""BatchNorm, optionally, by 2x2 Fisher blocks of (gamma, beta), one a channel."""
from __future__ import annotations

from collections.abc import Sequence

import mindspore as ms
from mindspore import nn, ops

from thor.backends.preconditioning import Product
from thor.layers.base import Factor, Inverse, Layer, LayerContext, NotTapped, register_layer, require_operator
from thor.layers.batch import BatchFacts
from thor.layers.tap import MEASUREMENT_SCALE, Gate, Tap, deferred


class BatchNormMeasure(nn.Cell):
    """Unit-wise Fisher blocks of (gamma, beta): the mean over samples of their per-sample gradients' products.

    Source: Amari et al. 2019 (unit-wise Fisher); Osawa et al. 2020 (SP-NGD), section on BatchNorm.
    """

    def __init__(self, context: LayerContext, epsilon: float):
        super().__init__(auto_prefix=False)
        self.epsilon, self.traced, self.subsample = epsilon, context.traced, context.options.subsample
        self.gate = Gate(context.gated, context.traced)
        self.deferred, self.zeros_like = deferred(self), ops.ZerosLike()

    def construct(self, x, y, factor_unit, statistics, gates):
        return y

    def bprop(self, x, y, factor_unit, statistics, gates, out, dout):
        blocks, row = self.deferred(x, y, ops.stop_gradient(dout), factor_unit, statistics, gates)
        return self.zeros_like(x), dout, blocks, row, self.zeros_like(gates)

    def measured(self, x, y, dout, factor_unit, statistics, gates):
        """The gradients of ``factor_unit`` and of the statistics."""
        images, d = maps(x.astype(ms.float32)), maps(dout.astype(ms.float32))  # (n, channels, positions)
        centred = images - images.mean(axis=(0, 2), keep_dims=True)
        normalised = centred / ops.sqrt((centred * centred).mean(axis=(0, 2), keep_dims=True) + self.epsilon)
        of_gamma, of_beta = (d * normalised).sum(axis=2), d.sum(axis=2)  # (n, channels)
        if self.subsample > 1:  # the statistics that normalise are those of all
            of_gamma, of_beta = of_gamma[::self.subsample], of_beta[::self.subsample]
        cross = (of_gamma * of_beta).mean(axis=0)
        variances = (of_gamma * of_gamma).mean(axis=0), (of_beta * of_beta).mean(axis=0)
        blocks = ops.stack((variances[0], cross, cross, variances[1]), 1).reshape(-1, 2, 2)
        trace = (variances[0] + variances[1]).sum().reshape(1) if self.traced else None
        row = self.gate(gates, 1.0, float(x.shape[0]), ops.ones((1,), ms.float32), trace)
        return blocks * MEASUREMENT_SCALE, row * MEASUREMENT_SCALE


class BatchNormTap(Tap):
    """``BatchNorm(x, gamma, beta, mean, variance)`` in training, with its unit-wise blocks."""

    def construct(self, x, gamma, beta, mean, variance):
        return (self.observe(x, gamma, self.operator(x, gamma, beta, mean, variance)[0]),)


@register_layer(nn.BatchNorm1d)
@register_layer(nn.BatchNorm2d)
@register_layer(nn.BatchNorm3d)
class BatchNormLayer(Layer):
    """A BatchNorm cell whose gamma and beta are both trained."""

    weight_name = "gamma"
    other_operators = {"bn_infer": 1}

    def __init__(self, cells: Sequence[nn.Cell], context: LayerContext):
        cell = cells[0]
        if not context.options.batchnorm_blocks:
            raise NotTapped("BatchNorm, set batchnorm_blocks=True for unit-wise blocks")
        if not (cell.gamma.requires_grad and cell.beta.requires_grad):
            raise NotTapped("BatchNorm with gamma or beta frozen")
        for user in cells:
            if user.beta is not cell.beta:
                raise NotTapped("BatchNorms of other betas share the gamma")
            if getattr(user, "bn_train", None) is None or user.format != "NCHW":
                raise NotTapped("BatchNorm without a 'bn_train' operator on NCHW to tap")
        channels = cell.num_features
        super().__init__(cells, context, (channels, 1, 2), cell.beta)
        self.create_factor_parameters(unit=(channels, 2, 2))
        self.factors = (Factor("unit", self.factor_parameters["unit"], 2 * channels),)

    @property
    def fisher_rows(self) -> int:
        return 2 * self.matrix[0]

    def tapped(self, cell: nn.Cell) -> tuple[str, type[Tap], nn.Cell]:
        return require_operator(cell, "bn_train"), BatchNormTap, self.context.measure(BatchNormMeasure, cell.eps)

    def create_preconditioner(self, batch: BatchFacts, *inverses: Inverse) -> nn.Cell:
        return UnitPreconditioner(self, *inverses)


class UnitPreconditioner(nn.Cell):
    """One 2x2 Fisher block of (gamma, beta) per channel, damped by lam itself."""

    def __init__(self, layer: BatchNormLayer, inverse: Inverse):
        super().__init__(auto_prefix=False)
        self.inverses = inverse.parameter
        channels = layer.matrix[0]
        self.product_of_layer = Product((channels, 1, 1), ((channels,), (channels,)), inverse, None)
        self.precondition = layer.context.backend.precondition_columns_operator(layer.matrix, inverse.blocks)

    def product(self) -> Product:
        """What :meth:`construct` computes."""
        return self.product_of_layer

    def construct(self, gradients, damping):
        joint = ops.stack((gradients[0], gradients[1]), axis=1).expand_dims(1)  # (channels, 1, 2)
        joint = self.precondition(joint, self.inverses)
        return joint[:, 0, 0], joint[:, 0, 1]


def maps(x):
    """``(n, channels, ...)`` to ``(n, channels, positions)``."""
    return x.reshape(x.shape[0], x.shape[1], -1)
