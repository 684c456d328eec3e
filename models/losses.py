"""Losses of the zoo."""
from __future__ import annotations

from typing import Any

import mindspore as ms
from mindspore import nn, ops


class SmoothedCrossEntropy(nn.Cell):
    """Softmax cross entropy with label smoothing (Szegedy et al. 2016, section 7), averaged over the batch.

    With K classes and smoothing e the target of the true class is 1 - e + e / K, of every other e / K. It is
    computed in float32, whatever the precision of the logits.

    Args:
        label_smoothing: e, 0 <= e < 1, default 0.

    Inputs: logits (N, K), float; labels (N,), int32. Outputs: loss (), float32.
    """

    def __init__(self, label_smoothing: float = 0.0) -> None:
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing={label_smoothing!r}; must be >= 0 and < 1; 0.1 is usual")
        self.label_smoothing = float(label_smoothing)

    def construct(self, logits, labels):
        return cross_entropy(logits, labels, self.label_smoothing).mean()


def cross_entropy(logits, labels, label_smoothing=0.0):
    """Softmax cross entropy of each row: ``(N, K)`` and ``(N,)`` to ``(N,)``, in float32."""
    logits = logits.astype(ms.float32)
    # Written out because MindSpore's log_softmax on CPU is off by 5e-6, five times as much as this; tiled because
    # its broadcasts there keep two indices of eight bytes for every element of the result.
    largest = ops.tile(ops.stop_gradient(logits.max(-1, keepdims=True)), (1, logits.shape[1]))
    logits = logits - largest  # (N, K)
    log_total = ops.log(ops.exp(logits).sum(-1))  # (N,)
    true_class = ops.gather_elements(logits, 1, labels.reshape(-1, 1)).reshape(-1)  # (N,)
    loss = log_total - (1 - label_smoothing) * true_class
    if label_smoothing > 0:
        loss = loss - label_smoothing * logits.mean(-1)
    return loss


def create_loss(loss_config: Any) -> nn.Cell:
    """The loss a loss section asks for; it has label_smoothing."""
    return SmoothedCrossEntropy(loss_config.label_smoothing)
