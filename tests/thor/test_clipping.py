"""clip_norm: the norm of all weights' gradients is limited; what goes on behind it is what it was."""
from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn

from tests.helpers.companion_cases import arrays, combine, create, gradient, start, train, weights_of
from tests.helpers.modes import BOTH_MODES, compiled_once
from thor import THOR
from thor.checks import ArgumentError
from thor.clipping import GlobalNormClip, gradient_clip
from thor.companions import DCASGD, Heun
from thor.train import make_train_step

LIMIT = 0.05


def norm_of(tree):
    return np.sqrt(sum((np.asarray(value, np.float64) ** 2).sum() for value in tree.values()))


def clipped(tree, limit=LIMIT):
    return combine(lambda value: value * min(1.0, limit / norm_of(tree)), tree)


@BOTH_MODES
@pytest.mark.parametrize("kinds", [(ms.float32, ms.float32), (ms.float16, ms.float32)], ids=["float32", "mixed"])
def test_gradients_of_any_shape_and_type_are_scaled_together(mode, kinds):
    ms.set_context(mode=mode)
    values = [np.array(-6.0), np.arange(12.0).reshape(3, 1, 2, 2) / 4]
    gradients = tuple(Tensor(value, kind) for value, kind in zip(values, kinds))
    norm = np.sqrt(36 + (np.arange(12.0) ** 2).sum() / 16)
    for limit in (2.0, 100.0):
        results = GlobalNormClip(limit)(gradients, gradients)
        for result, value, kind in zip(results, values, kinds):
            assert result.dtype == kind and result.shape == value.shape
            expected = value * min(1, limit / norm)
            np.testing.assert_allclose(result.asnumpy(), expected, rtol=1e-3 if kind == ms.float16 else 1e-6)
            assert limit == 2.0 or np.array_equal(result.asnumpy(), value)


def test_a_wrong_limit_is_one_line():
    with pytest.raises(ArgumentError) as raised:
        gradient_clip(0)
    assert str(raised.value) == "clip_norm=0; must be a number > 0 or None; use None for no limit"
    network = nn.Dense(2, 2)
    for build in (lambda: THOR(network, 0.1, 0.1, 0.9, clip_norm=True),
                  lambda: Heun(network.trainable_params(), 0.1, clip_norm=-1),
                  lambda: DCASGD(network.trainable_params(), 0.1, clip_norm="1")):
        with pytest.raises(ArgumentError, match="^clip_norm=.*; must be a number > 0 or None; use None for no limit$"):
            build()


@compiled_once("scale", [1.0, 64.0], ["plain", "scaled"], "scaled")
def test_heun_clips_both_of_its_gradients_before_decay(mode, scale):
    ms.set_context(mode=mode)
    network, _, step = create(lambda p: Heun(p, 0.1, 0.5, 0.05, scale, clip_norm=LIMIT), scale)
    weights, moment = start(), combine(np.zeros_like, start())
    for batch in arrays(3):
        def slope(w, batch=batch):
            return combine(lambda g, value: g + 0.05 * value, clipped(gradient(w, batch)), w)
        assert norm_of(gradient(weights, batch)) > 1.1 * LIMIT
        first = slope(weights)
        guess = combine(lambda w, v, g: w - 0.1 * (0.5 * v + g), weights, moment, first)
        moment = combine(lambda v, a, b: 0.5 * v + (a + b) / 2, moment, first, slope(guess))
        weights = combine(lambda w, v: w - 0.1 * v, weights, moment)
    train(step, arrays(3))
    for name, value in weights_of(network).items():
        np.testing.assert_allclose(value, weights[name], rtol=2e-6, atol=2e-7)


@compiled_once("scale", [1.0, 64.0], ["plain", "scaled"], "scaled")
def test_delayed_gradients_are_clipped_before_decay_and_compensation(mode, scale):
    ms.set_context(mode=mode)
    network, _, step = create(lambda p: DCASGD(p, 0.1, 2.0, delays=1, momentum=0.5, weight_decay=0.05,
                                               loss_scale=scale, clip_norm=LIMIT), scale)
    past = [start()]
    moment = combine(np.zeros_like, start())
    for t, batch in enumerate(arrays(3)):
        now, then = past[t], past[max(t - 1, 0)]
        slope = combine(lambda g, w: g + 0.05 * w, clipped(gradient(then, batch)), then)
        update = combine(lambda g, a, b: g + 2.0 * g * g * (a - b), slope, now, then)
        moment = combine(lambda v, u: 0.5 * v + u, moment, update)
        past.append(combine(lambda w, v: w - 0.1 * v, now, moment))
    train(step, arrays(3))
    for name, value in weights_of(network).items():
        np.testing.assert_allclose(value, past[-1][name], rtol=2e-6, atol=2e-7)


class Net(nn.Cell):
    """A convolution, a normalisation and a dense layer: every kind of gradient THOR has."""

    def __init__(self):
        super().__init__()
        random = np.random.default_rng(4)
        self.conv, self.flatten = nn.Conv2d(1, 2, 3, has_bias=True), nn.Flatten()
        self.norm, self.fc = nn.LayerNorm((32,)), nn.Dense(32, 3)
        for parameter in self.trainable_params():
            parameter.set_data(Tensor(random.normal(0, 0.5, parameter.shape).astype(np.float32)))

    def construct(self, x):
        return self.fc(self.norm(self.flatten(self.conv(x))))


IMAGES = np.random.default_rng(6).standard_normal((4, 1, 4, 4)).astype(np.float32)
LABELS = np.array([0, 1, 2, 0], np.int32)


def norm_at_the_start():
    ms.set_context(mode=ms.PYNATIVE_MODE)
    network = Net()
    slope = ms.grad(nn.WithLossCell(network, nn.CrossEntropyLoss()), None, network.trainable_params())
    return norm_of(dict(enumerate(value.asnumpy() for value in slope(Tensor(IMAGES), Tensor(LABELS)))))


def moved(limit, rates, scale=1.0):
    """How THOR's weights move in the last of its steps; all but that one have the rate 0."""
    network = Net()
    before = {p.name: p.asnumpy().astype(np.float64) for p in network.trainable_params()}
    optimizer = THOR(network, rates, 0.05, 0.0, batch_size=4, loss_scale=scale, frequency=2, clip_norm=limit)
    step = make_train_step(nn.WithLossCell(network, nn.CrossEntropyLoss()), optimizer, scale)
    for _ in rates:
        step(Tensor(IMAGES), Tensor(LABELS))
    return {p.name: p.asnumpy() - before[p.name] for p in network.trainable_params()}


@compiled_once("rates", [[0.1], [0.0, 0.1]], ["refresh", "stale"], "stale")
def test_thor_scales_its_step_by_the_weights_gradients_alone(mode, rates):
    """Neither the measured factors, gradients of factor parameters, count, nor does the clip reach any curvature."""
    norm = norm_at_the_start()
    assert norm > 0.5
    free = moved(None, rates, 32.0)
    ms.set_context(mode=mode)
    held = moved(norm / 4, rates, 32.0)
    for name, move in free.items():
        assert np.abs(move).max() > 1e-4
        np.testing.assert_allclose(held[name], move / 4, rtol=2e-4, atol=3e-7, err_msg=name)


@pytest.mark.usefixtures("pynative")
def test_a_limit_that_is_not_reached_changes_no_bit_of_thor():
    free, loose = moved(None, [0.1]), moved(1.01 * norm_at_the_start(), [0.1])
    for name, move in free.items():
        np.testing.assert_array_equal(loose[name], move, err_msg=name)
