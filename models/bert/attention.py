"""Attention with several heads; self-attention of BERT, optionally with NEZHA's relative positions."""
from __future__ import annotations

from collections.abc import Iterator

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops
from mindspore.common.initializer import TruncatedNormal, initializer

from models.bert.layers import dense, dropout, on_cpu
from models.config import BertConfig, TransformerConfig


class MultiHeadAttention(nn.Cell):
    """What attention with several heads is made of beside its projections; a base class."""

    def __init__(self, config: TransformerConfig, seeds: Iterator[int]) -> None:
        super().__init__()
        self.heads, self.head_size, self.hidden_size = config.heads, config.head_size, config.hidden_size
        self.dropout = dropout(config.attention_dropout, seeds)
        self.product, self.product_nt = ops.BatchMatMul(), ops.BatchMatMul(transpose_b=True)
        self.softmax = ops.Softmax(-1)
        self.scale = config.head_size ** -0.5
        self.by_parts = on_cpu()  # where splitting and stacking takes a quarter of a transpose's time

    def split_heads(self, rows, batch, sequence):
        """``(batch * sequence, heads * head_size)`` to ``(heads, batch, sequence, head_size)``, for any number."""
        if self.by_parts:
            rows = ops.stack(ops.split(rows, self.head_size, 1), 0)
            return rows.reshape(-1, batch, sequence, self.head_size)
        return rows.reshape(batch, sequence, -1, self.head_size).transpose(2, 0, 1, 3)

    def join_heads(self, context):
        """``(heads, batch, sequence, head_size)`` to ``(batch * sequence, hidden)``."""
        if self.by_parts:
            return ops.concat(ops.unstack(context.reshape(self.heads, -1, self.head_size), 0), 1)
        return context.transpose(1, 2, 0, 3).reshape(-1, self.hidden_size)


class SelfAttention(MultiHeadAttention):
    """``softmax(q k' / sqrt(head_size) + mask) v`` of every head, and the output projection (Vaswani et al. 2017).

    Inputs:
        rows: ``(batch * sequence, hidden_size)``.
        mask: added to the scores, ``(heads, batch, sequence, sequence)``.

    Outputs: ``(batch * sequence, hidden_size)``.
    """

    def __init__(self, config: BertConfig, seeds: Iterator[int]) -> None:
        super().__init__(config, seeds)
        hidden = config.hidden_size
        self.query, self.key, self.value = (dense(config, hidden, hidden) for _ in range(3))
        self.relative = RelativePositions(config) if config.relative_positions else None
        self.output = dense(config, hidden, hidden)

    def construct(self, rows, mask):
        batch, sequence = mask.shape[1], mask.shape[3]
        query = self.split_heads(self.query(rows) * self.scale, batch, sequence)
        key = self.split_heads(self.key(rows), batch, sequence)
        value = self.split_heads(self.value(rows), batch, sequence)
        scores = self.product_nt(query, key) + mask  # (heads, batch, sequence, sequence)
        if self.relative is not None:
            scores = scores + self.relative.scores(query)
        weights = self.dropout(self.softmax(scores))
        context = self.product(weights, value)  # (heads, batch, sequence, head_size)
        if self.relative is not None:
            context = context + self.relative.values(weights)
        return self.output(self.join_heads(context))


class RelativePositions(nn.Cell):
    """What the distance ``j - i`` adds to scores and values (Wei et al. 2019, NEZHA, equations 4 to 6).

    Its vector is a row of ``table`` ``(2 max_distance + 1, head_size)``: of sinusoids as in the article, or of a
    parameter that starts as truncated normal, as in MindSpore's BERT program.

    Args:
        config: ``relative_table``, ``max_distance``, ``head_size`` and ``initializer_range`` are read.
    """

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        shape = 2 * config.max_distance + 1, config.head_size
        if config.relative_table == "learned":
            self.table = Parameter(initializer(TruncatedNormal(config.initializer_range), shape, ms.float32))
        else:
            self.table = Tensor(sinusoids(*shape), ms.float32)
        self.max_distance = config.max_distance
        self.product, self.product_nt = ops.BatchMatMul(), ops.BatchMatMul(transpose_b=True)

    def relations(self, sequence):
        """Vector of each pair of positions ``(sequence, sequence, head_size)``."""
        position = ops.arange(sequence)
        distance = position.reshape(1, -1) - position.reshape(-1, 1)
        return ops.gather(self.table, distance.clamp(-self.max_distance, self.max_distance) + self.max_distance, 0)

    def scores(self, query):
        """``query . relation``: ``(heads, batch, sequence, head_size)`` to ``(heads, batch, sequence, sequence)``."""
        return self.by_position(query, self.product_nt)

    def values(self, weights):
        """``sum_j weight_j relation_j``, back to ``(heads, batch, sequence, head_size)``."""
        return self.by_position(weights, self.product)

    def by_position(self, x, product):
        """One product for each query position: ``(heads, batch, sequence, n)`` with ``relations``."""
        heads, batch, sequence, width = x.shape
        rows = x.transpose(2, 0, 1, 3).reshape(sequence, heads * batch, width)
        result = product(rows, self.relations(sequence).astype(x.dtype))
        return result.reshape(sequence, heads, batch, -1).transpose(1, 2, 0, 3)


def sinusoids(positions: int, width: int) -> np.ndarray:
    """``(positions, width)``: sine in even columns, cosine in odd, wavelengths 2 pi to 10000 * 2 pi."""
    rates = 10000.0 ** (-np.arange(0, width, 2) / width)
    angles = np.arange(positions)[:, None] * rates
    return np.stack((np.sin(angles), np.cos(angles)), axis=2).reshape(positions, width).astype(np.float32)
