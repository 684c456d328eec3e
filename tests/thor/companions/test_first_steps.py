"""First five steps of the optimizers that come from elsewhere, as the zoo builds them, against their equations."""
from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn

from models import layerwise
from tests.helpers import companion_cases as cases
from tests.helpers.companion_cases import (
    BATCH,
    DECAY,
    RATES,
    STEPS,
    arrays,
    combine,
    decayed,
    gradient,
    start,
    zeros,
)
from tests.helpers.modes import BOTH_MODES
from thor.companions import kfac, ranger
from thor.train import make_train_step


def adam_like(move, beta1=0.9, beta2=0.999, coupled=True):
    """Steps of ``move(t, rate, w, m, v)`` with the moments of Kingma & Ba 2015."""
    weights = start()
    first, second = zeros(weights), zeros(weights)
    for t, (rate, batch) in enumerate(zip(RATES, arrays()), 1):
        g = decayed(weights, batch) if coupled else gradient(weights, batch)
        first = combine(lambda m, u: beta1 * m + (1 - beta1) * u, first, g)
        second = combine(lambda v, u: beta2 * v + (1 - beta2) * u * u, second, g)
        weights = combine(lambda w, m, v: move(t, rate, w, m, v), weights, first, second)
        yield weights


def adam(t, rate, w, m, v):
    return w - rate * np.sqrt(1 - 0.999 ** t) / (1 - 0.9 ** t) * m / (np.sqrt(v) + 1e-8)


def adamw(t, rate, w, m, v):
    """Loshchilov & Hutter 2019 as MindSpore has it, without correction of the moments' start."""
    return w - rate * (m / (np.sqrt(v) + 1e-6) + DECAY * w)


def lamb(t, rate, w, m, v):
    r = m / (1 - 0.9 ** t) / (np.sqrt(v / (1 - 0.999 ** t)) + 1e-6) + DECAY * w
    return w - rate * np.linalg.norm(w) / np.linalg.norm(r) * r


def momentum_steps(mu):
    weights, moments = start(), zeros(start())
    for rate, batch in zip(RATES, arrays()):
        moments = combine(lambda v, u: mu * v + u, moments, decayed(weights, batch))
        weights = combine(lambda w, v: w - rate * v, weights, moments)
        yield weights


def lars_steps(coefficient=0.05, epsilon=1e-5, mu=0.9):
    """You et al. 2017; the bias, of rank 1, moves by momentum."""
    weights, moments = start(), zeros(start())
    for rate, batch in zip(RATES, arrays()):
        g = gradient(weights, batch)
        size, slope = (np.linalg.norm(tree["fc.weight"]) for tree in (weights, g))
        trust = coefficient * size / (slope + DECAY * size + epsilon)
        g["fc.weight"] = trust * (g["fc.weight"] + DECAY * weights["fc.weight"])
        moments = combine(lambda v, u: mu * v + u, moments, g)
        weights = combine(lambda w, v: w - rate * v, weights, moments)
        yield weights


def ranger_steps(k, alpha):
    """Without rectification, as in the first five steps; slow weights after every k."""
    fast, slow = start(), start()
    moments = zeros(fast)
    for t, (rate, batch) in enumerate(zip(RATES, arrays()), 1):
        moments = combine(lambda m, u: 0.95 * m + 0.05 * u, moments, decayed(fast, batch))
        fast = combine(lambda w, m: w - rate * m / (1 - 0.95 ** t), fast, moments)
        if t % k == 0:
            slow = combine(lambda s, f: s + alpha * (f - s), slow, fast)
            fast = dict(slow)
        yield fast


CASES = {
    "momentum": (lambda p: nn.Momentum(p, RATES, 0.9, DECAY), lambda: momentum_steps(0.9)),
    "sgd": (lambda p: nn.SGD(p, RATES, weight_decay=DECAY), lambda: momentum_steps(0.0)),
    "adam": (lambda p: nn.Adam(p, RATES, weight_decay=DECAY), lambda: adam_like(adam)),
    "adamw": (lambda p: nn.AdamWeightDecay(p, RATES, weight_decay=DECAY), lambda: adam_like(adamw, coupled=False)),
    "lamb": (lambda p: layerwise.Lamb(p, RATES, weight_decay=DECAY), lambda: adam_like(lamb, coupled=False)),
    "lars": (lambda p: layerwise.Lars(p, RATES, 0.9, DECAY, 0.05), lars_steps),
    "ranger": (lambda p: ranger(p, RATES, weight_decay=DECAY, k=2, alpha=0.3), lambda: ranger_steps(2, 0.3)),
}


@pytest.mark.parametrize("name", CASES)
def test_five_steps_follow_the_equations(name, pynative):
    build, expected = CASES[name]
    # the first step of adamw is 3 lr long, of which MindSpore's float32 value of 1 - beta2 takes 3e-5
    cases.assert_follows(build, expected(), atol=2e-5 if name == "adamw" else 1e-6)


def kfac_steps(damping, average, mu, frequency):
    weights, moments, a, g = start(), zeros(start()), None, None
    for step, (rate, (x, y)) in enumerate(zip(RATES, arrays())):
        x, gradients = x.astype(np.float64), gradient(weights, (x, y))
        out = np.tanh(x @ weights["fc.weight"].T + weights["fc.bias"])
        d = (out - y) * (1 - out ** 2) / BATCH
        if step % frequency == 0:
            measured = x.T @ x / BATCH, d.T @ d / BATCH * BATCH ** 2
            k = step // frequency + 1
            e = min(1 - 1 / k, average)
            a, g = measured if a is None else (e * old + (1 - e) * new for old, new in zip((a, g), measured))
            pi = np.sqrt(np.trace(a) / len(a) / (np.trace(g) / len(g)))
            inverses = (np.linalg.inv(g + np.sqrt(damping) / pi * np.eye(len(g))),
                        np.linalg.inv(a + np.sqrt(damping) * pi * np.eye(len(a))))
        gradients["fc.weight"] = inverses[0] @ gradients["fc.weight"] @ inverses[1]
        update = combine(lambda u, w: u + DECAY * w, gradients, weights)
        moments = combine(lambda v, u: mu * v + u, moments, update)
        weights = combine(lambda w, v: w - rate * v, weights, moments)
        yield weights


@BOTH_MODES
@pytest.mark.parametrize("frequency", [1, 2])
def test_five_steps_of_kfac_follow_the_equations(mode, frequency):
    ms.set_context(mode=mode)
    network = cases.Linear()
    optimizer = kfac(network, RATES, 0.3, 0.9, DECAY, batch_size=BATCH, frequency=frequency, running_average=0.7)
    step = make_train_step(cases.SquaredError(network), optimizer)
    expected = list(kfac_steps(0.3, 0.7, 0.9, frequency))
    assert len(expected) == STEPS
    for batch, wanted in zip(arrays(), expected):
        cases.train(step, [batch])
        got = cases.weights_of(network)
        for name in wanted:
            np.testing.assert_allclose(got[name], wanted[name], rtol=2e-5, atol=2e-6, err_msg=name)
