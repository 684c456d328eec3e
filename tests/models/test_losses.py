"""Losses against float64."""
from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn

from models.config.run import LossConfig
from models.losses import SmoothedCrossEntropy, create_loss


def reference(logits: np.ndarray, labels: np.ndarray, smoothing: float) -> tuple[float, np.ndarray]:
    """Loss and its gradient by the logits, float64."""
    shifted = logits - logits.max(1, keepdims=True)
    log_probabilities = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    count, classes = logits.shape
    targets = np.full_like(logits, smoothing / classes)
    targets[np.arange(count), labels] += 1 - smoothing
    return -(targets * log_probabilities).sum() / count, (np.exp(log_probabilities) - targets) / count


@pytest.mark.parametrize("mode", [ms.GRAPH_MODE, ms.PYNATIVE_MODE])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
@pytest.mark.parametrize("half", [False, True])
def test_loss_and_gradient_equal_float64(mode, smoothing, half):
    ms.set_context(mode=mode)
    rng = np.random.default_rng(0)
    logits = (5 * rng.standard_normal((13, 7))).astype(np.float16 if half else np.float32)
    labels = rng.integers(0, 7, 13).astype(np.int32)
    expected, expected_gradient = reference(logits.astype(np.float64), labels, smoothing)
    loss = SmoothedCrossEntropy(smoothing)
    value, gradient = ms.value_and_grad(loss, 0)(ms.Tensor(logits), ms.Tensor(labels))
    assert value.dtype == ms.float32
    assert float(value.asnumpy()) == pytest.approx(expected, rel=1e-6)
    np.testing.assert_allclose(gradient.asnumpy(), expected_gradient, atol=1e-4 if half else 2e-7)


def test_logits_beyond_exp_stay_finite(pynative):
    logits, labels = ms.Tensor([[1000.0, 0.0], [0.0, -1000.0]]), ms.Tensor([1, 0], ms.int32)
    assert float(SmoothedCrossEntropy(0.1)(logits, labels).asnumpy()) == pytest.approx(950 / 2 + 50 / 2)


def test_a_nan_logit_gives_a_nan_loss(pynative):
    logits = ms.Tensor(np.array([[np.nan, 0.0], [0.0, 1.0]], np.float32))
    assert np.isnan(SmoothedCrossEntropy(0.1)(logits, ms.Tensor([1, 0], ms.int32)).asnumpy())


@pytest.mark.parametrize("level", ["O2", "O3"])
def test_loss_of_a_half_precision_network_is_computed_in_float32(pynative, level):
    net = nn.Dense(4, 3, weight_init="ones", bias_init="zeros")
    ms.amp.auto_mixed_precision(net, level)
    x, labels = ms.Tensor(np.ones((2, 4), np.float32)), ms.Tensor([0, 1], ms.int32)
    value = nn.WithLossCell(net, SmoothedCrossEntropy(0.1))(x, labels)
    assert value.dtype == ms.float32
    assert float(value.asnumpy()) == pytest.approx(np.log(3), rel=1e-6)


def test_config_chooses_the_smoothing():
    assert create_loss(LossConfig(label_smoothing=0.2)).label_smoothing == 0.2


@pytest.mark.parametrize("value", [-0.1, 1.0])
def test_smoothing_out_of_range_is_named(value):
    with pytest.raises(ValueError, match=f"label_smoothing={value}; must be >= 0 and < 1"):
        SmoothedCrossEntropy(value)
