"""Evaluation as sums: of images, against NumPy, over uneven batches and over devices."""
from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn

from models.losses import SmoothedCrossEntropy
from models.metrics import ImageScores, image_metrics, over_devices

pytestmark = pytest.mark.usefixtures("pynative")

LOGITS = np.random.default_rng(0).standard_normal((13, 7)).astype(np.float32)
LABELS = np.random.default_rng(1).integers(0, 7, 13).astype(np.int32)


class Same(nn.Cell):
    def construct(self, x):
        return x


def scores(logits, labels):
    return ImageScores(Same(), SmoothedCrossEntropy(0.1))(ms.Tensor(logits), ms.Tensor(labels))


def reference():
    logits = LOGITS.astype(np.float64)
    place = (logits > logits[np.arange(13), LABELS][:, None]).sum(1)
    logs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    losses = -(0.9 * logs[np.arange(13), LABELS] + 0.1 * logs.mean(1))
    return {"loss": losses.mean(), "top_1_accuracy": (place < 1).mean(), "top_5_accuracy": (place < 5).mean()}


def updated(parts):
    metrics = image_metrics(7)
    for part in parts:
        for metric in metrics.values():
            metric.update(scores(LOGITS[part], LABELS[part]))
    return metrics


@pytest.mark.parametrize("parts", [[slice(0, 13)], [slice(0, 5), slice(5, 10), slice(10, 13)]])
def test_every_image_counts_the_same(parts):
    found = {name: metric.eval() for name, metric in updated(parts).items()}
    assert found == pytest.approx(reference(), rel=1e-6)


def test_devices_with_unequal_parts_evaluate_as_one():
    first, second = updated([slice(0, 4)]), updated([slice(4, 13)])
    of_second = iter([metric.totals for metric in second.values()])
    assert over_devices(first, lambda totals: totals + next(of_second)) == pytest.approx(reference(), rel=1e-6)


def test_logits_that_are_no_numbers_are_wrong():
    logits = np.full((3, 7), np.nan, np.float32)
    assert scores(logits, LABELS[:3]).asnumpy()[1:].tolist() == [0, 0, 3]


def test_few_classes_have_no_top_5():
    assert list(image_metrics(4)) == ["loss", "top_1_accuracy"]
