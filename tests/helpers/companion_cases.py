"""A least-squares problem with its gradient in float64, the same for every optimizer."""
from __future__ import annotations

from itertools import islice

import numpy as np
from mindspore import Tensor, nn, ops

from thor.train import make_train_step

STEPS, BATCH = 5, 6
RATES = [0.1, 0.08, 0.06, 0.05, 0.04, 0.03, 0.02, 0.01]
DECAY = 0.05


class Linear(nn.Cell):
    """``tanh(x W' + b)``, weights fixed."""

    def __init__(self):
        super().__init__()
        rng = np.random.default_rng(1)
        self.fc = nn.Dense(4, 3, activation="tanh")
        for parameter in self.trainable_params():
            parameter.set_data(Tensor(rng.normal(0, 0.7, parameter.shape).astype(np.float32)))

    def construct(self, x):
        return self.fc(x)


class SquaredError(nn.Cell):
    def __init__(self, network):
        super().__init__(auto_prefix=False)
        self.network = network

    def construct(self, x, y, batch=BATCH):
        return 0.5 * ops.square(self.network(x) - y).sum() / batch


def arrays(count=STEPS):
    rng = np.random.default_rng(2)
    return [(rng.normal(size=(BATCH, 4)).astype(np.float32), rng.normal(size=(BATCH, 3)).astype(np.float32))
            for _ in range(count)]


def gradient(weights, batch):
    """Gradients ``{name: array}`` of the mean loss in float64."""
    x, y = (array.astype(np.float64) for array in batch)
    out = np.tanh(x @ weights["fc.weight"].T + weights["fc.bias"])
    d = (out - y) * (1 - out ** 2) / BATCH
    return {"fc.weight": d.T @ x, "fc.bias": d.sum(0)}


def decayed(weights, batch, decay=DECAY):
    """The gradients with the decayed weights in them."""
    return {name: value + decay * weights[name] for name, value in gradient(weights, batch).items()}


def start():
    return {p.name: p.asnumpy().astype(np.float64) for p in Linear().trainable_params()}


def orthogonal(m):
    """Muon's five steps towards U V' of m = U S V', in float64."""
    x = m.T if m.shape[0] > m.shape[1] else m
    x = x / np.linalg.norm(x)
    for _ in range(5):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x.T if m.shape[0] > m.shape[1] else x


def combine(rule, *trees):
    """``rule`` of the arrays of the same name."""
    return {name: rule(*(tree[name] for tree in trees)) for name in trees[0]}


def zeros(weights):
    return {name: np.zeros_like(value) for name, value in weights.items()}


def create(build, manager=None, **options):
    """``(network, optimizer, step)`` for a function of parameters that makes the optimizer."""
    network = Linear()
    optimizer = build(network.trainable_params())
    return network, optimizer, make_train_step(SquaredError(network), optimizer, manager, **options)


def train(step, batches):
    return [float(step(Tensor(x), Tensor(y)).asnumpy()) for x, y in batches]


def weights_of(network):
    return {p.name: p.asnumpy().copy() for p in network.trainable_params()}


def state_of(step):
    return {p.name: p.asnumpy().copy() for _, p in step.parameters_and_names()}


def assert_follows(build, expected, manager=None, atol=1e-6, steps=STEPS):
    """Weights after each of the steps equal ``expected``, and so does the number of steps."""
    network, optimizer, step = create(build, manager)
    for number, (batch, wanted) in enumerate(zip(arrays(steps), islice(expected, steps), strict=True), 1):
        train(step, [batch])
        for name, got in weights_of(network).items():
            np.testing.assert_allclose(got, wanted[name], rtol=5e-6, atol=atol, err_msg=f"{name}, step {number}")
        assert int(optimizer.global_step.asnumpy()[0]) == number
