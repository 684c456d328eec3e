"""The recorded norm is that of the gradient NumPy computes, whatever the optimizer, the scale and the micro-batches."""
from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn
from mindspore.amp import DynamicLossScaleManager, FixedLossScaleManager

from thor import THOR
from thor.companions import DCASGD, Heun, Lookahead
from thor.train import make_train_step, record_gradient_norm

RATE, ROWS, INPUTS, OUTPUTS = 0.1, 6, 5, 3


def batches(count):
    random = np.random.default_rng(4)
    return [(random.standard_normal((ROWS, INPUTS)), random.standard_normal((ROWS, OUTPUTS))) for _ in range(count)]


def weights(network):
    return [parameter.asnumpy().astype(np.float64) for parameter in (network.weight, network.bias)]


def gradient(weight, bias, x, y):
    """Of the mean square error of a Dense layer, float64, one vector."""
    d = 2 * (x @ weight.T + bias - y) / (ROWS * OUTPUTS)
    return np.concatenate([(d.T @ x).ravel(), d.sum(0)])


def momentum(network, scale):
    return nn.Momentum(network.trainable_params(), RATE, 0.9, loss_scale=scale)


OPTIMIZERS = {
    "momentum": momentum,
    "thor": lambda net, scale: THOR(net, RATE, 0.3, 0.9, batch_size=ROWS, frequency=2, loss_scale=scale),
    "thor with a limit": lambda net, scale: THOR(net, RATE, 0.3, 0.9, batch_size=ROWS, clip_norm=1e-3,
                                                 loss_scale=scale),
    "heun": lambda net, scale: Heun(net.trainable_params(), RATE, loss_scale=scale, clip_norm=1e-3),
    "dcasgd": lambda net, scale: DCASGD(net.trainable_params(), RATE, loss_scale=scale),
    "lookahead": lambda net, scale: Lookahead(momentum(net, scale), 2),
}
# a manager, and the loss scale the optimizer is told
SCALES = {"none": (None, 1.0), "fixed": (FixedLossScaleManager(64.0, drop_overflow_update=False), 64.0),
          "unscaled by the step": (FixedLossScaleManager(64.0), 1.0), "told both": (FixedLossScaleManager(64.0), 64.0),
          "large": (FixedLossScaleManager(2.0 ** 100), 1.0), "dynamic": (DynamicLossScaleManager(2.0 ** 10), 1.0)}


def recorded(name, scale, steps=3, accumulate=1):
    """(norms the step recorded, norms NumPy finds for the weights each update began with)."""
    ms.set_seed(2)
    network, (manager, told) = nn.Dense(INPUTS, OUTPUTS), SCALES[scale]
    step = make_train_step(nn.WithLossCell(network, nn.MSELoss()), OPTIMIZERS[name](network, told), manager, accumulate)
    norm, found, expected = record_gradient_norm(step), [], []
    data = batches(steps * accumulate)
    for first in range(0, len(data), accumulate):
        mean = np.mean([gradient(*weights(network), *batch) for batch in data[first:first + accumulate]], 0)
        expected.append(np.sqrt((mean ** 2).sum()))
        for batch in data[first:first + accumulate]:
            step(*(Tensor(array, ms.float32) for array in batch))
        found.append(float(norm.asnumpy()))
    return found, expected


@pytest.mark.usefixtures("pynative")
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_norm_of_every_optimizer(name):
    found, expected = recorded(name, "none")
    np.testing.assert_allclose(found, expected, rtol=2e-6)


@pytest.mark.usefixtures("pynative")
@pytest.mark.parametrize("scale", [name for name in SCALES if name != "none"])
@pytest.mark.parametrize("name", ["momentum", "thor"])
def test_norm_is_without_the_loss_scale(name, scale):
    found, expected = recorded(name, scale)
    np.testing.assert_allclose(found, expected, rtol=2e-6)


@pytest.mark.usefixtures("pynative")
@pytest.mark.parametrize("name", ["momentum", "thor"])
def test_norm_of_micro_batches_is_that_of_their_mean(name):
    found, expected = recorded(name, "dynamic", accumulate=2)
    np.testing.assert_allclose(found, expected, rtol=2e-6)


@pytest.mark.slow
def test_norm_in_both_graphs():
    found, expected = recorded("thor", "dynamic", steps=4)
    np.testing.assert_allclose(found, expected, rtol=2e-6)


@pytest.mark.usefixtures("pynative")
def test_a_norm_that_is_not_finite_is_minus_one():
    network = nn.Dense(INPUTS, OUTPUTS)
    step = make_train_step(nn.WithLossCell(network, nn.MSELoss()), momentum(network, 1.0), DynamicLossScaleManager(2.0))
    norm = record_gradient_norm(step)
    assert float(norm.asnumpy()) == -1
    step(Tensor(np.full((ROWS, INPUTS), np.inf), ms.float32), Tensor(np.zeros((ROWS, OUTPUTS)), ms.float32))
    assert float(norm.asnumpy()) == -1


def test_a_cell_without_a_train_step_is_refused():
    with pytest.raises(ValueError, match="^step=Dense; must be a train step of make_train_step; make it with that$"):
        record_gradient_norm(nn.Dense(2, 2))
