"""The update after preconditioning, against the equations: decay, clip, momentum, Nesterov, schedules."""
from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn, ops
from mindspore.nn.learning_rate_schedule import ExponentialDecayLR

from tests.helpers import reference as ref
from thor import THOR

pytestmark = pytest.mark.usefixtures("pynative")


class Vectors(nn.Cell):
    """Two parameters that no tap serves: their update is the gradient itself."""

    def __init__(self):
        super().__init__()
        self.first = ms.Parameter(Tensor(np.float32([1.0, -2.0, 3.0])), name="first")
        self.second = ms.Parameter(Tensor(np.float32([[0.5, 4.0]])), name="second")


START = {"first": np.array([1.0, -2.0, 3.0]), "second": np.array([[0.5, 4.0]])}
GRADIENTS = [{"first": np.array([3.0, 0.0, -4.0]), "second": np.array([[0.25, -0.5]])},
             {"first": np.array([-1.0, 2.0, 0.5]), "second": np.array([[0.0, 8.0]])},
             {"first": np.array([0.1, 0.2, 0.3]), "second": np.array([[-0.1, 0.4]])}]


def trained(gradients=GRADIENTS, scale=1.0, learning_rate=0.1, momentum=0.9, **options):
    network = Vectors()
    optimizer = THOR(network, learning_rate, 0.1, momentum, **options)
    for gradient in gradients:
        optimizer(tuple(Tensor((gradient[name] * scale).astype(np.float32)) for name in START))
    return {"first": network.first.asnumpy(), "second": network.second.asnumpy()}, optimizer


def expected(gradients=GRADIENTS, learning_rate=lambda step: 0.1, momentum=0.9, decay=None, clip=False,
             nesterov=False):
    weights, moments = dict(START), dict.fromkeys(START, 0.0)
    for step, gradient in enumerate(gradients):
        for name in START:
            update = gradient[name] + (decay or {}).get(name, 0.0) * weights[name]
            if clip:
                update = update / max(1.0, np.sqrt((update ** 2).sum()))
            weights[name], moments[name] = ref.momentum_update(weights[name], moments[name], update,
                                                               learning_rate(step), momentum, nesterov)
    return weights


def assert_same(got, wanted):
    for name, weight in wanted.items():
        np.testing.assert_allclose(got[name], weight, rtol=2e-6, atol=1e-7, err_msg=name)


BOTH = {"first": 0.01, "second": 0.01}


@pytest.mark.parametrize("options, equations", [
    ({}, {}),
    ({"momentum": 0.0}, {"momentum": 0.0}),
    ({"use_nesterov": True}, {"nesterov": True}),
    ({"weight_decay": 0.01}, {"decay": BOTH}),
    ({"weight_decay": 0.01, "decay_filter": lambda p: p.name != "first"}, {"decay": {"second": 0.01}}),
    ({"enable_clip_grad": True}, {"clip": True}),
    ({"loss_scale": 1024.0, "scale": 1024.0}, {}),
    ({"loss_scale": 128, "scale": 128.0, "weight_decay": 0.01, "enable_clip_grad": True,
      "use_nesterov": True},
     {"decay": BOTH, "clip": True, "nesterov": True}),
], ids=["momentum", "sgd", "nesterov", "decay", "decay filter", "clip", "loss scale", "all"])
def test_weights_follow_the_equations(options, equations):
    assert_same(trained(**options)[0], expected(**equations))


RATES = [0.5, 0.25, 0.125]


@pytest.mark.parametrize("rate", [RATES, np.array(RATES), Tensor(RATES, ms.float32), tuple(RATES)],
                         ids=["list", "array", "tensor", "tuple"])
def test_schedules_hold_their_last_value(rate):
    gradients = GRADIENTS + GRADIENTS
    got, optimizer = trained(gradients, learning_rate=rate)
    assert_same(got, expected(gradients, lambda step: RATES[min(step, 2)]))
    np.testing.assert_array_equal(optimizer.global_step.asnumpy(), [6])


@pytest.mark.parametrize("rate", [0.25, np.float32(0.25), np.array(0.25), Tensor(0.25, ms.float32), [0.25],
                                  Tensor([0.25], ms.float32)])
def test_one_learning_rate_for_every_step(rate):
    assert_same(trained(learning_rate=rate)[0], expected(learning_rate=lambda step: 0.25))


def test_learning_rate_schedule_of_mindspore():
    got, _ = trained(learning_rate=ExponentialDecayLR(0.5, 0.5, 2))
    assert_same(got, expected(learning_rate=lambda step: 0.5 * 0.5 ** (step / 2)))


def test_learning_rate_is_what_get_lr_says():
    _, optimizer = trained(GRADIENTS[:1], learning_rate=RATES)
    assert optimizer.get_lr().asnumpy() == 0.25 and optimizer.get_lr().shape == ()


@pytest.mark.parametrize("damping", [[4.0, 1.0], np.array([4.0, 1.0]), Tensor([4.0, 1.0], ms.float32)])
def test_damping_schedule_holds_its_last_value(damping):
    network = nn.LayerNorm((2,))
    optimizer = THOR(network, 1.0, damping, 0.0, batch_size=2)
    gradient = np.float32([1.0, -2.0])
    for root in (2.0, 1.0, 1.0):
        before = network.gamma.asnumpy().copy()
        optimizer((Tensor(gradient), Tensor(gradient)))
        expected_update = gradient / (gradient ** 2 / 2 + root)
        np.testing.assert_allclose(before - network.gamma.asnumpy(), expected_update, rtol=1e-6)


def test_decay_comes_after_preconditioning_and_clip_after_decay():
    network = nn.LayerNorm((2,))
    optimizer = THOR(network, 1.0, 1.0, 0.0, weight_decay=3.0, loss_scale=4.0, batch_size=1,
                     enable_clip_grad=True, decay_filter=lambda p: p.name == "gamma")
    gradient = np.array([3.0, -2.0])
    optimizer((Tensor((4 * gradient).astype(np.float32)), Tensor((4 * gradient).astype(np.float32))))
    preconditioned = gradient / (gradient ** 2 + 1.0)
    decayed = preconditioned + 3.0 * np.ones(2)
    np.testing.assert_allclose(network.gamma.asnumpy(), 1.0 - decayed / np.linalg.norm(decayed), rtol=1e-6)
    # beta neither decays nor, with a norm below 1, is it clipped
    np.testing.assert_allclose(network.beta.asnumpy(), -preconditioned, rtol=1e-6)


def test_graph_mode_gives_the_same_weights():
    ms.set_context(mode=ms.GRAPH_MODE)
    got, _ = trained(learning_rate=RATES, weight_decay=0.01, enable_clip_grad=True, use_nesterov=True)
    assert_same(got, expected(learning_rate=lambda step: RATES[step], decay=BOTH, clip=True, nesterov=True))


def test_state_is_made_of_parameters():
    network = nn.SequentialCell([nn.Dense(3, 2)])
    optimizer = THOR(network, 0.1, 0.1, 0.9)
    names = [p.name for p in optimizer.get_parameters()]
    assert len(names) == len(set(names))
    assert {"global_step", "momentum", "moments.0.weight", "moments.0.bias", "inverses_2", "inverses_3",
            "0.factor_a", "0.factor_g", "rejected_blocks"} <= set(names)
    assert not [name for name in names if name.startswith("moments") and "factor" in name]


def test_stale_updates_use_the_old_inverses():
    network = nn.Dense(2, 2, has_bias=False)
    optimizer = THOR(network, 1.0, 0.1, 0.0, frequency=1)
    inverses = next(p for p in optimizer.get_parameters() if p.name == "inverses_2")
    inverses.set_data(Tensor(np.float32([[[2, 0], [0, 3]], [[1, 0], [0, 1]]])))  # A, G
    before = network.weight.asnumpy().copy()
    optimizer.apply_update((ops.ones((2, 2), ms.float32),))
    np.testing.assert_allclose(before - network.weight.asnumpy(), [[2, 3], [2, 3]], rtol=1e-6)
    np.testing.assert_array_equal(optimizer.global_step.asnumpy(), [1])


def test_gradients_without_measurements_are_refused():
    network = nn.Dense(2, 2, has_bias=False)
    optimizer = THOR(network, 1.0, 0.1, 0.0)
    with pytest.raises(ValueError, match="^gradients has 1 entries; must be 5, one for each of"):
        optimizer((ops.ones((2, 2), ms.float32),))
