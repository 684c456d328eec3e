"""Normalisation layers: LayerNorm by its squared gradient, BatchNorm optionally by 2x2 blocks per channel."""
from __future__ import annotations

import mindspore as ms
from mindspore import nn, ops

from thor.backends.base import Backend
from thor.layers.base import (MEASUREMENT_SCALE, NotTapped, Tap, TapOptions, TappedLayer, create_factors, install,
                              shared_measure)
from thor.layers.gates import Gate


def tap_layer_norm(cell: nn.LayerNorm, backend: Backend, options: TapOptions,
                   shared: TappedLayer | None = None) -> TappedLayer:
    """LayerNorm needs no tap: its curvature is the square of its own gradient, fresh in every step."""
    beta = cell.beta if cell.beta.requires_grad else None
    return shared or TappedLayer("layernorm", cell.gamma, beta, {}, (1, cell.gamma.size, 1))


class BatchNormMeasure(nn.Cell):
    """Unit-wise Fisher blocks of (gamma, beta): the mean over samples of their per-sample gradients' products.

    Source: Amari et al. 2019 (unit-wise Fisher); Osawa et al. 2020 (SP-NGD), section on BatchNorm.
    """

    def __init__(self, options: TapOptions, epsilon: float):
        super().__init__(auto_prefix=False)
        self.epsilon, self.traced = epsilon, options.traced
        self.gate = Gate(options.gated, options.traced)

    def construct(self, x, y, factor_g, statistics, gates):
        return y

    def bprop(self, x, y, factor_g, statistics, gates, out, dout):
        images, d = _maps(x.astype(ms.float32)), _maps(dout.astype(ms.float32))  # (n, channels, positions)
        centred = images - images.mean(axis=(0, 2), keep_dims=True)
        normalised = centred / ops.sqrt((centred * centred).mean(axis=(0, 2), keep_dims=True) + self.epsilon)
        of_gamma, of_beta = (d * normalised).sum(axis=2), d.sum(axis=2)  # (n, channels)
        cross = (of_gamma * of_beta).mean(axis=0)
        variances = (of_gamma * of_gamma).mean(axis=0), (of_beta * of_beta).mean(axis=0)
        blocks = ops.stack((variances[0], cross, cross, variances[1]), 1).reshape(-1, 2, 2)
        trace = (variances[0] + variances[1]).sum().reshape(1) if self.traced else None
        told = self.gate(gates, 1.0, ops.ones((1,), ms.float32), trace)
        return (ops.zeros_like(x), dout, blocks * MEASUREMENT_SCALE, told * MEASUREMENT_SCALE, ops.zeros_like(gates))


class BatchNormTap(Tap):
    """``BatchNorm(x, gamma, beta, mean, variance)`` in training, with its unit-wise blocks."""

    def construct(self, x, gamma, beta, mean, variance):
        return (self.observe(x, self.operator(x, gamma, beta, mean, variance)[0]),)


def tap_batch_norm(cell: nn.Cell, backend: Backend, options: TapOptions,
                   shared: TappedLayer | None = None) -> TappedLayer:
    """Tap the training-time operator of a BatchNorm cell."""
    if not options.batchnorm_blocks:
        raise NotTapped("BatchNorm, set batchnorm_blocks=True for unit-wise blocks")
    if not (cell.gamma.requires_grad and cell.beta.requires_grad):
        raise NotTapped("BatchNorm with gamma or beta frozen")
    if getattr(cell, "bn_train", None) is None or cell.format != "NCHW":
        raise NotTapped("BatchNorm without a 'bn_train' operator on NCHW to tap")
    channels = cell.num_features
    layer = shared or TappedLayer("batchnorm", cell.gamma, cell.beta,
                                  create_factors(cell.gamma, g=(channels, 2, 2)), (channels, 1, 2))
    measure = shared_measure(backend, (BatchNormMeasure, options, cell.eps),
                             lambda: BatchNormMeasure(options, cell.eps))
    tap = BatchNormTap(cell.bn_train, measure, layer.factors)
    layer.taps.append(install(cell, "bn_train", tap))
    return layer


def _maps(x):
    """``(n, channels, ...)`` to ``(n, channels, positions)``."""
    return x.reshape(x.shape[0], x.shape[1], -1)
