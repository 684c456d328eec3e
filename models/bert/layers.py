"""The plain cells a BERT is made of, initialised as published."""
from __future__ import annotations

from typing import Iterator

from mindspore import nn
from mindspore.common.initializer import TruncatedNormal

from models.config import BertConfig
from models.dropout import Dropout


def dense(config: BertConfig, in_channels: int, out_channels: int, activation=None) -> nn.Dense:
    """A Dense layer with truncated normal weights and a zero bias."""
    return nn.Dense(in_channels, out_channels, TruncatedNormal(config.initializer_range), "zeros",
                    activation=activation)


def embedding(config: BertConfig, rows: int) -> nn.Embedding:
    """A table of ``rows`` vectors of ``hidden_size``."""
    return nn.Embedding(rows, config.hidden_size, embedding_table=TruncatedNormal(config.initializer_range))


def layer_norm(config: BertConfig) -> nn.LayerNorm:
    """LayerNorm over ``hidden_size``."""
    return nn.LayerNorm((config.hidden_size,), epsilon=config.layer_norm_epsilon)


def activation(config: BertConfig) -> nn.Cell:
    """The activation of the feed-forward parts and of the masked-LM transform."""
    return nn.GELU(approximate=config.activation == "fast_gelu")


def dropout(p: float, seeds: Iterator[int]) -> nn.Cell:
    """Dropout with the next seed; nothing for ``p`` = 0."""
    return Dropout(p, next(seeds)) if p > 0 else nn.Identity()
