"""The loss of telling the next token, and the sums and metrics of its evaluation."""
from __future__ import annotations

import math

import mindspore as ms
from mindspore import nn, ops

from models.bert.scores import sums
from models.losses import cross_entropy
from models.metrics import Total, mean

# Places in the scores of a batch.
LOSS, RIGHT, TOKENS = range(3)


class NextTokenLoss(nn.Cell):
    """A network with its loss: cross entropy of every token but the first, given those before it, averaged; float32.

    Args:
        network: a :class:`models.gpt.network.Gpt`.

    Inputs: tokens ``(batch, sequence + 1)``, int32. Outputs: the loss, ``()``.
    """

    def __init__(self, network: nn.Cell) -> None:
        super().__init__(auto_prefix=False)
        self.network = network

    def construct(self, tokens):
        return cross_entropy(self.network(tokens[:, :-1]), tokens[:, 1:].reshape(-1)).mean()


class NextTokenScores(nn.Cell):
    """Loss, right answers and told tokens, summed over a batch: ``(3,)``, float32; inputs of :class:`NextTokenLoss`."""

    def __init__(self, network: nn.Cell) -> None:
        super().__init__(auto_prefix=False)
        self.network = network

    def construct(self, tokens):
        labels = tokens[:, 1:].reshape(-1)
        logits = self.network(tokens[:, :-1])
        return ops.stack(sums(logits, labels, ops.ones_like(labels.astype(ms.float32))))


def next_token_metrics() -> dict[str, Total]:
    """Loss, perplexity and the share of tokens whose logit is the largest."""
    loss = mean(LOSS, TOKENS)
    measures = {"loss": loss, "perplexity": lambda totals: math.exp(min(loss(totals), 700.0)),
                "next_token_accuracy": mean(RIGHT, TOKENS)}
    return {name: Total(measure, 3) for name, measure in measures.items()}
