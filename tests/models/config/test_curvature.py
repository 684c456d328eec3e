"""curvature.update: which policy a configuration makes, at which steps, and what it refuses."""
from __future__ import annotations

import pytest

from models.config import Config, ConfigError, CurvatureConfig, OptimizerConfig, TrainConfig, UpdateConfig
from models.optimizers import update_policy
from thor.curvature import FrobeniusPolicy, TracePolicy, UpdatePolicy


def policy(accumulate_steps=1, **update):
    optimizer = OptimizerConfig() if "intervals" in update else OptimizerConfig(frequency=7)
    config = Config(optimizer=optimizer, curvature=CurvatureConfig(update=UpdateConfig(**update)),
                    train=TrainConfig(accumulate_steps=accumulate_steps, epochs=9))
    return update_policy(config, batches_per_epoch=30)


def test_fixed_is_the_frequency_of_the_optimizer():
    made = policy()
    assert type(made) is UpdatePolicy and made.segments == ((0, 7),)
    with pytest.raises(ConfigError) as raised:
        policy(intervals=[[0, 5]])
    assert str(raised.value) == ("curvature.update.intervals=((0, 5),); must be left out with curvature.update.policy="
                                 "fixed; only growing, trace and frobenius read it")


def test_growing_counts_epochs_or_steps():
    assert policy(policy="growing", intervals=[[0, 5], [1.5, 30]]).segments == ((0, 5), (45, 30))
    assert policy(policy="growing", intervals=[[0, 5], [40, 30]], unit="step").segments == ((0, 5), (40, 30))
    assert policy(policy="growing", intervals=[[0, 5], [2, 30]], accumulate_steps=2).segments == ((0, 5), (30, 30))


def test_rules_stand_on_either_interval():
    trace = policy(policy="trace", w1=0.2, w2=0.1)
    assert (type(trace), trace.segments, trace.w1, trace.w2) == (TracePolicy, ((0, 7),), 0.2, 0.1)
    frobenius = policy(policy="frobenius", alpha=0.3, intervals=[[0, 1], [1, 4]])
    assert (type(frobenius), frobenius.segments, frobenius.alpha) == (FrobeniusPolicy, ((0, 1), (30, 4)), 0.3)


@pytest.mark.parametrize("update, message", [
    ({"policy": "grow"}, "policy='grow'; must be one of fixed, growing, trace, frobenius; did you mean growing?"),
    ({"policy": "growing"}, "intervals=None; must be pairs [start, steps] with policy growing; use e.g. [[0, 50]"),
    ({"intervals": [[1, 5]]}, "must be a list of pairs [start, steps], starts ascending from 0"),
    ({"intervals": [[0, 5], [0, 6]]}, "starts ascending from 0"),
    ({"intervals": [[0, 0]]}, "steps ints >= 1"),
    ({"intervals": [[0, 5], [1.5, 6]], "unit": "step"}, "must be whole starts with unit step"),
    ({"w1": 0.1, "w2": 0.2}, "w2=0.2; must be <= w1, which is 0.1; use 0 to stop no layer"),
    ({"alpha": 0}, "alpha=0; must be a number > 0"),
])
def test_what_is_refused(update, message):
    with pytest.raises(ConfigError) as raised:
        UpdateConfig(**update)
    assert message in str(raised.value)
