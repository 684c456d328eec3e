"""The two pretraining heads."""
from __future__ import annotations

import mindspore as ms
from mindspore import Parameter, nn, ops
from mindspore.common.initializer import initializer

from models.bert.layers import activation, dense, layer_norm
from models.config import BertConfig


class MaskedLanguageModelHead(nn.Cell):
    """Logits of the words at masked positions; the decoder is the word embedding table itself.

    Inputs:
        rows: ``(batch * sequence, hidden_size)``.
        masked_positions: ``(batch, masked)``, int32, within the sequence.
        sequence: positions of a sample, an int.
        table: the word embedding, ``(vocab_size, hidden_size)``.

    Outputs: ``(batch * masked, vocab_size)``.
    """

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.transform = dense(config, config.hidden_size, config.hidden_size, activation(config))
        self.norm = layer_norm(config)
        self.output_bias = Parameter(initializer("zeros", (config.vocab_size,), ms.float32), name="output_bias")
        self.decode = ops.MatMul(transpose_b=True)

    def construct(self, rows, masked_positions, sequence, table):
        first = ops.arange(masked_positions.shape[0]).astype(ms.int32).reshape(-1, 1) * sequence
        masked = rows[(masked_positions + first).reshape(-1)]  # (batch * masked, hidden)
        return self.decode(self.norm(self.transform(masked)), table) + self.output_bias


class NextSentenceHead(nn.Cell):
    """Logits ``(batch, 2)`` from pooled first tokens ``(batch, hidden_size)``; class 0 is "follows"."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.classifier = dense(config, config.hidden_size, 2)

    def construct(self, pooled):
        return self.classifier(pooled)
