"""Delays as they are drawn, and arguments that are refused."""
from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from mindspore import Parameter, Tensor, nn

from thor.companions import DCASGD, Heun, Lookahead, RAdam, draw_delays


def test_constant_delays_grow_with_the_steps_done():
    delays = draw_delays("constant", 6, 3, 10)
    assert delays.dtype == np.int32 and delays.tolist() == [0, 1, 2, 3, 3, 3]
    assert draw_delays("constant", 6, 3, 2).tolist() == [0, 1, 2, 2, 2, 2]
    assert draw_delays("constant", 3, 0, 5).tolist() == [0, 0, 0]


@pytest.mark.parametrize("distribution, mean, most", [("uniform", 4, 8), ("poisson", 4, None), ("workers", 4, None)])
def test_drawn_delays_have_the_mean_and_come_from_the_seed(distribution, mean, most):
    delays = draw_delays(distribution, 20000, mean, 1000, seed=3)
    np.testing.assert_array_equal(delays, draw_delays(distribution, 20000, mean, 1000, seed=3))
    assert (delays != draw_delays(distribution, 20000, mean, 1000, seed=4)).any()
    assert abs(delays.mean() - mean) < 0.1 and delays.min() == 0
    assert most is None or delays.max() == most
    cut = draw_delays(distribution, 20000, mean, 5, seed=3)
    np.testing.assert_array_equal(cut, np.minimum(delays, 5))


def test_every_update_of_a_worker_is_as_old_as_what_the_others_did_meanwhile():
    """Between two updates of a worker lie as many of others as its delay says: all together n - 1 on average."""
    delays = draw_delays("workers", 3000, 2, 1000, seed=1)
    previous = np.arange(3000) - delays - 1  # the same worker's update before, or -1
    used = previous[previous >= 0]
    assert len(set(used.tolist())) == len(used) and (previous < 0).sum() == 3
    assert draw_delays("workers", 50, 0, 9).tolist() == [0] * 50


def parameters():
    return [Parameter(Tensor([1.0], ms.float32), name="w")]


def base():
    return nn.Momentum(parameters(), 0.1, 0.9)


@pytest.mark.parametrize("build, expected", [
    (lambda: draw_delays("gamma", 5, 1, 2), "distribution='gamma'; must be one of constant, uniform, poisson, "
     "workers; use constant for the same delay at every step"),
    (lambda: draw_delays("constant", 0, 1, 2), "steps=0; must be an int >= 1; give the steps of the run"),
    (lambda: draw_delays("constant", 5, -1, 2), "mean=-1; must be a number >= 0; give a Python float in that range"),
    (lambda: draw_delays("workers", 5, 1e9, 2), "mean=1000000000.0; must be a number >= 0; use at most 1e+06"),
    (lambda: draw_delays("constant", 10 ** 12, 1, 2), "steps=1000000000000; must be an int >= 1; use at most "
     "2147483647"),
    (lambda: draw_delays("constant", 5, 1, -2), "longest=-2; must be an int >= 0; use 0 for no delay"),
    (lambda: Lookahead(base(), 0), "k=0; must be an int >= 1; use 5 as published"),
    (lambda: Lookahead(base(), 5, 1.5), "alpha=1.5; must be at most 1; use 0.5 as published"),
    (lambda: Lookahead(base(), 5, 0), "alpha=0; must be a number > 0; give a Python float in that range"),
    (lambda: RAdam(parameters(), 0.1, eps=0), "eps=0; must be a number > 0; give a Python float in that range"),
    (lambda: Heun(parameters(), 0.1, -1), "momentum=-1; must be a number >= 0; give a Python float in that range"),
    (lambda: Heun([{"params": parameters(), "lr": -0.1}], 0.2), "params[0].lr=-0.1; must be a finite non-negative "
     "float or a 1-D array of them, one a step; check the schedule it comes from"),
    (lambda: RAdam([{"params": []}], 0.2), "params[0].params=[]; must have a trainable parameter; remove the group or "
     "fill it"),
    (lambda: RAdam([{"params": parameters()}, {"order_params": parameters()}], 0.2), "order_params in params has 1 "
     "parameters; must be the 1 of the groups, each once; use net.trainable_params()"),
    (lambda: RAdam([{"params": ["w"]}], 0.2), "params[0].params has 'w'; must be parameters; write [{\"params\": "
     "[net.fc.weight], \"lr\": 0.01}]"),
    (lambda: DCASGD(parameters(), 0.1, weight_decay=-1), "weight_decay=-1.0; must be a finite non-negative float or a "
     "1-D array of them, one a step; check the schedule it comes from"),
    (lambda: DCASGD(parameters(), 0.1, -0.1), "compensation=-0.1; must be a number >= 0; give a Python float in that "
     "range"),
    (lambda: DCASGD(parameters(), 0.1, decay=1), "decay=1; must be below 1; use 0.95 as published"),
    (lambda: DCASGD(parameters(), 0.1, delays=[1, -1]), "delays=[1, -1]; must be an int >= 0 or a sequence of them, "
     "one a step; use draw_delays"),
    (lambda: DCASGD(parameters(), 0.1, delays=10 ** 9), "delays has 1000000000; must be at most 1000, each keeps a "
     "copy of the weights; use draw_delays with a smaller longest"),
    (lambda: DCASGD(parameters(), 0.1, delays=1.5), "delays=1.5; must be an int >= 0 or a sequence of them, one a "
     "step; use draw_delays"),
])
def test_values_out_of_range_are_refused(build, expected):
    with pytest.raises(ValueError) as raised:
        build()
    assert str(raised.value) == expected


@pytest.mark.parametrize("build, expected", [
    (lambda: Lookahead(Lookahead(base())), "base=Lookahead; must be an optimizer other than Lookahead; give e.g. "
     "nn.Momentum(...)"),
    (lambda: Lookahead(nn.ReLU()), "base=ReLU; must be an optimizer other than Lookahead; give e.g. nn.Momentum(...)"),
    (lambda: DCASGD(parameters(), 0.1, adaptive=1), "adaptive=1; must be a bool; use True or False"),
])
def test_values_of_another_type_are_refused(build, expected):
    with pytest.raises(TypeError) as raised:
        build()
    assert str(raised.value) == expected
