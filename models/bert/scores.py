"""Evaluation of pretraining: sums over batches, and the metrics made of them."""
from __future__ import annotations

import math
from typing import Callable

import mindspore as ms
import numpy as np
from mindspore import nn, ops
from mindspore.train import Metric

from models.bert.loss import cross_entropy

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


class Total(Metric):
    """A number made of the scores summed over all batches, so that every masked word counts the same.

    Args:
        measure: of the sums ``(6,)``, float64.
    """

    def __init__(self, measure: Callable[[np.ndarray], float]) -> None:
        super().__init__()
        self.measure = measure
        self.clear()

    def clear(self) -> None:
        self.totals = np.zeros(6)

    def update(self, *scores: ms.Tensor) -> None:
        self.totals += scores[0].asnumpy().astype(np.float64)

    def eval(self) -> float:
        return float(self.measure(self.totals))


def pretraining_metrics() -> dict[str, Metric]:
    """Loss as trained on, and loss, perplexity and accuracy of the two tasks."""
    def mean(total: int, count: int) -> Callable[[np.ndarray], float]:
        return lambda totals: totals[total] / max(totals[count], 1.0)
    words, sentences = mean(WORD_LOSS, WORDS), mean(SENTENCE_LOSS, SENTENCES)
    return {"loss": Total(lambda totals: words(totals) + sentences(totals)), "mlm_loss": Total(words),
            "mlm_perplexity": Total(lambda totals: math.exp(min(words(totals), 700.0))),
            "mlm_accuracy": Total(mean(WORDS_RIGHT, WORDS)),
            "nsp_accuracy": Total(mean(SENTENCES_RIGHT, SENTENCES))}
