"""First five steps of each optimizer against the equations of its paper in float64 NumPy."""
from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn
from mindspore.amp import FixedLossScaleManager

from tests.helpers import companion_cases as cases
from tests.helpers.companion_cases import DECAY, RATES, arrays, combine, decayed, orthogonal, start, zeros
from tests.helpers.modes import operator_by_operator
from thor.companions import DCASGD, Heun, Lookahead, Muon, RAdam
from thor.companions.muon import hidden_matrices, orthogonalized

SCALE, SCALED = 256.0, 3  # and after so many steps: slow weights move at the second, gradients are 0, 1 and 2 old


def momentum_steps(mu=0.9, decay=DECAY):
    weights, moments = start(), zeros(start())
    for rate, batch in zip(RATES, arrays()):
        moments = combine(lambda v, u: mu * v + u, moments, decayed(weights, batch, decay))
        weights = combine(lambda w, v: w - rate * v, weights, moments)
        yield weights


def radam_steps(beta1=0.9, beta2=0.999, eps=1e-8, decay=DECAY):
    weights = start()
    first, second = zeros(weights), zeros(weights)
    for t, (rate, batch) in enumerate(zip(RATES, arrays()), 1):
        g = decayed(weights, batch, decay)
        first = combine(lambda m, u: beta1 * m + (1 - beta1) * u, first, g)
        second = combine(lambda v, u: beta2 * v + (1 - beta2) * u * u, second, g)
        limit = 2 / (1 - beta2) - 1
        rho = limit - 2 * t * beta2 ** t / (1 - beta2 ** t)

        def moved(w, m, v):
            step = m / (1 - beta1 ** t)
            if rho > 5:
                step *= np.sqrt((rho - 4) * (rho - 2) * limit / ((limit - 4) * (limit - 2) * rho))
                step /= (np.sqrt(v) + eps) / np.sqrt(1 - beta2 ** t)
            return w - rate * step
        weights = combine(moved, weights, first, second)
        yield weights


def muon_steps(mu=0.95, nesterov=True, beta1=0.9, beta2=0.95, eps=1e-8, decay=DECAY):
    weights = start()
    moments, second = zeros(weights), zeros(weights)
    for t, (rate, batch) in enumerate(zip(RATES, arrays()), 1):
        g = cases.gradient(weights, batch)
        second = combine(lambda v, u: beta2 * v + (1 - beta2) * u * u, second, g)
        moments = {"fc.weight": mu * moments["fc.weight"] + g["fc.weight"],
                   "fc.bias": beta1 * moments["fc.bias"] + (1 - beta1) * g["fc.bias"]}
        u = g["fc.weight"] + mu * moments["fc.weight"] if nesterov else moments["fc.weight"]
        root = np.sqrt(second["fc.bias"] / (1 - beta2 ** t)) + eps
        steps = {"fc.weight": 0.2 * np.sqrt(4) * orthogonal(u),
                 "fc.bias": moments["fc.bias"] / (1 - beta1 ** t) / root}
        weights = combine(lambda w, s: w - rate * (s + decay * w), weights, steps)
        yield weights


def lookahead_steps(k, alpha, mu=0.9):
    fast, slow, moments = start(), start(), zeros(start())
    for t, (rate, batch) in enumerate(zip(RATES, arrays()), 1):
        moments = combine(lambda v, u: mu * v + u, moments, decayed(fast, batch))
        fast = combine(lambda w, v: w - rate * v, fast, moments)
        if t % k == 0:
            slow = combine(lambda s, f: s + alpha * (f - s), slow, fast)
            fast = dict(slow)
        yield fast


def heun_steps(mu):
    weights, moments = start(), zeros(start())
    for rate, batch in zip(RATES, arrays()):
        first = decayed(weights, batch)
        there = combine(lambda w, v, u: w - rate * (mu * v + u), weights, moments, first)
        second = decayed(there, batch)
        moments = combine(lambda v, a, b: mu * v + (a + b) / 2, moments, first, second)
        weights = combine(lambda w, v: w - rate * v, weights, moments)
        yield weights


def dcasgd_steps(strength, adaptive, delays, mu=0.0, decay=0.5, epsilon=1e-7):
    history, moments, squares = [start()], zeros(start()), zeros(start())
    for t, (rate, batch) in enumerate(zip(RATES, arrays())):
        then, now = history[t - min(delays[t % len(delays)], t)], history[t]
        g = decayed(then, batch)
        squares = combine(lambda s, u: decay * s + (1 - decay) * u * u, squares, g)
        size = combine(lambda s: strength / np.sqrt(s + epsilon) if adaptive else strength, squares)
        update = combine(lambda u, c, a, b: u + c * u * u * (a - b), g, size, now, then)
        moments = combine(lambda v, u: mu * v + u, moments, update)
        history.append(combine(lambda w, v: w - rate * v, now, moments))
        yield history[-1]


DELAYS = [0, 1, 2, 1, 3]


def every_matrix(parameters):
    return [parameter.ndim > 1 for parameter in parameters]


def case(name):
    return {
        "radam": (lambda p, s: RAdam(p, RATES, weight_decay=DECAY, loss_scale=s),
                  radam_steps()),
        "muon": (lambda p, s: Muon(p, RATES, weight_decay=DECAY, loss_scale=s, matrices=every_matrix), muon_steps()),
        "muon without nesterov": (lambda p, s: Muon(p, RATES, 0.9, DECAY, False, 0.8, 0.9, 1e-3, s, every_matrix),
                                  muon_steps(0.9, False, 0.8, 0.9, 1e-3)),
        "lookahead": (lambda p, s: Lookahead(nn.Momentum(p, RATES, 0.9, DECAY, s), 2, 0.3), lookahead_steps(2, 0.3)),
        "heun": (lambda p, s: Heun(p, RATES, weight_decay=DECAY, loss_scale=s), heun_steps(0.0)),
        "heun with momentum": (lambda p, s: Heun(p, RATES, 0.9, DECAY, s), heun_steps(0.9)),
        "asgd": (lambda p, s: DCASGD(p, RATES, 0.0, delays=DELAYS, weight_decay=DECAY, loss_scale=s),
                 dcasgd_steps(0.0, False, DELAYS)),
        "dcasgd": (lambda p, s: DCASGD(p, RATES, 2.0, delays=DELAYS, weight_decay=DECAY, loss_scale=s),
                   dcasgd_steps(2.0, False, DELAYS)),
        "dcasgd, adaptive": (lambda p, s: DCASGD(p, RATES, 2.0, True, 0.5, DELAYS, 0.9, DECAY, s),
                             dcasgd_steps(2.0, True, DELAYS, 0.9)),
    }[name]


NAMES = ["radam", "muon", "muon without nesterov", "lookahead", "heun", "heun with momentum", "asgd", "dcasgd",
         "dcasgd, adaptive"]


@operator_by_operator(NAMES, graph=["radam", "muon", "lookahead", "heun with momentum", "dcasgd", "dcasgd, adaptive"])
def test_five_steps_follow_the_equations(mode, name):
    ms.set_context(mode=mode)
    build, expected = case(name)
    cases.assert_follows(lambda parameters: build(parameters, 1.0), expected)


@pytest.mark.parametrize("name", NAMES)
def test_loss_scale_of_the_optimizer_changes_nothing(pynative, name):
    build, expected = case(name)
    cases.assert_follows(lambda parameters: build(parameters, SCALE), expected, SCALE, steps=SCALED)


@operator_by_operator(NAMES, graph=["heun with momentum", "dcasgd, adaptive"])
def test_loss_scale_of_the_train_step_changes_nothing(mode, name):
    ms.set_context(mode=mode)
    build, expected = case(name)
    cases.assert_follows(lambda parameters: build(parameters, 1.0), expected,
                         FixedLossScaleManager(SCALE, drop_overflow_update=True), steps=SCALED)


@pytest.mark.parametrize("shape", [(5, 9), (9, 5), (1, 7)])
def test_orthogonalized_momentum_has_singular_values_near_one(pynative, shape):
    matrix = np.random.default_rng(3).normal(size=shape)
    found = orthogonalized(ms.Tensor(matrix, ms.float32)).asnumpy()
    u, _, v = np.linalg.svd(matrix, full_matrices=False)
    singular = np.diag(u.T @ found @ v.T)
    assert singular.min() > 0.6 and singular.max() < 1.25
    np.testing.assert_allclose(found, u @ np.diag(singular) @ v, atol=1e-3)
    np.testing.assert_allclose(found, orthogonal(matrix), atol=1e-4)


def test_muon_orthogonalizes_hidden_matrices_alone():
    net = nn.SequentialCell(nn.Embedding(5, 4), nn.Conv1d(4, 3, 2), nn.Dense(3, 3), nn.Dense(3, 2))
    names = [parameter.name for parameter in net.trainable_params()]
    chosen = [name for name, is_hidden in zip(names, hidden_matrices(net.trainable_params())) if is_hidden]
    assert chosen == ["1.weight", "2.weight"]
