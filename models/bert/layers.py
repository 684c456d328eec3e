"""The plain cells a BERT is made of, initialised as published."""
from __future__ import annotations

from typing import Iterator

import mindspore as ms
from mindspore import nn, ops
from mindspore.common.initializer import TruncatedNormal

from models.config import BertConfig
from models.dropout import Dropout


class ComposedDense(nn.Dense):
    """Dense out of a product and a sum: on CPU the gradient of MindSpore's BiasAdd costs six times a plain sum."""

    def construct(self, x):
        rows = self.matmul(x.reshape(-1, x.shape[-1]), self.weight) + self.bias
        if self.activation_flag:
            rows = self.activation(rows)
        return rows.reshape(*x.shape[:-1], rows.shape[-1])


class ComposedLayerNorm(nn.LayerNorm):
    """LayerNorm out of plain operators: on CPU MindSpore's own takes a fifth of a BERT step for its gradient."""

    def construct(self, x):
        centred = x - x.mean(-1, keep_dims=True)
        variance = (centred * centred).mean(-1, keep_dims=True)
        return centred * ops.rsqrt(variance + self.epsilon) * self.gamma + self.beta


def dense(config: BertConfig, in_channels: int, out_channels: int, activation=None) -> nn.Dense:
    """A Dense layer with truncated normal weights and a zero bias."""
    kind = ComposedDense if on_cpu() else nn.Dense
    return kind(in_channels, out_channels, TruncatedNormal(config.initializer_range), "zeros", activation=activation)


def on_cpu() -> bool:
    """Whether MindSpore's present target is the CPU."""
    return ms.get_context("device_target") == "CPU"


def embedding(config: BertConfig, rows: int) -> nn.Embedding:
    """A table of ``rows`` vectors of ``hidden_size``."""
    return nn.Embedding(rows, config.hidden_size, embedding_table=TruncatedNormal(config.initializer_range))


def layer_norm(config: BertConfig) -> nn.LayerNorm:
    """LayerNorm over ``hidden_size``."""
    kind = ComposedLayerNorm if on_cpu() else nn.LayerNorm
    return kind((config.hidden_size,), epsilon=config.layer_norm_epsilon)


def activation(config: BertConfig) -> nn.Cell:
    """The activation of the feed-forward parts and of the masked-LM transform."""
    return nn.GELU(approximate=config.activation == "fast_gelu")


def dropout(p: float, seeds: Iterator[int]) -> nn.Cell:
    """Dropout with the next seed; nothing for ``p`` = 0."""
    return Dropout(p, next(seeds)) if p > 0 else nn.Identity()
