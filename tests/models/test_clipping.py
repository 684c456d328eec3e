"""optimizer.clip_norm works with every optimizer and network: the update is that of gradients clipped by hand."""
from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn

from models.clipping import ClippedOptimizer
from models.config import load_config
from models.config.companions import OPTIMIZERS, SECOND_ORDER
from models.optimizers import create_optimizer, thor_within
from tests.helpers.modes import BOTH_MODES
from thor.train import make_train_step

FIRST_ORDER = [name for name in OPTIMIZERS if name not in SECOND_ORDER]
LIMIT = 0.25
ROUNDED = {"shampoo": 0.1 * 2 ** -24 / 1e-4}  # in directions its first moments lack: the rate, rounding over its ridge
SETTINGS = {"soap": ["--optimizer.split_dim=2"]}  # rounding chooses its bases where blocks have more than a gradient


def configure(name, *words):
    rate = "--optimizer.learning_rate={schedule: constant, initial: 0.1}"
    return load_config(None, [f"--optimizer.name={name}", rate, "--train.epochs=1", *SETTINGS.get(name, ()), *words])


class Net(nn.Cell):
    """The kinds of parameters an image network has: of four, two and one axes."""

    def __init__(self):
        super().__init__()
        random = np.random.default_rng(8)
        self.conv, self.norm, self.flatten = nn.Conv2d(1, 2, 3, has_bias=True), nn.BatchNorm2d(2), nn.Flatten()
        self.fc = nn.Dense(32, 3)
        for parameter in self.trainable_params():
            parameter.set_data(Tensor(random.normal(0, 0.5, parameter.shape).astype(np.float32)))

    def construct(self, x):
        return self.fc(self.flatten(self.norm(self.conv(x))))


def weights_after(name, gradients, *words):
    """Weights of the network after the optimizer was called with each of the gradients."""
    network = Net()
    optimizer = create_optimizer(configure(name, "--optimizer.weight_decay=0.05", *words), network, 8)
    for gradient in gradients:
        optimizer(tuple(Tensor(gradient[p.name].astype(np.float32)) for p in optimizer.parameters))
    return {p.name: p.asnumpy() for p in network.trainable_params()}


@pytest.mark.usefixtures("pynative")
@pytest.mark.parametrize("name", [*FIRST_ORDER, "lookahead(adam)", "lookahead(dcasgd)"])
def test_the_update_is_that_of_gradients_clipped_by_hand(name):
    random, shapes = np.random.default_rng(2), {p.name: p.shape for p in Net().trainable_params()}
    gradients = [{key: random.normal(0, spread, shape) for key, shape in shapes.items()}
                 for spread in (1, 0.01, 0.3)]
    norms = [np.sqrt(sum((value ** 2).sum() for value in gradient.values())) for gradient in gradients]
    assert [norm > LIMIT for norm in norms] == [True, False, True]
    by_hand = [{key: value * min(1, LIMIT / norm) for key, value in gradient.items()}
               for gradient, norm in zip(gradients, norms)]
    expected = weights_after(name, by_hand)
    for key, value in weights_after(name, gradients, f"--optimizer.clip_norm={LIMIT}").items():
        np.testing.assert_allclose(value, expected[key], rtol=2e-5, atol=ROUNDED.get(name, 2e-6), err_msg=key)
    free = weights_after(name, gradients)
    assert max(np.abs(free[key] - expected[key]).max() for key in free) > 1e-3


@BOTH_MODES
@pytest.mark.parametrize("name", ["momentum", "lookahead(momentum)", "lookahead(thor)"])
def test_an_image_network_trains_with_a_limit(mode, name):
    ms.set_context(mode=mode)
    network = Net()
    config = configure(name, f"--optimizer.clip_norm={LIMIT}", "--optimizer.momentum=0")
    optimizer = create_optimizer(config, network, 8)
    step = make_train_step(nn.WithLossCell(network, nn.CrossEntropyLoss()), optimizer)
    names = [parameter.name for _, parameter in step.parameters_and_names()]
    assert len(names) == len(set(names))
    before = {p.name: p.asnumpy().copy() for p in network.trainable_params()}
    random = np.random.default_rng(1)
    step(Tensor(random.standard_normal((4, 1, 4, 4)), ms.float32), Tensor([0, 1, 2, 1], ms.int32))
    moved = np.sqrt(sum(((p.asnumpy() - before[p.name]) ** 2).sum() for p in network.trainable_params()))
    assert int(optimizer.global_step.asnumpy()[0]) == 1
    if thor_within(optimizer) is None:
        assert moved == pytest.approx(0.1 * LIMIT, rel=1e-5)
    else:
        assert np.isfinite(moved) and moved > 0


@pytest.mark.usefixtures("pynative")
def test_it_stands_for_the_optimizer():
    optimizer = create_optimizer(configure("momentum", "--optimizer.clip_norm=1"), Net(), 4)
    assert type(optimizer) is ClippedOptimizer and type(optimizer.base) is nn.Momentum
    assert optimizer.global_step is optimizer.base.global_step
    assert float(optimizer.get_lr()) == np.float32(0.1) and optimizer.loss_scale == 1
