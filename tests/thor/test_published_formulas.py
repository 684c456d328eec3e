"""Steps of THOR against the formulas MindSpore published for Ascend, layer by layer, on the same batches."""
from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn

from tests.helpers.ascend_formulas import Ascend, image_gradients, word_gradients
from tests.helpers.modes import compiled_once
from thor import THOR
from thor.train import make_train_step

BATCH, CLASSES, VOCABULARY = 8, 5, 9
# the published constants of ResNet-50, and a refresh every second step
OPTIONS = {"rate": 0.058, "damping": 0.03, "momentum": 0.9, "decay": 5e-4, "scale": 128.0, "batch_size": BATCH,
           "frequency": 2}


class Images(nn.Cell):
    """Two convolutions, the second with a factor of more than 128 rows, BatchNorm and a Dense layer likewise."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 16, 3)
        self.norm = nn.BatchNorm2d(16)
        self.second = nn.Conv2d(16, 20, 3, stride=2)
        self.relu, self.flatten = nn.ReLU(), nn.Flatten()
        self.head = nn.Dense(180, CLASSES)

    def construct(self, x):
        return self.head(self.flatten(self.relu(self.second(self.relu(self.norm(self.first(x)))))))


class Words(nn.Cell):
    """Embedding, LayerNorm and a Dense layer that classifies every word."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(VOCABULARY, 6)
        self.norm = nn.LayerNorm((6,), epsilon=1e-5)
        self.head = nn.Dense(6, CLASSES)

    def construct(self, ids):
        return self.head(self.norm(self.words(ids)).reshape(-1, 6))


class Loss(nn.Cell):
    """Mean cross-entropy over all labels."""

    def __init__(self, network):
        super().__init__(auto_prefix=False)
        self.network, self.loss = network, nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean")

    def construct(self, x, labels):
        return self.loss(self.network(x), labels.reshape(-1))


def image_batch(rng):
    return rng.normal(0, 1, (BATCH, 3, 6, 6)).astype(np.float32), rng.integers(0, CLASSES, BATCH).astype(np.int32)


def word_batch(rng):
    return (rng.integers(0, VOCABULARY - 1, (BATCH, 4)).astype(np.int32),  # one word never occurs
            rng.integers(0, CLASSES, (BATCH, 4)).astype(np.int32))


CASES = {"images": (Images, image_batch, image_gradients), "words": (Words, word_batch, word_gradients)}


def weights_of(network):
    return {p.name: p.asnumpy().astype(np.float64) for p in network.trainable_params()}


def started(name):
    """A network with weights of a fixed seed, its optimizer, step, and the formulas at the same weights."""
    create, batch, gradients_of = CASES[name]
    network, rng = create(), np.random.default_rng(7)
    for parameter in network.trainable_params():
        if parameter.ndim > 1:
            fan_in = np.prod(parameter.shape[1:])
            parameter.set_data(Tensor(rng.normal(0, (2 / fan_in) ** 0.5, parameter.shape).astype(np.float32)))
    optimizer = THOR(network, OPTIONS["rate"], OPTIONS["damping"], OPTIONS["momentum"], OPTIONS["decay"],
                     OPTIONS["scale"], BATCH, frequency=OPTIONS["frequency"])
    return (network, make_train_step(Loss(network), optimizer), Ascend(weights_of(network), **OPTIONS),
            lambda: batch(rng), gradients_of)


@compiled_once("name", list(CASES), list(CASES), "images")
def test_the_first_update_of_every_layer(mode, name):
    ms.set_context(mode=mode)
    network, step, formulas, batch, gradients_of = started(name)
    before, (x, labels) = weights_of(network), batch()
    loss, gradients, told = gradients_of(formulas.weights, x, labels, OPTIONS["scale"])
    assert set(gradients) == set(before)
    got = float(step(Tensor(x), Tensor(labels)).asnumpy())
    assert got == pytest.approx(loss, rel=1e-5)
    updates, after = formulas.step(gradients, told), weights_of(network)
    for weight, update in updates.items():
        applied = (before[weight] - after[weight]) / OPTIONS["rate"] - OPTIONS["decay"] * before[weight]
        assert np.abs(update).max() > 1e-3, "nothing moves"
        # a weight near 1 tells its step in float32 to 6e-8 / rate = 1e-6
        np.testing.assert_allclose(applied, update, rtol=0, atol=2e-6 + 1e-5 * np.abs(update).max(), err_msg=weight)


@pytest.mark.parametrize("name", CASES)
def test_stale_steps_and_refreshes_follow_the_formulas(pynative, name):
    network, step, formulas, batch, gradients_of = started(name)
    start, losses = weights_of(network), []
    for _ in range(5):
        x, labels = batch()
        loss, gradients, told = gradients_of(formulas.weights, x, labels, OPTIONS["scale"])
        losses.append((float(step(Tensor(x), Tensor(labels)).asnumpy()), loss))
        formulas.step(gradients, told)
    np.testing.assert_allclose(*zip(*losses), rtol=1e-5)
    after = weights_of(network)
    for weight, expected in formulas.weights.items():
        moved = np.abs(expected - start[weight]).max()
        np.testing.assert_allclose(after[weight], expected, rtol=0, atol=2e-5 * moved, err_msg=weight)
