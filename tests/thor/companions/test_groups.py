"""Groups of parameters in the companions: five steps with rates and decays of their own, against float64."""
from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn
from mindspore.nn.learning_rate_schedule import ExponentialDecayLR

from tests.helpers import companion_cases as cases
from tests.helpers.companion_cases import RATES, arrays, gradient, orthogonal, start
from tests.helpers.modes import operator_by_operator
from tests.helpers.soap_reference import SoapMatrix
from thor.companions import DCASGD, SOAP, Heun, Lookahead, Muon, RAdam, ranger

DECAYS = [0.2, 0.1, 0.05]  # of the weight; that of the bias is constant
BIAS_RATE, BIAS_DECAY = 0.15, 0.3


def rate(name, step):
    return RATES[step] if name == "fc.weight" else BIAS_RATE


def decay(name, step):
    return DECAYS[min(step, 2)] if name == "fc.weight" else BIAS_DECAY


def groups(parameters):
    """The bias first, with constants; the weight with the optimizer's own rate, and decays by step."""
    weight, bias = parameters
    return [{"params": [bias], "lr": BIAS_RATE, "weight_decay": BIAS_DECAY}, {"params": [weight],
                                                                              "weight_decay": DECAYS}]


def ordered(parameters):
    """The same in the order of the network; the weight's rate by step is the group's own."""
    bias, weight = groups(parameters)
    return [bias, {**weight, "lr": RATES}, {"order_params": parameters}]


def each(rule, *trees):
    return {name: rule(name, *(tree[name] for tree in trees)) for name in trees[0]}


def decayed(weights, batch, step):
    return each(lambda name, w, g: g + decay(name, step) * w, weights, gradient(weights, batch))


def radam_steps(beta1=0.9, beta2=0.9, eps=1e-8, k=None, alpha=0.5):
    weights, slow = start(), start()
    first, second = (dict.fromkeys(weights, 0.0) for _ in range(2))
    for step, batch in enumerate(arrays()):
        t, g = step + 1, decayed(weights, batch, step)
        first = each(lambda name, m, u: beta1 * m + (1 - beta1) * u, first, g)
        second = each(lambda name, v, u: beta2 * v + (1 - beta2) * u * u, second, g)
        limit = 2 / (1 - beta2) - 1
        rho = limit - 2 * t * beta2 ** t / (1 - beta2 ** t)

        def moved(name, w, m, v):
            move = m / (1 - beta1 ** t)
            if rho > 5:
                move *= np.sqrt((rho - 4) * (rho - 2) * limit / ((limit - 4) * (limit - 2) * rho))
                move /= (np.sqrt(v) + eps) / np.sqrt(1 - beta2 ** t)
            return w - rate(name, step) * move
        weights = each(moved, weights, first, second)
        if k is not None and t % k == 0:
            slow = each(lambda name, s, f: s + alpha * (f - s), slow, weights)
            weights = dict(slow)
        yield weights


def muon_steps(mu=0.95, beta1=0.9, beta2=0.95, eps=1e-8):
    weights, moments, second = start(), dict.fromkeys(start(), 0.0), 0.0
    for step, batch in enumerate(arrays()):
        t, g = step + 1, gradient(weights, batch)
        second = beta2 * second + (1 - beta2) * g["fc.bias"] ** 2
        moments = {"fc.weight": mu * moments["fc.weight"] + g["fc.weight"],
                   "fc.bias": beta1 * moments["fc.bias"] + (1 - beta1) * g["fc.bias"]}
        steps = {"fc.weight": 0.2 * np.sqrt(4) * orthogonal(g["fc.weight"] + mu * moments["fc.weight"]),
                 "fc.bias": moments["fc.bias"] / (1 - beta1 ** t) / (np.sqrt(second / (1 - beta2 ** t)) + eps)}
        weights = each(lambda name, w, s: w - rate(name, step) * (s + decay(name, step) * w), weights, steps)
        yield weights


def soap_steps(beta=0.95, eps=1e-8):
    weights, mean, square, matrix = start(), 0.0, 0.0, SoapMatrix((3, 4), 2, 2, beta, beta, eps)
    for step, batch in enumerate(arrays()):
        t, g = step + 1, gradient(weights, batch)
        mean, square = (beta * old + (1 - beta) * g["fc.bias"] ** power for old, power in ((mean, 1), (square, 2)))
        update = mean / (1 - beta ** t) / (np.sqrt(square / (1 - beta ** t)) + eps)
        weights = {"fc.weight": matrix.moved(weights["fc.weight"], g["fc.weight"], rate("fc.weight", step),
                                             decay("fc.weight", step)),
                   "fc.bias": weights["fc.bias"] - BIAS_RATE * (update + BIAS_DECAY * weights["fc.bias"])}
        yield weights


def momentum_steps(mu, k=None, alpha=0.5):
    weights, slow, moments = start(), start(), dict.fromkeys(start(), 0.0)
    for step, batch in enumerate(arrays()):
        moments = each(lambda name, v, u: mu * v + u, moments, decayed(weights, batch, step))
        weights = each(lambda name, w, v: w - rate(name, step) * v, weights, moments)
        if k is not None and (step + 1) % k == 0:
            slow = each(lambda name, s, f: s + alpha * (f - s), slow, weights)
            weights = dict(slow)
        yield weights


def heun_steps(mu):
    weights, moments = start(), dict.fromkeys(start(), 0.0)
    for step, batch in enumerate(arrays()):
        first = decayed(weights, batch, step)
        there = each(lambda name, w, v, u: w - rate(name, step) * (mu * v + u), weights, moments, first)
        moments = each(lambda name, v, a, b: mu * v + (a + b) / 2, moments, first, decayed(there, batch, step))
        weights = each(lambda name, w, v: w - rate(name, step) * v, weights, moments)
        yield weights


def dcasgd_steps(strength, delays, mu):
    history, moments = [start()], dict.fromkeys(start(), 0.0)
    for step, batch in enumerate(arrays()):
        then, now = history[step - min(delays[step], step)], history[step]
        update = each(lambda name, u, a, b: u + strength * u * u * (a - b), decayed(then, batch, step), now, then)
        moments = each(lambda name, v, u: mu * v + u, moments, update)
        history.append(each(lambda name, w, v: w - rate(name, step) * v, now, moments))
        yield history[-1]


DELAYS = [0, 1, 2, 1, 3]
CASES = {
    "radam": (lambda p: RAdam(groups(p), RATES, 0.9, 0.9), radam_steps),
    "radam, ordered": (lambda p: RAdam(ordered(p), 7.0, 0.9, 0.9, loss_scale=1.0), radam_steps),
    "muon": (lambda p: Muon(groups(p), RATES, matrices=lambda all: [len(p.shape) > 1 for p in all]), muon_steps),
    "soap": (lambda p: SOAP(groups(p), RATES, frequency=2, split_dim=2), soap_steps),
    "ranger": (lambda p: ranger(ordered(p), RATES, 0.9, 0.9, 1e-8, k=2), lambda: radam_steps(k=2)),
    "lookahead of momentum": (lambda p: Lookahead(nn.Momentum(mindspores(p), RATES, 0.9), 2, 0.5),
                              lambda: momentum_steps(0.9, 2)),
    "heun": (lambda p: Heun(groups(p), RATES, 0.9), lambda: heun_steps(0.9)),
    "dcasgd": (lambda p: DCASGD(groups(p), RATES, 2.0, delays=DELAYS, momentum=0.9),
               lambda: dcasgd_steps(2.0, DELAYS, 0.9)),
}


class Decays(nn.Cell):
    """``DECAYS`` as MindSpore's optimizers take them."""

    def __init__(self):
        super().__init__()
        self.values = Tensor(DECAYS, ms.float32)

    def construct(self, global_step):
        return self.values[ms.ops.minimum(global_step, 2)]


def mindspores(parameters):
    bias, weight = groups(parameters)
    return [bias, {**weight, "weight_decay": Decays()}]


@operator_by_operator(CASES, graph=["radam", "muon", "ranger", "heun", "dcasgd"])
def test_five_steps_follow_the_equations(mode, name):
    ms.set_context(mode=mode)
    build, expected = CASES[name]
    cases.assert_follows(build, expected())


@pytest.mark.parametrize("build, expected", [
    (lambda p: RAdam(groups(p), RATES, 0.9, 0.9, loss_scale=256.0), radam_steps),
    (lambda p: Heun(groups(p), RATES, 0.9, loss_scale=256.0), lambda: heun_steps(0.9)),
    (lambda p: DCASGD(groups(p), RATES, 2.0, delays=DELAYS, momentum=0.9, loss_scale=256.0),
     lambda: dcasgd_steps(2.0, DELAYS, 0.9)),
], ids=["radam", "heun", "dcasgd"])
def test_loss_scale_changes_neither_rates_nor_decays(pynative, build, expected):
    cases.assert_follows(build, expected(), 256.0, steps=3)


@pytest.mark.parametrize("value, by_step", [
    ([0.3, 0.2], lambda step: [0.3, 0.2][min(step, 1)]),
    (ExponentialDecayLR(0.3, 0.5, 2), lambda step: 0.3 * 0.5 ** (step / 2)),
], ids=["list", "schedule"])
def test_weight_decay_by_step_without_groups(pynative, value, by_step):
    def expected():
        weights = start()
        for step, batch in enumerate(arrays()):
            update = each(lambda name, w, g: g + by_step(step) * w, weights, gradient(weights, batch))
            weights = each(lambda name, w, u: w - 0.1 * u, weights, update)
            yield weights

    cases.assert_follows(lambda p: DCASGD(p, 0.1, 0.0, weight_decay=value), expected())


def test_order_is_that_of_the_groups_or_of_order_params():
    network = cases.Linear()
    weight, bias = network.trainable_params()
    assert [p.name for p in RAdam(groups([weight, bias]), RATES).parameters] == ["fc.bias", "fc.weight"]
    assert [p.name for p in RAdam(ordered([weight, bias]), RATES).parameters] == ["fc.weight", "fc.bias"]


def test_rates_and_decays_are_read_through_lookahead(pynative):
    weight, bias = cases.Linear().trainable_params()
    optimizer = ranger(ordered([weight, bias]), 0.5)
    assert [float(value.asnumpy()) for value in optimizer.get_lr()] == pytest.approx([RATES[0], BIAS_RATE])
    assert [float(value.asnumpy()) for value in optimizer.get_weight_decay()] == pytest.approx([DECAYS[0], BIAS_DECAY])
    assert float(optimizer.get_lr_parameter(bias).asnumpy()) == pytest.approx(BIAS_RATE)
    assert float(optimizer.learning_rate.asnumpy()) == 0.5 and optimizer.is_group_lr


@operator_by_operator(["momentum"], graph=["momentum"])
def test_lookahead_keeps_constant_rates_of_mindspores_groups(mode, name):
    ms.set_context(mode=mode)

    def expected():
        weights = start()
        for batch in arrays():
            weights = each(lambda name, w, g: w - (0.2 if name == "fc.bias" else 0.1) * g, weights,
                           gradient(weights, batch))
            yield weights

    cases.assert_follows(lambda p: Lookahead(nn.Momentum([{"params": p[1:], "lr": 0.2}, {"params": p[:1]}], 0.1, 0.0),
                                             100), expected())


def test_saved_and_loaded_radam_goes_on_bit_for_bit(pynative, tmp_path):
    build, _ = CASES["ranger"]
    batches = arrays(6)
    _, _, step = cases.create(build)
    cases.train(step, batches[:3])
    ms.save_checkpoint(step, str(tmp_path / "3.ckpt"))
    cases.train(step, batches[3:])
    expected = cases.state_of(step)
    _, _, other = cases.create(build)
    assert ms.load_param_into_net(other, ms.load_checkpoint(str(tmp_path / "3.ckpt")), True) == ([], [])
    cases.train(other, batches[3:])
    got = cases.state_of(other)
    assert set(got) == set(expected)
    assert [key for key in expected if not np.array_equal(got[key], expected[key])] == []


def test_lookahead_around_thor_respects_its_groups(pynative):
    from tests.helpers import group_cases
    from thor.train import make_train_step

    network, with_loss, optimizer = group_cases.create()
    step = make_train_step(with_loss, Lookahead(optimizer, 100))
    for (x, y), wanted in zip(group_cases.arrays(4), group_cases.trained(4)):
        step(Tensor(x), Tensor(y))
        group_cases.assert_close(network, wanted)
