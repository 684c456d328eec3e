"""How far an update goes: the first step of THOR, of plain gradients and of both, compared in float64."""
from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn

from tests.helpers.modes import compiled_once
from tests.helpers.training_cases import BATCH, Classifier, batches, loss_fn
from thor import THOR
from thor.checks import ArgumentError
from thor.train import make_train_step

RATE = 0.05
OTHERS = {"first.bias", "second.bias"}  # first order


def moved(build):
    """What the first step adds to every parameter, float64."""
    network = Classifier()
    before = {p.name: p.asnumpy().astype(np.float64) for p in network.trainable_params()}
    make_train_step(nn.WithLossCell(network, loss_fn()), build(network))(*batches(1)[0])
    return {p.name: p.asnumpy() - before[p.name] for p in network.trainable_params() if p.name in before}


def moved_one_by_one(build):
    """The same, operator by operator, for a step that is compiled to be compared with."""
    mode = ms.get_context("mode")
    ms.set_context(mode=ms.PYNATIVE_MODE)
    try:
        return moved(build)
    finally:
        ms.set_context(mode=mode)


def thor(rate=RATE, **options):
    return lambda network: THOR(network, rate, 0.3, 0.0, batch_size=BATCH, split_dim=4, **options)


def sgd(network):
    return nn.SGD(network.trainable_params(), RATE)


def norm(values):
    return np.sqrt(sum((value ** 2).sum() for value in values))


@compiled_once("fold_bias", [False, True], ["weights", "folded biases"], "folded biases")
def test_each_layer_moves_as_far_as_its_gradient_in_thors_direction(mode, fold_bias):
    ms.set_context(mode=mode)
    plain, own = moved_one_by_one(sgd), moved_one_by_one(thor(fold_bias=fold_bias))
    grafted = moved(thor(fold_bias=fold_bias, graft="sgd"))
    layers = [["norm.gamma", "norm.beta"]]
    layers += [[f"{name}.weight", f"{name}.bias"] if fold_bias else [f"{name}.weight"] for name in ("first", "second")]
    for layer in layers:
        factor = norm(plain[name] for name in layer) / norm(own[name] for name in layer)
        assert not 0.95 < factor < 1.05
        for name in layer:
            np.testing.assert_allclose(grafted[name], factor * own[name], rtol=2e-4, atol=2e-7)
    for name in set() if fold_bias else OTHERS:
        np.testing.assert_array_equal(grafted[name], own[name])


@compiled_once("grouped", [False, True], ["one rate", "groups"], "groups")
def test_a_step_that_moves_the_model_too_far_is_scaled_down(mode, grouped):
    ms.set_context(mode=mode)
    plain = moved_one_by_one(sgd)
    rates = {name: 0.5 * RATE if grouped and name == "second.weight" else RATE for name in plain}

    def build(**options):
        groups = [{"params": ["second.weight"], "lr": 0.5 * RATE}] if grouped else None
        return thor(groups=groups, **options)

    own = moved(build())
    gradients = {name: value / RATE for name, value in plain.items()}
    distance = sum(rates[name] * abs((own[name] * gradients[name]).sum()) for name in own if name not in OTHERS)
    clipped = moved(build(kl_clip=distance / 9))
    for name in own:
        expected = own[name] if name in OTHERS else own[name] / 3
        np.testing.assert_allclose(clipped[name], expected, rtol=2e-4, atol=2e-7)
    unbound = moved(build(kl_clip=1.01 * distance))
    for name in own:
        np.testing.assert_array_equal(unbound[name], own[name])


@pytest.mark.usefixtures("pynative")
def test_a_grafted_step_may_be_limited_too():
    grafted, plain = moved(thor(graft="sgd")), moved(sgd)
    distance = sum(abs((grafted[name] * plain[name]).sum()) for name in plain if name not in OTHERS)
    both = moved(thor(graft="sgd", kl_clip=distance / 4))
    for name in plain:
        np.testing.assert_allclose(both[name], grafted[name] / (1 if name in OTHERS else 2), rtol=2e-4, atol=2e-7)


@pytest.mark.usefixtures("pynative")
def test_a_layer_without_a_gradient_stays_where_it_is():
    class Cut(Classifier):
        def construct(self, x):
            return self.second(0.0 * self.norm(self.first(x)))

    network = Cut()
    before = network.first.weight.asnumpy()
    step = make_train_step(nn.WithLossCell(network, loss_fn()), thor(graft="sgd", kl_clip=1e-9)(network))
    step(*batches(1)[0])
    np.testing.assert_array_equal(network.first.weight.asnumpy(), before)
    assert np.isfinite(network.second.bias.asnumpy()).all()


@pytest.mark.parametrize("options, message", [
    ({"graft": "adam"}, "graft='adam'; must be one of sgd or None; use None for THOR's own norm"),
    ({"kl_clip": 0}, "kl_clip=0; must be a number > 0 or None; use 0.001, or None for no bound"),
])
def test_wrong_options_are_one_line(options, message):
    with pytest.raises(ArgumentError) as raised:
        thor(**options)(Classifier())
    assert str(raised.value) == message
