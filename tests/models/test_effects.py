"""What a configuration accepts has its effect: another value of a setting an optimizer reads trains other weights."""
from __future__ import annotations

import functools

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn

from models.config import load_config
from models.config.companions import OPTIMIZERS, base_of, slow_weights
from models.config.readers import OPTIMIZER_READERS
from models.optimizers import create_optimizer
from thor.train import make_train_step

# Another value of each setting, and what is set in both runs, besides COMMON, so that it matters there.
OTHER = {
    "groups=[{match: fc, lr_factor: 3}]": (),
    "momentum=0.5": (), "nesterov=true": (), "decay_filter=no_bias_norm": (),
    "beta1=0.5": (), "beta2=0.5": (), "epsilon=0.1": (), "lars_coefficient=0.5": (), "damping.initial=0.5": (),
    "damping={schedule: thor, decay: 1.0e-9}": (), "clip=true": (), "frequency=2": (), "split_dim=3": (),
    "running_average=0.7": (), "graft=sgd": (), "kl_clip=1.0e-9": (), "pi_correction=true": (), "fold_bias=true": (),
    "batchnorm_blocks=true": (), "rule=adamw": (), "relative_damping=true": (), "rule=normalized": (),
    "precision=bfloat16": (), "compensation.strength=3": (), "compensation.adaptive=true": (),
    "compensation={adaptive: true, decay: 0.1}": ("compensation.adaptive=true",),
    "delay.distribution=poisson": (), "delay.mean=3": (), "delay.longest=1": ()}
OF_RULE = ("rule=adamw",)  # reads beta2
OF_ALL = {"weight_decay=0.1": (), "clip_norm=0.05": (), "learning_rate.initial=0.03": ()}
OF_SLOW = {"lookahead.steps=3": (), "lookahead.alpha=0.9": ()}
OF_CURVATURE = {"curvature.update={policy: growing, intervals: [[0, 2]], unit: step}": ("optimizer.frequency=1",),
                "curvature.subsample=2": ()}
# What every run of an optimizer that reads the setting is given.
COMMON = {"momentum": "momentum=0.9", "nesterov": "nesterov=false", "decay_filter": "weight_decay=0.5",
          "frequency": "frequency=1", "running_average": "running_average=0.2",
          "pi_correction": "pi_correction=false", "batchnorm_blocks": "batchnorm_blocks=false",
          "delay": "delay={distribution: uniform, mean: 1.5, longest: 3}"}
STEPS = 4  # within which weights differ
LONG = {"radam": 7, "ranger": 7, "dcasgd": 7}  # RAdam rectifies from the sixth step on; gradients grow old
QUICK = ("momentum", "adam")
# Settings of the other: what they read, it reads.
SAME = {"thor_robust": "thor", "kfac": "thor", "spngd": "thor", "ranger": "radam"}


def pairs():
    for name in OPTIMIZERS:
        for word in OTHER if name not in SAME else ():
            elsewhere = word.startswith("groups") and name not in ("thor", *QUICK)  # see test_parameter_groups
            if name in OPTIMIZER_READERS[word.partition("=")[0].partition(".")[0]] and not elsewhere:
                yield name, word, OF_RULE if (name, word) == ("thor", "beta2=0.5") else OTHER[word]
        for word, both in OF_ALL.items() if name in ("thor", "heun", *QUICK) else ():  # and test_clipping
            yield name, word, both
    for name in ("ranger", "lookahead(momentum)"):
        for word, both in OF_SLOW.items():
            yield name, word, both


def common(name):
    """What every run of an optimizer is given, so that most of its cases differ from one run."""
    words = [word for setting, word in COMMON.items() if base_of(name) in OPTIMIZER_READERS[setting]]
    return [*words, *["lookahead.steps=2"] * slow_weights(name)]


def case(name, word, both):
    marks = [] if name in QUICK else [pytest.mark.slow]
    return pytest.param(name, word, both, marks=marks, id=f"{name}-{word.partition(':')[0]}")


class Net(nn.Cell):
    def __init__(self):
        super().__init__()
        random = np.random.default_rng(8)
        self.first, self.norm, self.fc = nn.Dense(5, 4, activation="tanh"), nn.BatchNorm1d(4), nn.Dense(4, 3)
        for parameter in self.trainable_params():
            parameter.set_data(Tensor(random.normal(0.3, 0.5, parameter.shape).astype(np.float32)))

    def construct(self, x):
        return self.fc(self.norm(self.first(x)))


class Training:
    """A run of some words of the command line; a step is taken when its weights are asked for."""

    def __init__(self, words):
        base = ["--optimizer.learning_rate={schedule: constant, initial: 0.05}", "--data.batch_size=8",
                "--train.epochs=1"]
        config = load_config(None, [*base, *(f"--{word}" for word in words)])
        self.network, self.random, self.weights = Net(), np.random.default_rng(1), []
        self.steps = LONG.get(config.optimizer.name, STEPS)
        optimizer = create_optimizer(config, self.network, self.steps)
        self.step = make_train_step(nn.WithLossCell(self.network, nn.CrossEntropyLoss()), optimizer)

    def after(self, number):
        """All weights after this step, ``(n,)``."""
        while len(self.weights) < number:
            labels = Tensor(self.random.integers(0, 3, 8), ms.int32)
            self.step(Tensor(self.random.standard_normal((8, 5)), ms.float32), labels)
            self.weights.append(np.concatenate([p.asnumpy().ravel() for p in self.network.trainable_params()]))
        return self.weights[number - 1]


@functools.cache
def training(*words):
    """The run of these words, the same one for every case that asks."""
    return Training(words)


def assert_differ(first, second):
    """The weights of two runs differ after one of their steps."""
    for number in range(1, first.steps + 1):
        weights, others = first.after(number), second.after(number)
        assert np.isfinite(weights).all() and np.isfinite(others).all()
        if np.abs(weights - others).max() > 1e-6:
            return
    raise AssertionError(f"the same weights after {first.steps} steps")


def test_there_is_a_case_for_every_setting_of_the_table_that_changes_weights():
    named = {word.partition("=")[0].partition(".")[0] for word in OTHER}
    assert set(OPTIMIZER_READERS) - named == {"split_indices"}  # cuts of reductions: time, not values


@pytest.mark.usefixtures("pynative")
@pytest.mark.parametrize("name, word, both", [case(*pair) for pair in pairs()])
def test_another_value_trains_other_weights(name, word, both):
    words = (f"optimizer.name={name}", *(f"optimizer.{other}" for other in (*common(name), *both)))
    assert_differ(training(*words), training(*words, f"optimizer.{word}"))


@pytest.mark.slow
@pytest.mark.usefixtures("pynative")
@pytest.mark.parametrize("word, both", OF_CURVATURE.items())
def test_another_curvature_trains_other_weights(word, both):
    assert_differ(training(*both), training(word))
