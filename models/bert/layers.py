"""The plain cells a transformer is made of, initialised as published."""
from __future__ import annotations

from collections.abc import Iterator

import mindspore as ms
from mindspore import nn, ops
from mindspore.common.initializer import TruncatedNormal

from models.config import TransformerConfig
from models.dropout import Dropout


class ComposedDense(nn.Dense):
    """Dense out of products and a sum: on CPU the gradient of MindSpore's BiasAdd costs three times this."""

    def construct(self, x):
        rows = self.matmul(x.reshape(-1, x.shape[-1]), self.weight)
        if self.has_bias:
            rows = rows + _repeated_row(self.bias, rows)
        if self.activation_flag:
            rows = self.activation(rows)
        return rows.reshape(*x.shape[:-1], rows.shape[-1])


class ComposedLayerNorm(nn.LayerNorm):
    """LayerNorm of rows out of matrix products: on CPU the gradient of MindSpore's own costs three times this."""

    def construct(self, x):
        width = x.shape[1]
        average, ones = ops.ones((width, 1), x.dtype) / width, ops.ones((1, width), x.dtype)
        centred = x - ops.matmul(ops.matmul(x, average), ones)
        scale = ops.rsqrt(ops.matmul(centred * centred, average) + self.epsilon)  # (n, 1)
        return centred * ops.matmul(scale, self.gamma.reshape(1, -1)) + _repeated_row(self.beta, x)


class Gelu(nn.Cell):
    """``x Phi(x)`` (Hendrycks and Gimpel 2016) without MindSpore's two divisions, which are slow on CPU."""

    def construct(self, x):
        return x * (0.5 * ops.erf(x * 0.5 ** 0.5) + 0.5)


class FastGelu(nn.Cell):
    """``x sigmoid(1.702 x)`` (Hendrycks and Gimpel 2016), in half the time of MindSpore's FastGeLU on CPU."""

    def construct(self, x):
        return x * ops.sigmoid(x * 1.702)


def _repeated_row(row, rows):
    """``row`` ``(width,)`` in the shape of ``rows`` ``(n, width)``, as a product.

    A broadcast sum or product on CPU takes twice the time and keeps, as long as its graph lives, two indices of eight
    bytes for every element of the result.
    """
    return ops.matmul(ops.ones((rows.shape[0], 1), row.dtype), row.reshape(1, -1))


def dense(config: TransformerConfig, in_channels: int, out_channels: int, activation=None, has_bias: bool = True,
          share: float = 1.0) -> nn.Dense:
    """A Dense layer with a zero bias and truncated normal weights, of ``share`` of the configured deviation."""
    kind, weights = ComposedDense if on_cpu() else nn.Dense, TruncatedNormal(config.initializer_range * share)
    return kind(in_channels, out_channels, weights, "zeros", has_bias, activation)


def on_cpu() -> bool:
    """Whether MindSpore's present target is the CPU."""
    return ms.get_context("device_target") == "CPU"


def embedding(config: TransformerConfig, rows: int) -> nn.Embedding:
    """A table of ``rows`` vectors of ``hidden_size``."""
    return nn.Embedding(rows, config.hidden_size, embedding_table=TruncatedNormal(config.initializer_range))


def layer_norm(config: TransformerConfig) -> nn.LayerNorm:
    """LayerNorm over ``hidden_size``."""
    kind = ComposedLayerNorm if on_cpu() else nn.LayerNorm
    return kind((config.hidden_size,), epsilon=config.layer_norm_epsilon)


def activation(config: TransformerConfig) -> nn.Cell:
    """The activation of the feed-forward parts and of the masked-LM transform."""
    if config.activation == "gelu_tanh":
        return nn.GELU(approximate=True)
    return FastGelu() if config.activation == "fast_gelu" else Gelu()


def dropout(p: float, seeds: Iterator[int]) -> nn.Cell:
    """Dropout with the next seed; nothing for ``p`` = 0."""
    return Dropout(p, next(seeds)) if p > 0 else nn.Identity()
