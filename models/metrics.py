"""Evaluation as sums of scores, over batches and over devices, and the metrics made of them."""
from __future__ import annotations

from collections.abc import Callable, Mapping

import mindspore as ms
import numpy as np
from mindspore import nn, ops
from mindspore.train import Metric

EMA = "ema_"  # before the name of a metric: it is that of the averaged weights
# Places in the scores of a batch of images.
LOSS, RIGHT, RIGHT_OF_FIVE, IMAGES = range(4)


class Total(Metric):
    """A number made of the scores summed over all batches, so that every sample counts the same.

    Args:
        measure: of the sums, float64, to the number.
        size: scores of a batch.
    """

    def __init__(self, measure: Callable[[np.ndarray], float], size: int) -> None:
        super().__init__()
        self.measure, self.size = measure, size
        self.clear()

    def clear(self) -> None:
        self.totals = np.zeros(self.size)

    def update(self, *scores: ms.Tensor) -> None:
        self.totals += scores[0].asnumpy().astype(np.float64)

    def eval(self) -> float:
        return float(self.measure(self.totals))


def mean(total: int, count: int) -> Callable[[np.ndarray], float]:
    """The measure that divides one of the sums by another."""
    return lambda totals: totals[total] / max(totals[count], 1.0)


def over_devices(metrics: Mapping[str, Total], add: Callable[[np.ndarray], np.ndarray]) -> dict[str, float]:
    """The metrics of all devices' samples; ``add`` sums an array over devices."""
    return {name: float(metric.measure(add(metric.totals))) for name, metric in metrics.items()}


class ImageScores(nn.Cell):
    """Loss, right answers, right ones among the first five, and images, summed over a batch.

    Args:
        network: images to logits ``(N, K)``.
        loss: of logits and labels, averaged over the batch.

    Inputs: images, and labels ``(N,)``. Outputs: ``(4,)``, float32.
    """

    def __init__(self, network: nn.Cell, loss: nn.Cell) -> None:
        super().__init__(auto_prefix=False)
        self.network, self.loss = network, loss

    def construct(self, images, labels):
        logits = self.network(images).astype(ms.float32)
        of_label = ops.gather_elements(logits, 1, labels.reshape(-1, 1))
        # classes not below the label's, itself among them; of numbers that are none, all
        place = logits.shape[1] - (logits < of_label).astype(ms.float32).sum(axis=1)
        count = float(labels.shape[0])
        return ops.stack((self.loss(logits, labels) * count, (place <= 1).astype(ms.float32).sum(),
                          (place <= 5).astype(ms.float32).sum(), ops.full_like(place[0], count)))


def image_metrics(num_classes: int) -> dict[str, Total]:
    """Loss, top-1 accuracy and, from five classes on, top-5 accuracy."""
    metrics = {"loss": Total(mean(LOSS, IMAGES), 4), "top_1_accuracy": Total(mean(RIGHT, IMAGES), 4)}
    if num_classes >= 5:
        metrics["top_5_accuracy"] = Total(mean(RIGHT_OF_FIVE, IMAGES), 4)
    return metrics
