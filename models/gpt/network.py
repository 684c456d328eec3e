"""GPT: a transformer whose positions see only what stands before them."""
from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import mindspore as ms
from mindspore import nn, ops

from models.bert.attention import MultiHeadAttention
from models.bert.layers import activation, dense, dropout, embedding, layer_norm, on_cpu
from models.bert.network import MASKED_SCORE
from models.config import GptConfig


class CausalAttention(MultiHeadAttention):
    """Self-attention; what a position sees is in ``mask``.

    Inputs:
        rows: ``(batch * sequence, hidden_size)``.
        mask: added to the scores ``(heads, batch, sequence, sequence)``, so or as ``(1, 1, sequence, sequence)``.
        batch: of the rows, an int.

    Outputs: ``(batch * sequence, hidden_size)``.
    """

    def __init__(self, config: GptConfig, seeds: Iterator[int]) -> None:
        super().__init__(config, seeds)
        hidden = config.hidden_size
        self.fused = config.fused_qkv
        if self.fused:
            self.query_key_value = dense(config, hidden, 3 * hidden)
        else:
            self.query, self.key, self.value = (dense(config, hidden, hidden) for _ in range(3))
        self.output = dense(config, hidden, hidden, share=share_of_residuals(config))

    def construct(self, rows, mask, batch):
        query, key, value = self.projected(rows, batch, mask.shape[3])
        weights = self.dropout(self.softmax(self.product_nt(query * self.scale, key) + mask))
        return self.output(self.join_heads(self.product(weights, value)))

    def projected(self, rows, batch, sequence):
        """Queries, keys and values, ``(heads, batch, sequence, head_size)``."""
        if self.fused:
            return ops.split(self.split_heads(self.query_key_value(rows), batch, sequence), self.heads, 0)
        return tuple([self.split_heads(part(rows), batch, sequence) for part in (self.query, self.key, self.value)])


class DecoderLayer(nn.Cell):
    """Attention and feed-forward, each ``x + dropout(sublayer(norm(x)))``.

    Inputs and outputs as of :class:`CausalAttention`.
    """

    def __init__(self, config: GptConfig, seeds: Iterator[int]) -> None:
        super().__init__()
        self.attention_norm = layer_norm(config)
        self.attention = CausalAttention(config, seeds)
        self.attention_dropout = dropout(config.dropout, seeds)
        self.feed_forward_norm = layer_norm(config)
        self.intermediate = dense(config, config.hidden_size, config.intermediate_size, activation(config))
        self.output = dense(config, config.intermediate_size, config.hidden_size, share=share_of_residuals(config))
        self.output_dropout = dropout(config.dropout, seeds)

    def construct(self, rows, mask, batch):
        rows = rows + self.attention_dropout(self.attention(self.attention_norm(rows), mask, batch))
        return rows + self.output_dropout(self.output(self.intermediate(self.feed_forward_norm(rows))))


class Gpt(nn.Cell):
    """GPT-2 (Radford et al. 2019): normalised before each sublayer, with learned positions and tied words.

    Inputs: input_ids ``(batch, sequence)``, int32; sequence at most ``config.max_positions``.
    Outputs: logits of the token after each, ``(batch * sequence, vocab_size)``.
    """

    def __init__(self, config: GptConfig) -> None:
        super().__init__()
        seeds = count(config.dropout_seed)
        self.hidden_size, self.max_positions, self.heads = config.hidden_size, config.max_positions, config.heads
        self.word, self.position = embedding(config, config.vocab_size), embedding(config, config.max_positions)
        self.dropout = dropout(config.dropout, seeds)
        self.decoder_layers = nn.CellList([DecoderLayer(config, seeds) for _ in range(config.layers)])
        self.norm = layer_norm(config)
        self.decoder = dense(config, config.hidden_size, config.vocab_size, has_bias=False)
        self.decoder.weight = self.word.embedding_table
        self.tiles_mask = on_cpu()  # whose broadcasts keep two indices of eight bytes for every element of the result

    def construct(self, input_ids):
        return self.decoder(self.encoded(input_ids))

    def encoded(self, input_ids):
        """What the logits are made of, ``(batch * sequence, hidden_size)``."""
        batch, sequence = input_ids.shape
        if sequence > self.max_positions:
            raise ValueError(f"input_ids has sequences of {sequence}; must be at most max_positions="
                             f"{self.max_positions}; cut them or raise max_positions")
        positions = ops.tile(self.position(ops.arange(sequence)).expand_dims(0), (batch, 1, 1))
        rows = self.dropout((self.word(input_ids) + positions).reshape(-1, self.hidden_size))
        mask = causal_mask(sequence)
        if self.tiles_mask:
            mask = ops.tile(mask, (self.heads, batch, 1, 1))  # once, or every layer would repeat it
        for layer in self.decoder_layers:
            rows = layer(rows, mask, batch)
        return self.norm(rows)


def causal_mask(sequence):
    """0 where a position may look, ``MASKED_SCORE`` at those after it: ``(1, 1, sequence, sequence)``."""
    position = ops.arange(sequence)
    later = position.reshape(1, -1) > position.reshape(-1, 1)
    return (later.astype(ms.float32) * MASKED_SCORE).reshape(1, 1, sequence, sequence)


def share_of_residuals(config: GptConfig) -> float:
    """Of the deviation that the weights before a residual sum start with, as published: there are two a layer."""
    return (2 * config.layers) ** -0.5
