"""The two pretraining heads."""
from __future__ import annotations

import mindspore as ms
from mindspore import nn, ops

from models.bert.layers import activation, dense, layer_norm
from models.config import BertConfig


class MaskedLanguageModelHead(nn.Cell):
    """Logits of the words at masked positions; ``decoder.weight`` is to be the word embedding table itself.

    Inputs:
        rows: ``(batch * sequence, hidden_size)``.
        masked_positions: ``(batch, masked)``, int32, within the sequence.
        sequence: positions of a sample, an int.

    Outputs: ``(batch * masked, vocab_size)``.
    """

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.transform = dense(config, config.hidden_size, config.hidden_size, activation(config))
        self.norm = layer_norm(config)
        self.decoder = dense(config, config.hidden_size, config.vocab_size)

    def construct(self, rows, masked_positions, sequence):
        first = ops.arange(masked_positions.shape[0]).astype(ms.int32).reshape(-1, 1) * sequence
        masked = rows[(masked_positions + first).reshape(-1)]  # (batch * masked, hidden)
        return self.decoder(self.norm(self.transform(masked)))


class NextSentenceHead(nn.Cell):
    """Logits ``(batch, 2)`` from pooled first tokens ``(batch, hidden_size)``; class 0 is "follows"."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.classifier = dense(config, config.hidden_size, 2)

    def construct(self, pooled):
        return self.classifier(pooled)
