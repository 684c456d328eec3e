"""The optimizer factory: schedules in steps of the run, decay groups, and one step of every optimizer."""
from __future__ import annotations

import dataclasses
import math

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn
from mindspore.amp import DynamicLossScaleManager, FixedLossScaleManager

from models import layerwise
from models.config import ConfigError, load_config
from models.optimizers import (
    create_loss_scale_manager,
    create_optimizer,
    damping_array,
    learning_rate_array,
    thor_within,
)
from thor import THOR
from thor.companions import DCASGD, SOAP, Heun, Lookahead, Muon, RAdam, Shampoo
from thor.train import make_train_step


def configure(**overrides):
    words = [f"--{name.replace('__', '.')}={value}" for name, value in overrides.items()]
    return load_config(None, words)


def test_thor_schedule_covers_the_run():
    config = configure(train__epochs=4, optimizer__learning_rate="{schedule: thor, initial: 0.1, decay: 2, "
                                                                 "end_epoch: 8, decay_epochs: 2}")
    rate = learning_rate_array(config, 5)
    assert rate.shape == (20,) and rate.dtype == np.float32
    assert rate[0] == np.float32(0.1 * (1 - 0.2 / 8) ** 2)
    assert rate[9] == np.float32(0.05 * 0.75 ** 2)
    assert rate[19] == np.float32(0.025 * 0.5 ** 2)


def test_epochs_of_a_schedule_count_from_the_start_of_training():
    config = configure(train__epochs=4, optimizer__learning_rate="{schedule: cosine, initial: 1, final: 0.2, "
                                                                 "end_epoch: 3, warmup_epochs: 1}")
    rate = learning_rate_array(config, 2)
    np.testing.assert_allclose(rate, [0.5, 1, 1, 0.2 + 0.4 * (1 + math.cos(math.pi / 4)), 0.6,
                                      0.2 + 0.4 * (1 + math.cos(3 * math.pi / 4)), 0.2, 0.2], rtol=1e-6)


@pytest.mark.parametrize("array", [learning_rate_array, damping_array])
def test_a_run_with_more_steps_than_schedules_have_values_is_refused(array):
    config = configure(train__epochs=1000000, train__accumulate_steps=2)
    with pytest.raises(ConfigError) as raised:
        array(config, 34)
    assert str(raised.value) == ("train.epochs=1000000; must be so few that the run has at most 16777216 steps; it "
                                 "would have 17000000")


def test_polynomial_and_constant_rates():
    config = configure(train__epochs=2, optimizer__learning_rate="{schedule: polynomial, initial: 1, "
                                                                 "power: 2}")
    np.testing.assert_array_equal(learning_rate_array(config, 2), np.float32([1, 0.5625, 0.25, 0.0625]))
    config = configure(train__epochs=2, optimizer__learning_rate="{schedule: constant, initial: 0.3}")
    np.testing.assert_array_equal(learning_rate_array(config, 2), np.full(4, 0.3, np.float32))


def test_damping_schedules():
    config = configure(train__epochs=20, optimizer__damping="{schedule: thor, initial: 0.03, decay: 0.5}")
    damping = damping_array(config, 3)
    assert damping.shape == (60,)
    assert (damping[29], damping[59]) == (np.float32(0.015), np.float32(0.0075))
    config = configure(train__epochs=2, optimizer__damping="{schedule: polynomial, initial: 1, final: 0.2, "
                                                           "end_epoch: 1}")
    np.testing.assert_allclose(damping_array(config, 2), [1, 0.6, 0.2, 0.2], rtol=1e-6)
    config = configure(train__epochs=1, optimizer__damping="{initial: 0.2}")
    np.testing.assert_array_equal(damping_array(config, 3), np.full(3, 0.2, np.float32))


def test_micro_batches_make_fewer_steps_and_their_remainder_goes_on_in_the_next_epoch():
    config = configure(train__epochs=4, train__accumulate_steps=2)
    assert learning_rate_array(config, 5).shape == damping_array(config, 5).shape == (10,)
    config = configure(train__epochs=2, train__accumulate_steps=11)
    with pytest.raises(ValueError, match="^train.accumulate_steps=11; must be <= 10; "):
        learning_rate_array(config, 5)


class Net(nn.Cell):
    """A convolution with bias, a normalisation and a dense layer: (N, 1, 4, 4) to (N, 3)."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, has_bias=True)
        self.norm = nn.BatchNorm2d(4)
        self.flatten = nn.Flatten()
        self.fc = nn.Dense(64, 3)

    def construct(self, x):
        return self.fc(self.flatten(self.norm(self.conv(x))))


@pytest.mark.slow
@pytest.mark.parametrize("name, kind", [
    ("thor", THOR), ("spngd", THOR), ("momentum", nn.Momentum), ("sgd", nn.SGD), ("adam", nn.Adam),
    ("adamw", nn.AdamWeightDecay), ("lars", layerwise.Lars), ("lamb", layerwise.Lamb), ("radam", RAdam),
    ("muon", Muon), ("shampoo", Shampoo), ("soap", SOAP), ("heun", Heun), ("dcasgd", DCASGD), ("ranger", Lookahead),
    ("lookahead(momentum)", Lookahead)])
def test_every_optimizer_lowers_the_loss_and_counts_its_steps(name, kind):
    ms.set_seed(1)
    initial = 1.0 if name == "lars" else 0.02
    of_thor = {"optimizer__frequency": 2, "optimizer__damping__initial": 0.1,
               "optimizer__split_dim": 3} if kind is THOR else {}  # one size of blocks: inverted and compiled once
    config = configure(optimizer__name=name, optimizer__weight_decay="5e-4", **of_thor,
                       optimizer__learning_rate=f"{{schedule: constant, initial: {initial}}}",
                       data__batch_size=8, train__epochs=2, loss_scale__value=16)
    net = Net()
    optimizer = create_optimizer(config, net, 6)
    assert type(optimizer) is kind
    assert (thor_within(optimizer) is None) == (not config.optimizer.second_order)
    step = make_train_step(nn.WithLossCell(net, nn.CrossEntropyLoss()), optimizer,
                           create_loss_scale_manager(config))
    rng = np.random.default_rng(0)
    images = ms.Tensor(rng.standard_normal((8, 1, 4, 4)), ms.float32)
    labels = ms.Tensor(rng.integers(0, 3, 8), ms.int32)
    losses = [float(step(images, labels).asnumpy()) for _ in range(12)]
    assert losses[-1] < 0.7 * losses[0]
    assert int(optimizer.global_step.asnumpy()[0]) == 12


@pytest.mark.parametrize("name", ["thor", "momentum", "sgd", "adam", "adamw", "lars", "lamb", "radam", "muon",
                                  "shampoo", "soap", "heun", "dcasgd", "ranger", "lookahead(adam)"])
def test_biases_and_normalisation_do_not_decay_under_no_bias_norm(pynative, name):
    chosen = {} if name == "lars" else {"optimizer__decay_filter": "no_bias_norm"}  # which never decays them
    config = configure(optimizer__name=name, optimizer__weight_decay=0.5, **chosen,
                       optimizer__learning_rate="{schedule: constant, initial: 0.1}")
    net = Net()
    net.norm.gamma.set_data(ms.Tensor(np.full(4, 2.0), ms.float32))
    optimizer = create_optimizer(config, net, 4)
    before = {p.name: p.asnumpy().copy() for p in net.trainable_params()}
    for _ in range(2 if name in ("heun", "soap") else 1):
        optimizer(tuple(ms.ops.zeros_like(p) for p in optimizer.parameters))
    changed = {name for name in before
               if not np.array_equal(before[name], net.parameters_dict()[name].asnumpy())}
    assert changed == {"conv.weight", "fc.weight"}


@pytest.mark.parametrize("settings, expected", [
    ({}, (0.95, 0.95, 10, 1e-8, {4, 9, 3, 64})),
    ({"beta1": 0.8, "beta2": 0.9, "frequency": 7, "epsilon": 1e-3, "split_dim": 5}, (0.8, 0.9, 7, 1e-3, {4, 5, 3})),
], ids=["as published", "others"])
def test_settings_reach_soap(settings, expected):
    soap = create_optimizer(configure(optimizer__name="soap", **{f"optimizer__{k}": v for k, v in settings.items()}),
                            Net(), 4)
    numbers = [float(value.asnumpy()) for value in (soap.beta1, soap.beta2, soap.epsilon)]
    assert numbers == pytest.approx([expected[0], expected[1], expected[3]])
    assert (soap.frequency, {bases.shape[-1] for bases in soap.bases}) == (expected[2], expected[4])


def test_every_option_reaches_thor(monkeypatch):
    seen = {}
    monkeypatch.setattr("models.optimizers.THOR", lambda *given, **named: seen.update(named, given=given))
    config = configure(optimizer__split_indices="[0]", parallel__device_num=2, optimizer__split_dim=32,
                       optimizer__frequency=7, optimizer__clip="true", optimizer__nesterov="true",
                       optimizer__running_average=0.5, optimizer__pi_correction="true", optimizer__fold_bias="true",
                       data__batch_size=16,
                       optimizer__batchnorm_blocks="true", optimizer__weight_decay=0.01, curvature__subsample=3,
                       optimizer__clip_norm=0.5, optimizer__graft="sgd", optimizer__kl_clip=0.001)
    adamw = configure(optimizer__rule="adamw", optimizer__beta2=0.98).curvature_options
    assert (adamw.rule, adamw.beta2) == ("adamw", 0.98)
    assert configure(optimizer__precision="bfloat16").curvature_options.precision == "bfloat16"
    relative = configure(optimizer__name="kfac", optimizer__relative_damping="true").curvature_options
    assert (relative.relative_damping, relative.pi_correction, relative.running_average) == (True, False, 0.95)
    network = Net()
    create_optimizer(config, network, 4)
    given, decay_filter = seen.pop("given"), seen.pop("decay_filter")
    assert given[0] is network and given[3:] == (0.9, 0.01)
    np.testing.assert_array_equal(given[1], learning_rate_array(config, 4))
    np.testing.assert_array_equal(given[2], damping_array(config, 4))
    assert all(decay_filter(parameter) for parameter in network.trainable_params())
    assert seen.pop("update").segments == ((0, 7),)
    assert seen.pop("groups") is None
    assert seen == {"batch_size": 16, "use_nesterov": True, "split_indices": (0,), "enable_clip_grad": True,
                    "record_curvature": True, "subsample": 3, "share_inverses": False, "split_dim": 32,
                    "running_average": 0.5, "pi_correction": True, "graft": "sgd", "kl_clip": 0.001,
                    "rule": "momentum", "beta2": 0.999, "relative_damping": False, "precision": "auto",
                    "fold_bias": True, "batchnorm_blocks": True, "clip_norm": 0.5, "loss_reduction": "mean"}


def test_loss_scale_managers():
    assert create_loss_scale_manager(configure()) is None
    fixed = create_loss_scale_manager(configure(loss_scale__value=128))
    assert isinstance(fixed, FixedLossScaleManager)
    assert (fixed.get_loss_scale(), fixed.get_drop_overflow_update()) == (128, True)
    config = configure(loss_scale="{policy: dynamic, init: 64, factor: 4, window: 9}")
    dynamic = create_loss_scale_manager(config)
    assert isinstance(dynamic, DynamicLossScaleManager)
    cell = dynamic.get_update_cell()
    assert (dynamic.get_loss_scale(), cell.scale_factor, cell.scale_window) == (64, 4, 9)


def test_a_config_can_be_changed_by_one_key():
    config = configure(optimizer__name="thor")
    other = dataclasses.replace(config, optimizer=dataclasses.replace(config.optimizer, name="adam"))
    assert type(create_optimizer(other, Net(), 2)) is nn.Adam


def two_gradients():
    rng = np.random.default_rng(3)
    weights = {"w": rng.standard_normal((3, 4)).astype(np.float32), "b": np.zeros(3, np.float32)}
    gradients = [{name: rng.standard_normal(w.shape).astype(np.float32) for name, w in weights.items()}
                 for _ in range(2)]
    parameters = [ms.Parameter(ms.Tensor(w), name=name) for name, w in weights.items()]
    return {name: w.astype(np.float64) for name, w in weights.items()}, gradients, parameters


def assert_follows(optimizer, gradients, parameters, expected):
    for gradient in gradients:
        optimizer(tuple(ms.Tensor(gradient[p.name]) for p in parameters))
    for parameter in parameters:
        np.testing.assert_allclose(parameter.asnumpy(), expected[parameter.name], rtol=2e-6, atol=1e-7)


@pytest.mark.parametrize("target, lars, lamb", [
    ("CPU", layerwise.Lars, layerwise.Lamb), ("GPU", layerwise.Lars, nn.Lamb), ("Ascend", nn.LARS, nn.Lamb)])
def test_plain_operators_serve_where_mindspore_has_no_kernel(target, lars, lamb, monkeypatch):
    monkeypatch.setattr("models.optimizers.get_context", {"device_target": target}.get)
    for name, kind in (("lars", lars), ("lamb", lamb)):
        assert type(create_optimizer(configure(optimizer__name=name), Net(), 6)) is kind


def test_lamb_follows_its_paper():
    weights, gradients, parameters = two_gradients()
    moments = dict.fromkeys(weights, (0.0, 0.0))
    for t, gradient in enumerate(gradients, 1):
        for name, g in gradient.items():
            first = 0.9 * moments[name][0] + 0.1 * g.astype(np.float64)
            second = 0.99 * moments[name][1] + 0.01 * g.astype(np.float64) ** 2
            moments[name] = first, second
            r = first / (1 - 0.9 ** t) / (np.sqrt(second / (1 - 0.99 ** t)) + 1e-6)
            r = r + (0.1 * weights[name] if name == "w" else 0.0)
            size = np.linalg.norm(weights[name])
            ratio = size / np.linalg.norm(r) if size else 1.0
            weights[name] = weights[name] - (0.2, 0.1)[t - 1] * ratio * r
    optimizer = layerwise.Lamb(parameters, [0.2, 0.1], 0.9, 0.99, weight_decay=0.1,
                               decay_filter=lambda p: p.name == "w")
    assert_follows(optimizer, gradients, parameters, weights)


@pytest.mark.parametrize("nesterov", [False, True])
def test_lars_follows_its_paper(nesterov):
    weights, gradients, parameters = two_gradients()
    speed = dict.fromkeys(weights, 0.0)
    for t, gradient in enumerate(gradients):
        for name, g in gradient.items():
            u = g.astype(np.float64)
            if name == "w":
                size = np.linalg.norm(weights[name])
                u = 0.01 * size / (np.linalg.norm(u) + 0.1 * size + 1e-5) * (u + 0.1 * weights[name])
            speed[name] = 0.9 * speed[name] + u
            weights[name] = weights[name] - (0.2, 0.1)[t] * (u + 0.9 * speed[name] if nesterov else speed[name])
    optimizer = layerwise.Lars(parameters, [0.2, 0.1], 0.9, weight_decay=0.1, coefficient=0.01, use_nesterov=nesterov)
    assert_follows(optimizer, gradients, parameters, weights)


class Weights(nn.Cell):
    """A matrix and a bias to update."""

    def __init__(self, parameters):
        super().__init__()
        self.w, self.b = parameters


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("name", ["momentum", "sgd"])
def test_nesterov_follows_its_equations(pynative, name, momentum):
    weights, gradients, parameters = two_gradients()
    speed = dict.fromkeys(weights, 0.0)
    for gradient in gradients:
        for key, g in gradient.items():
            u = g + 0.1 * weights[key]
            speed[key] = momentum * speed[key] + u
            weights[key] = weights[key] - 0.2 * (u + momentum * speed[key])
    config = configure(optimizer__name=name, optimizer__nesterov="true", optimizer__momentum=momentum,
                       optimizer__weight_decay=0.1, train__epochs=1,
                       optimizer__learning_rate="{schedule: constant, initial: 0.2}")
    optimizer = create_optimizer(config, Weights(parameters), 2)
    assert_follows(optimizer, gradients, parameters, weights)
