"""Embeddings and encoder layers with LayerNorm behind every sublayer."""
from __future__ import annotations

from collections.abc import Iterator

from mindspore import nn, ops

from models.bert.attention import SelfAttention
from models.bert.layers import activation, dense, dropout, embedding, layer_norm
from models.config import BertConfig


class Embeddings(nn.Cell):
    """Word, position and token-type embeddings, summed and normalised.

    Inputs: input_ids and token_type_ids ``(batch, sequence)``, int32.
    Outputs: ``(batch * sequence, hidden_size)``.
    """

    def __init__(self, config: BertConfig, seeds: Iterator[int]) -> None:
        super().__init__()
        self.hidden_size = config.hidden_size
        self.word = embedding(config, config.vocab_size)
        self.position = None if config.relative_positions else embedding(config, config.max_positions)
        self.token_type = embedding(config, config.token_types)
        self.norm = layer_norm(config)
        self.dropout = dropout(config.dropout, seeds)

    def construct(self, input_ids, token_type_ids):
        total = self.word(input_ids) + self.token_type(token_type_ids)  # (batch, sequence, hidden)
        if self.position is not None:
            positions = self.position(ops.arange(input_ids.shape[1]))
            total = total + ops.tile(positions.expand_dims(0), (input_ids.shape[0], 1, 1))
        return self.dropout(self.norm(total.reshape(-1, self.hidden_size)))


class EncoderLayer(nn.Cell):
    """Attention and feed-forward, each ``norm(x + dropout(sublayer(x)))``.

    Inputs and outputs as of :class:`models.bert.attention.SelfAttention`.
    """

    def __init__(self, config: BertConfig, seeds: Iterator[int]) -> None:
        super().__init__()
        self.attention = SelfAttention(config, seeds)
        self.attention_dropout = dropout(config.dropout, seeds)
        self.attention_norm = layer_norm(config)
        self.intermediate = dense(config, config.hidden_size, config.intermediate_size, activation(config))
        self.output = dense(config, config.intermediate_size, config.hidden_size)
        self.output_dropout = dropout(config.dropout, seeds)
        self.output_norm = layer_norm(config)

    def construct(self, rows, mask):
        rows = self.attention_norm(rows + self.attention_dropout(self.attention(rows, mask)))
        return self.output_norm(rows + self.output_dropout(self.output(self.intermediate(rows))))
