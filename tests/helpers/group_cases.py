"""Two dense layers with groups of parameters, and THOR's training of them in float64."""
from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from tests.helpers import reference as ref
from thor import THOR

BATCH, FREQUENCY, MOMENTUM, DAMPING = 6, 2, 0.9, 0.2
RATES, BIAS_RATE = [0.1, 0.07, 0.05], 0.15
OWN_DECAYS = [0.02, 0.01]
GROUP_RATES, GROUP_DECAYS = [0.2, 0.15, 0.1, 0.05], [0.05, 0.0, 0.03]


class Network(nn.Cell):
    """``tanh(x W1' + b1) W2' + b2``, weights fixed."""

    def __init__(self):
        super().__init__()
        rng = np.random.default_rng(3)
        self.first = nn.Dense(4, 5, activation="tanh")
        self.second = nn.Dense(5, 3)
        for parameter in self.trainable_params():
            parameter.set_data(Tensor(rng.normal(0, 0.6, parameter.shape).astype(np.float32)))

    def construct(self, x):
        return self.second(self.first(x))


class SquaredError(nn.Cell):
    """Half the mean over samples of the squared distance."""

    def construct(self, output, y):
        return 0.5 * ops.square(output - y).sum() / BATCH


class HalvedDecay(nn.Cell):
    """A weight decay as MindSpore's optimizers take it: any Cell of the global step, here 0.08 / 2^step."""

    def construct(self, global_step):
        return 0.08 * ops.pow(Tensor(0.5, ms.float32), global_step.astype(ms.float32))


def held(values, step):
    return values[min(step, len(values) - 1)]


def groups(network):
    """The first layer with schedules, a bias with constants that does not decay; ``second.weight`` has no group."""
    return [{"params": [network.first], "lr": GROUP_RATES, "weight_decay": np.array(GROUP_DECAYS)},
            {"params": ["second.bias"], "lr": BIAS_RATE, "weight_decay": 0.0}]


def rate(name, step):
    """That of ``groups``."""
    if name.startswith("first."):
        return held(GROUP_RATES, step)
    return BIAS_RATE if name == "second.bias" else held(RATES, step)


def decay(name, step):
    """That of ``groups``, with a filter that excludes ``first.bias``."""
    return {"first.weight": held(GROUP_DECAYS, step), "first.bias": 0.0, "second.bias": 0.0,
            "second.weight": held(OWN_DECAYS, step)}[name]


def create(**options):
    """``(network, network with loss, optimizer)`` with the groups above."""
    network = Network()
    options = {"groups": groups(network), "decay_filter": lambda p: p.name != "first.bias", "weight_decay": OWN_DECAYS,
               "batch_size": BATCH, "frequency": FREQUENCY, **options}
    optimizer = THOR(network, options.pop("learning_rate", RATES), DAMPING, MOMENTUM, **options)
    return network, nn.WithLossCell(network, SquaredError()), optimizer


def arrays(count):
    rng = np.random.default_rng(11)
    return [(rng.normal(size=(BATCH, 4)).astype(np.float32), rng.normal(size=(BATCH, 3)).astype(np.float32))
            for _ in range(count)]


def weights_of(network):
    return {p.name: p.asnumpy().copy() for p in network.trainable_params()}


def start():
    return {name: value.astype(np.float64) for name, value in weights_of(Network()).items()}


def gradients_and_factors(weights, batch):
    """Gradients of the mean loss by name, and ``(A, G)`` of both layers by name."""
    x, y = (array.astype(np.float64) for array in batch)
    hidden = np.tanh(x @ weights["first.weight"].T + weights["first.bias"])
    output = hidden @ weights["second.weight"].T + weights["second.bias"]
    d_second = (output - y) / BATCH
    d_first = d_second @ weights["second.weight"] * (1 - hidden ** 2)
    gradients = {"first.weight": d_first.T @ x, "first.bias": d_first.sum(0),
                 "second.weight": d_second.T @ hidden, "second.bias": d_second.sum(0)}
    factors = {name: (ref.second_moment(rows), ref.second_moment(d) * BATCH ** 2)
               for name, rows, d in (("first.weight", x, d_first), ("second.weight", hidden, d_second))}
    return gradients, factors


def trained(count, rate=rate, decay=decay, nesterov=False, clip=False):
    """Weights after each of ``count`` steps, float64, by name."""
    weights, moments, factors = start(), dict.fromkeys(start(), 0.0), {}
    for step, batch in enumerate(arrays(count)):
        gradients, measured = gradients_and_factors(weights, batch)
        if step % FREQUENCY == 0:
            factors = measured
        for name, gradient in gradients.items():
            if name in factors:
                gradient = ref.kronecker_update(gradient, *factors[name], DAMPING)
            update = gradient + decay(name, step) * weights[name]
            if clip:
                update = update / max(1.0, np.sqrt((update ** 2).sum()))
            weights[name], moments[name] = ref.momentum_update(weights[name], moments[name], update,
                                                               rate(name, step), MOMENTUM, nesterov)
        yield dict(weights)


def assert_close(network, expected):
    for name, value in weights_of(network).items():
        np.testing.assert_allclose(value, expected[name], rtol=5e-5, atol=5e-6, err_msg=name)
