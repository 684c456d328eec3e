"""BERT and its pretraining network."""
from __future__ import annotations

from itertools import count

import mindspore as ms
from mindspore import nn, ops

from models.bert.encoder import Embeddings, EncoderLayer
from models.bert.heads import MaskedLanguageModelHead, NextSentenceHead
from models.bert.layers import dense
from models.config import BertConfig

MASKED_SCORE = -10000.0


class Bert(nn.Cell):
    """BERT without heads (Devlin et al. 2019, https://arxiv.org/abs/1810.04805).

    Inputs:
        input_ids, token_type_ids: ``(batch, sequence)``, int32; sequence at most ``config.max_positions``.
        input_mask: ``(batch, sequence)``, 1 for tokens and 0 for padding.

    Outputs: encoded tokens ``(batch * sequence, hidden_size)`` and pooled first tokens ``(batch, hidden_size)``.
    """

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        seeds = count(config.dropout_seed)
        self.hidden_size, self.max_positions = config.hidden_size, config.max_positions
        self.heads = config.heads
        self.embeddings = Embeddings(config, seeds)
        self.encoder = nn.CellList([EncoderLayer(config, seeds) for _ in range(config.layers)])
        self.pooler = dense(config, config.hidden_size, config.hidden_size, "tanh")

    def construct(self, input_ids, token_type_ids, input_mask):
        batch, sequence = input_ids.shape
        if sequence > self.max_positions:
            raise ValueError(f"input_ids has sequences of {sequence}; must be at most max_positions="
                             f"{self.max_positions}; cut them or raise max_positions")
        mask = (1.0 - input_mask.astype(ms.float32).reshape(1, batch, 1, sequence)) * MASKED_SCORE
        mask = ops.tile(mask, (self.heads, 1, sequence, 1))  # once, or every layer would repeat it
        rows = self.embeddings(input_ids, token_type_ids)
        for layer in self.encoder:
            rows = layer(rows, mask)
        first = rows.reshape(batch, sequence, self.hidden_size)[:, 0]
        return rows, self.pooler(first)


class BertForPretraining(nn.Cell):
    """BERT with the masked-LM head, tied to the word embedding, and the next-sentence head.

    Inputs: those of :class:`Bert`; masked_positions ``(batch, masked)``, int32.
    Outputs: logits ``(batch * masked, vocab_size)`` and ``(batch, 2)``.
    """

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.bert = Bert(config)
        self.masked_language_model = MaskedLanguageModelHead(config)
        # behind its parent, or the table would be renamed after the decoder
        self.masked_language_model.decoder.weight = self.bert.embeddings.word.embedding_table
        self.next_sentence = NextSentenceHead(config)

    def construct(self, input_ids, token_type_ids, input_mask, masked_positions):
        rows, pooled = self.bert(input_ids, token_type_ids, input_mask)
        logits = self.masked_language_model(rows, masked_positions, input_ids.shape[1])
        return logits, self.next_sentence(pooled)
