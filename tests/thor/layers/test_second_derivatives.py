"""Losses with a derivative of the network in them: taps change neither, and measure what the loss sends back."""
from __future__ import annotations

import functools

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn, ops

from tests.helpers import reference as ref
from tests.helpers.layer_cases import value
from tests.helpers.modes import BOTH_MODES, operator_by_operator
from thor import THOR
from thor.curvature import TracePolicy
from thor.layers.tap import CALLS, MEASUREMENT_SCALE
from thor.train import make_train_step

N, INPUTS, HIDDEN = 5, 3, 4


def initialise(network):
    rng = np.random.default_rng(11)
    for parameter in network.trainable_params():
        centre = 1.0 if "gamma" in parameter.name else 0.0
        parameter.set_data(Tensor(rng.normal(centre, 0.5, parameter.shape).astype(np.float32)))
    return network


class Field(nn.Cell):
    """``u(x)``, of shape ``(n, 1)``."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Dense(INPUTS, HIDDEN, activation="tanh"), nn.Dense(HIDDEN, 1)

    def construct(self, x):
        return self.second(self.first(x))


class SlopeLoss(nn.Cell):
    """Mean squared errors of u and of du/dx, both from one evaluation, as physics-informed networks have them."""

    def __init__(self, field):
        super().__init__(auto_prefix=False)
        self.field = field
        self.derived = ms.value_and_grad(field, 0)

    def construct(self, x, values, slopes):
        u, slope = self.derived(x)
        return ((u - values) ** 2).sum() / N + ((slope - slopes) ** 2).sum() / N


def batch():
    rng = np.random.default_rng(12)
    return [rng.normal(0, 1, shape).astype(np.float32) for shape in ((N, INPUTS), (N, 1), (N, INPUTS))]


def expected(field, x, values, slopes):
    """Loss, gradients and factors in float64: slope = q W with q = w (1 - h^2) and h = tanh(W x + b)."""
    weight, last = value(field.first.weight), value(field.second.weight)  # (HIDDEN, INPUTS), (1, HIDDEN)
    h = np.tanh(x @ weight.T + value(field.first.bias))
    u, q = h @ last.T + value(field.second.bias), last * (1 - h ** 2)
    error, tilt = 2 * (u - values) / N, 2 * (q @ weight - slopes) / N
    of_q = tilt @ weight.T
    d = (error @ last + of_q * last * -2 * h) * (1 - h ** 2)  # at the output of the first layer's product
    gradients = {"first.weight": d.T @ x + q.T @ tilt, "first.bias": d.sum(axis=0),
                 "second.weight": error.T @ h + (of_q * (1 - h ** 2)).sum(axis=0), "second.bias": error.sum(axis=0)}
    factors = {"first.factor_a": ref.second_moment(x), "first.factor_g": ref.second_moment(d),
               "second.factor_a": ref.second_moment(h), "second.factor_g": ref.second_moment(error)}
    loss = ((u - values) ** 2).sum() / N + ((q @ weight - slopes) ** 2).sum() / N
    return loss, gradients, factors


@BOTH_MODES
def test_value_gradients_and_factors(mode):
    ms.set_context(mode=mode)
    field = initialise(Field())
    loss, gradients, factors = expected(field, *(array.astype(np.float64) for array in batch()))
    optimizer = THOR(field, 0.1, 0.1, 0.9, batch_size=N, frequency=1)
    got, measured = ms.value_and_grad(SlopeLoss(field), None, optimizer.parameters)(*map(Tensor, batch()))
    np.testing.assert_allclose(got.asnumpy(), loss, rtol=1e-5)
    results = {p.name: gradient.asnumpy() for p, gradient in zip(optimizer.parameters, measured)}
    for name, gradient in gradients.items():
        np.testing.assert_allclose(results[name], gradient, rtol=1e-4, atol=1e-6, err_msg=name)
    for name, factor in factors.items():
        np.testing.assert_allclose(results[name][0] / MEASUREMENT_SCALE, factor, rtol=1e-4,
                                   atol=1e-5 * np.abs(factor).max(), err_msg=name)
    for layer in ("first", "second"):
        assert results[f"{layer}.factor_statistics"][CALLS] == MEASUREMENT_SCALE


@pytest.mark.slow
def test_both_graphs_of_a_step():
    field = initialise(Field())
    weights = {p.name: value(p) for p in field.trainable_params()}
    optimizer = THOR(field, 0.05, 0.1, 0.0, batch_size=N, frequency=2)
    step, data = make_train_step(SlopeLoss(field), optimizer), batch()
    for index in range(2):
        loss, gradients, factors = expected(field, *(array.astype(np.float64) for array in data))
        if index == 0:
            kept = factors
        np.testing.assert_allclose(step(*map(Tensor, data)).asnumpy(), loss, rtol=1e-5)
        for layer in ("first", "second"):
            update = ref.kronecker_update(gradients[f"{layer}.weight"], kept[f"{layer}.factor_a"],
                                          kept[f"{layer}.factor_g"] * N ** 2, 0.1)
            weights[f"{layer}.weight"] -= 0.05 * update
            weights[f"{layer}.bias"] -= 0.05 * gradients[f"{layer}.bias"]
        for parameter in field.trainable_params():
            np.testing.assert_allclose(parameter.asnumpy(), weights[parameter.name], rtol=1e-4, atol=1e-5)


class Images(nn.Cell):
    """Convolution, BatchNorm, LayerNorm and Dense layers; MindSpore differentiates the norms twice in graphs alone."""

    def __init__(self, norms):
        super().__init__()
        self.convolution, self.flatten = nn.Conv2d(1, 3, 3), nn.Flatten()
        self.norm, self.norms, self.normalise = nn.BatchNorm2d(3), norms, nn.LayerNorm((48,))
        self.first, self.second = nn.Dense(48, 4, activation="tanh"), nn.Dense(4, 1)

    def construct(self, images):
        maps = ops.tanh(self.convolution(images))
        if self.norms:
            return self.second(self.first(self.normalise(self.flatten(self.norm(maps)))))
        return self.second(self.first(self.flatten(maps)))


class Penalised(nn.Cell):
    """Outputs squared, and the square of their gradient by the images."""

    def __init__(self, network):
        super().__init__(auto_prefix=False)
        self.network, self.gradient = network, ops.GradOperation()

    def construct(self, images):
        y = self.network(images)
        slope = self.gradient(self.network)(images)
        return (y * y).mean() + (slope * slope).sum((1, 2, 3)).mean()


OPTIONS = {"published": {}, "gated": {"update": TracePolicy(2, w1=0.01)},
           "all": {"batchnorm_blocks": True, "fold_bias": True, "record_curvature": True, "subsample": 2}}


def images_and_network(mode):
    images = Tensor(np.random.default_rng(13).normal(0, 1, (N, 1, 4, 4)).astype(np.float32))
    return images, initialise(Images(norms=mode == ms.GRAPH_MODE)).set_train()


@functools.cache
def untapped(mode):
    """The loss of an untouched network and its gradients."""
    images, network = images_and_network(mode)
    loss, gradients = ms.value_and_grad(Penalised(network), None, network.trainable_params())(images)
    return loss.asnumpy(), [gradient.asnumpy() for gradient in gradients]


@operator_by_operator(OPTIONS, graph=("gated", "all"))
def test_taps_change_no_second_derivative(mode, name):
    ms.set_context(mode=mode)
    loss, gradients = untapped(mode)
    images, network = images_and_network(mode)
    weights = network.trainable_params()
    optimizer = THOR(network, 0.1, 0.1, 0.9, batch_size=N, **OPTIONS[name])
    got, measured = ms.value_and_grad(Penalised(network), None, optimizer.parameters)(images)
    np.testing.assert_allclose(got.asnumpy(), loss, rtol=1e-6)
    for parameter, wanted, gradient in zip(weights, gradients, measured):
        np.testing.assert_allclose(gradient.asnumpy(), wanted, rtol=1e-5, atol=1e-6 * np.abs(wanted).max(),
                                   err_msg=parameter.name)
    measurements = dict(zip((p.name for p in optimizer.parameters), measured))
    for layer in ("convolution", "first", "second"):
        assert measurements[f"{layer}.factor_statistics"].asnumpy()[CALLS] > 0
        assert np.trace(measurements[f"{layer}.factor_g"].asnumpy()[0]) > 0
