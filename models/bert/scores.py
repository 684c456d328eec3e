"""Evaluation of pretraining: sums over batches, and the metrics made of them."""
from __future__ import annotations

import math

import mindspore as ms
from mindspore import nn, ops

from models.losses import cross_entropy
from models.metrics import Total, mean

# Places in the scores of a batch.
WORD_LOSS, WORDS_RIGHT, WORDS, SENTENCE_LOSS, SENTENCES_RIGHT, SENTENCES = range(6)


class PretrainingScores(nn.Cell):
    """Sums over a batch: loss, right answers and questions, of masked words and then of next sentences.

    Args:
        network: a :class:`models.bert.network.BertForPretraining`.

    Inputs: those of :class:`models.bert.loss.BertPretrainingLoss`. Outputs: ``(6,)``, float32.
    """

    def __init__(self, network: nn.Cell) -> None:
        super().__init__(auto_prefix=False)
        self.network = network

    def construct(self, input_ids, token_type_ids, input_mask, masked_positions, masked_labels, masked_weights,
                  next_sentence_labels):
        words, sentences = self.network(input_ids, token_type_ids, input_mask, masked_positions)
        weights = masked_weights.astype(ms.float32).reshape(-1)
        labels, next_labels = masked_labels.reshape(-1), next_sentence_labels.reshape(-1)
        return ops.stack(sums(words, labels, weights) + sums(sentences, next_labels, ops.ones_like(
            next_labels.astype(ms.float32))))


def sums(logits, labels, weights):
    """Loss, right answers and weight of ``(n, classes)`` logits."""
    right = (logits.argmax(-1) == labels).astype(ms.float32)
    return ((cross_entropy(logits, labels) * weights).sum(), (right * weights).sum(), weights.sum())


def pretraining_metrics() -> dict[str, Total]:
    """Loss as trained on, and loss, perplexity and accuracy of the two tasks."""
    words, sentences = mean(WORD_LOSS, WORDS), mean(SENTENCE_LOSS, SENTENCES)
    measures = {"loss": lambda totals: words(totals) + sentences(totals), "mlm_loss": words,
                "mlm_perplexity": lambda totals: math.exp(min(words(totals), 700.0)),
                "mlm_accuracy": mean(WORDS_RIGHT, WORDS), "nsp_accuracy": mean(SENTENCES_RIGHT, SENTENCES)}
    return {name: Total(measure, 6) for name, measure in measures.items()}
