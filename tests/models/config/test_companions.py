"""Settings that come with an optimizer's name, and how they reach the companions."""
from __future__ import annotations

import inspect

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn

from models.config import ConfigError, dump_config, load_config
from models.config.companions import PRESETS
from models.optimizers import create_optimizer
from thor import companions
from thor.companions import draw_delays


def configure(*words):
    return load_config(None, [f"--optimizer.{word}" for word in words])


def created(*words, steps=6):
    ms.set_seed(1)
    return create_optimizer(configure("learning_rate={schedule: constant, initial: 0.1}", *words), nn.Dense(3, 2),
                            steps // 2 if steps > 2 else steps)


def test_a_name_sets_what_the_file_does_not_say():
    options = configure("name=kfac").optimizer
    assert (options.split_dim, options.pi_correction, options.running_average) == (None, True, 0.95)
    assert options.frequency == 10
    options = configure("name=spngd").optimizer
    assert (options.split_dim, options.batchnorm_blocks, options.running_average) == (None, True, 0.0)
    assert configure("name=spngd").curvature.update.policy == "frobenius"
    assert configure("name=kfac").curvature.update.policy == "fixed"
    options = configure("name=ranger").optimizer
    assert (options.beta1, options.epsilon, options.lookahead.steps, options.lookahead.alpha) == (0.95, 1e-5, 6, 0.5)
    assert configure("name=dcasgd").optimizer.momentum == configure("name=heun").optimizer.momentum == 0
    assert configure("name=lookahead(kfac)").optimizer.split_dim is None
    assert configure("name=lookahead(momentum)").optimizer.momentum == 0.9


def test_what_the_file_says_wins(tmp_path):
    options = configure("name=lookahead(kfac)", "split_dim=64", "lookahead={alpha: 0.8}").optimizer
    assert (options.split_dim, options.pi_correction, options.lookahead.alpha) == (64, True, 0.8)
    options = configure("name=ranger", "lookahead.steps=3").optimizer
    assert (options.lookahead.steps, options.lookahead.alpha) == (3, 0.5)
    config = load_config(None, ["--optimizer.name=SPNGD", "--curvature.update={policy: fixed}"])
    assert (config.curvature.update.policy, config.optimizer.split_dim) == ("fixed", None)
    (tmp_path / "base.yaml").write_text("optimizer: {name: thor, frequency: 7}")
    (tmp_path / "own.yaml").write_text("extends: base.yaml\noptimizer: {name: KFAC}")
    options = load_config(tmp_path / "own.yaml").optimizer
    assert (options.name, options.frequency, options.split_dim) == ("kfac", 7, None)


@pytest.mark.parametrize("name", ["kfac", "spngd", "ranger", "lookahead(thor)", "dcasgd"])
def test_resolved_settings_survive_a_dump(name, tmp_path):
    config = configure(f"name={name}", "clip_norm=3")
    (tmp_path / "config.yaml").write_text(dump_config(config))
    assert load_config(tmp_path / "config.yaml") == config


@pytest.mark.parametrize("name", ["kfac", "spngd"])
def test_the_names_set_what_the_functions_have_as_defaults(name):
    sections = PRESETS[name]
    settings = {**sections["optimizer"], **sections.get("curvature", {}).get("update", {})}
    assert settings.pop("policy", "fixed") == {"kfac": "fixed", "spngd": "frobenius"}[name]
    parameters = inspect.signature(getattr(companions, name)).parameters
    assert {key: parameters[key].default for key in settings} == settings


def test_ranger_of_the_config_is_that_of_the_function():
    signature = inspect.signature(companions.ranger).parameters
    assert PRESETS["ranger"]["optimizer"] == {"beta1": signature["beta1"].default, "epsilon": signature["eps"].default,
                                              "lookahead": {"steps": signature["k"].default,
                                                            "alpha": signature["alpha"].default}}


@pytest.mark.parametrize("name, base, second_order", [
    ("thor", "thor", True), ("spngd", "spngd", True), ("ranger", "radam", False), ("adam", "adam", False),
    ("LookAhead( LAMB )", "lamb", False), ("lookahead(kfac)", "kfac", True)])
def test_the_base_of_a_name(name, base, second_order):
    options = configure(f"name={name}").optimizer
    assert (options.base, options.second_order) == (base, second_order)


def test_spelling_is_unified_and_slow_weights_of_slow_weights_are_refused():
    assert configure("name=LookAhead( LAMB )").optimizer.name == "lookahead(lamb)"
    for name, hint in (("lookahead(ranger)", ""), ("lookahead(lookahead(adam))", ""), ("lookahead(adm)", "adam")):
        with pytest.raises(ConfigError) as raised:
            configure(f"name={name}")
        assert str(raised.value).endswith("or lookahead(one of them)" + (f"; did you mean {hint}?" if hint else ""))


def test_lookahead_settings_reach_the_optimizer():
    optimizer = created("name=lookahead(adam)", "lookahead={steps: 4, alpha: 0.7}")
    assert (type(optimizer.base), optimizer.k, optimizer.alpha) == (nn.Adam, 4, 0.7)


def test_dcasgd_settings_reach_the_optimizer():
    optimizer = created("name=dcasgd", "compensation={strength: 2, adaptive: true, decay: 0.9}",
                        "delay={distribution: workers, mean: 3, longest: 5}", "momentum=0.5")
    assert (float(optimizer.strength), optimizer.adaptive, optimizer.compensates) == (2, True, True)
    assert (float(optimizer.decay), float(optimizer.momentum)) == (np.float32(0.9), 0.5)
    expected = draw_delays("workers", 30, 3, 5, seed=1)  # ten epochs, by default, of three batches
    np.testing.assert_array_equal(optimizer.history.delays.asnumpy(), expected)
    assert not created("name=dcasgd", "compensation.strength=0").compensates
