"""Where an optimizer is another one: alpha 1, lambda 0, delay 0; and where RAdam begins to rectify."""
from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from mindspore import Parameter, Tensor, nn

from tests.helpers import companion_cases as cases
from tests.helpers.companion_cases import DECAY, RATES, arrays
from tests.helpers.modes import BOTH_MODES
from thor import THOR
from thor.companions import DCASGD, Heun, Lookahead, RAdam, ranger
from thor.train import TwoGraphStep, make_train_step


def trained(build, count=5, **options):
    """The weights after ``count`` steps, by name, and the optimizer."""
    network, optimizer, step = cases.create(build, **options)
    cases.train(step, arrays(count))
    return cases.weights_of(network), optimizer


def assert_equal(got, wanted):
    for name in wanted:
        np.testing.assert_array_equal(got[name], wanted[name], err_msg=name)


def assert_close(got, wanted):
    for name in wanted:
        np.testing.assert_allclose(got[name], wanted[name], rtol=2e-6, atol=2e-7, err_msg=name)


@BOTH_MODES
@pytest.mark.parametrize("base", [lambda p: nn.Momentum(p, RATES, 0.9, DECAY), lambda p: nn.Adam(p, RATES)],
                         ids=["momentum", "adam"])
def test_lookahead_with_alpha_1_is_its_base_bit_for_bit(mode, base):
    ms.set_context(mode=mode)
    assert_equal(trained(lambda p: Lookahead(base(p), 2, 1.0))[0], trained(base)[0])


def test_ranger_is_radam_inside_lookahead_with_published_constants(pynative):
    ours, optimizer = trained(lambda p: ranger(p, RATES), 7)
    assert_equal(ours, trained(lambda p: Lookahead(RAdam(p, RATES, 0.95, 0.999, 1e-5), 6, 0.5), 7)[0])
    assert (type(optimizer.base), optimizer.k, optimizer.alpha) == (RAdam, 6, 0.5)


def test_lookahead_of_thor_keeps_its_two_graphs_and_with_alpha_1_is_thor(pynative):
    def weights(wrap):
        network = cases.Linear()
        optimizer = wrap(THOR(network, RATES, 0.1, 0.9, batch_size=cases.BATCH, frequency=2))
        step = make_train_step(cases.SquaredError(network), optimizer)
        cases.train(step, arrays())
        values = {name: value for name, value in cases.weights_of(network).items() if "factor_" not in name}
        return values, step, optimizer
    thor, step, optimizer = weights(lambda thor: Lookahead(thor, 2, 1.0))
    assert isinstance(step.step, TwoGraphStep) and optimizer.base.rejected_blocks == 0
    assert_equal(thor, weights(lambda thor: thor)[0])
    slow = {parameter.name for parameter in optimizer.synchronisation.slow}
    assert slow == {"slow.fc.weight", "slow.fc.bias"}


def test_no_compensation_and_no_delay_is_sgd(pynative):
    sgd = trained(lambda p: nn.SGD(p, RATES, weight_decay=DECAY))[0]
    assert_close(trained(lambda p: DCASGD(p, RATES, 0.0, weight_decay=DECAY))[0], sgd)
    momentum = trained(lambda p: nn.Momentum(p, RATES, 0.9, DECAY))[0]
    assert_close(trained(lambda p: DCASGD(p, RATES, 0.0, momentum=0.9, weight_decay=DECAY))[0], momentum)


@pytest.mark.parametrize("adaptive", [False, True])
def test_without_delay_compensation_changes_nothing(pynative, adaptive):
    sgd = trained(lambda p: DCASGD(p, RATES, 0.0))[0]
    assert_equal(trained(lambda p: DCASGD(p, RATES, 2.0, adaptive))[0], sgd)


def test_compensation_0_is_asgd_at_the_same_delays_and_differs_from_dcasgd_and_sgd(pynative):
    asgd = trained(lambda p: DCASGD(p, RATES, 0.0, delays=2))[0]
    assert_equal(trained(lambda p: DCASGD(p, RATES, 0.0, True, delays=[2]))[0], asgd)
    for other in (trained(lambda p: DCASGD(p, RATES, 2.0, delays=2)), trained(lambda p: DCASGD(p, RATES, 0.0))):
        assert np.abs(other[0]["fc.weight"] - asgd["fc.weight"]).max() > 1e-4


def test_heun_of_a_gradient_that_does_not_change_is_momentum(pynative):
    def moved(build):
        weight = Parameter(Tensor([1.0, -2.0], ms.float32), name="w")
        optimizer = build([weight])
        for _ in range(6 if isinstance(optimizer, Heun) else 3):
            optimizer((Tensor([0.5, 0.25], ms.float32),))
        return weight.asnumpy()
    np.testing.assert_allclose(moved(lambda p: Heun(p, RATES, 0.9)), moved(lambda p: nn.Momentum(p, RATES, 0.9)),
                               rtol=1e-6)


@pytest.mark.parametrize("mode, beta2, first", [
    (ms.PYNATIVE_MODE, 0.999, 6), (ms.PYNATIVE_MODE, 0.8, 7), (ms.PYNATIVE_MODE, 0.6, None),
    pytest.param(ms.GRAPH_MODE, 0.8, 7, marks=pytest.mark.slow)])
def test_radam_rectifies_from_the_right_step_on(mode, beta2, first):
    """rho passes 5 at step 6 for 0.999 and at step 7 for 0.8; its limit for 0.6 is 4.

    With beta1 = 0 and a gradient of 2 a step is 2 lr before, and lr times the rectification from then on.
    """
    ms.set_context(mode=mode)
    weight = Parameter(Tensor([0.0], ms.float32), name="w")
    optimizer = RAdam([weight], 1.0, 0.0, beta2)
    lengths, before = [], 0.0
    for _ in range(9):
        optimizer((Tensor([2.0], ms.float32),))
        lengths.append(before - float(weight.asnumpy()[0]))
        before = float(weight.asnumpy()[0])
    limit, wanted = 2 / (1 - beta2) - 1, []
    for t in range(1, 10):
        rho = limit - 2 * t * beta2 ** t / (1 - beta2 ** t)
        rectified = first is not None and t >= first
        assert (rho > 5) == rectified
        wanted.append(np.sqrt((rho - 4) * (rho - 2) * limit / ((limit - 4) * (limit - 2) * rho)) if rectified else 2.0)
    np.testing.assert_allclose(lengths, wanted, rtol=2e-3)
    assert (min(lengths) < 1) == (first is not None)
