"""optimizer.groups: what a configuration says of groups, and what their parameters do in a step."""
from __future__ import annotations

import re
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn

from models.config import ConfigError, OptimizerConfig, dump_config, load_config
from models.optimizers import create_optimizer

DECAY, RATE = 0.5, 0.1
GROUPS = "[{match: 'fc', lr_factor: 3}, {match: 'conv|fc', weight_decay: 0.2}, {match: beta, lr_factor: 0, " \
         "weight_decay: 1}]"
# learning rate and weight decay by parameter; the first expression found in a name decides
EXPECTED = {"conv.weight": (RATE, 0.2), "conv.bias": (RATE, 0.2), "norm.gamma": (RATE, DECAY), "norm.beta": (0.0, 1.0),
            "fc.weight": (3 * RATE, DECAY), "fc.bias": (3 * RATE, DECAY)}


class Net(nn.Cell):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, has_bias=True)
        self.norm = nn.BatchNorm2d(4)
        self.fc = nn.Dense(64, 3)
        for parameter in self.trainable_params():
            parameter.set_data(ms.Tensor(np.full(parameter.shape, 2.0), ms.float32))


def configure(**settings):
    return load_config(None, [f"--optimizer.{name}={value}" for name, value in settings.items()])


def moved(config):
    """What a step without gradients adds to each parameter."""
    net = Net()
    optimizer = create_optimizer(config, net, 4)
    for _ in range(2 if config.optimizer.name == "heun" else 1):
        optimizer(tuple(ms.ops.zeros_like(p) for p in optimizer.parameters))
    return {p.name: p.asnumpy() - 2.0 for p in net.trainable_params()}


@pytest.mark.parametrize("name", ["thor", "kfac", "momentum", "sgd", "radam", "dcasgd", "adamw", "ranger",
                                  "lookahead(momentum)"])
@pytest.mark.parametrize("decay_filter", ["all", "no_bias_norm"])
def test_a_step_without_gradients_decays_each_parameter_at_its_rate(pynative, name, decay_filter):
    """With a gradient of zero a step is ``-lr wd w``; RAdam divides nothing yet in its first."""
    config = configure(name=name, weight_decay=DECAY, groups=GROUPS, decay_filter=decay_filter,
                       learning_rate=f"{{schedule: constant, initial: {RATE}}}")
    for parameter, change in moved(config).items():
        rate, decay = EXPECTED[parameter]
        exempt = decay_filter == "no_bias_norm" and not parameter.endswith("weight")
        wanted = 0.0 if exempt else -rate * decay * 2.0
        np.testing.assert_allclose(change, np.full_like(change, wanted), rtol=1e-5, atol=1e-7, err_msg=parameter)


def test_heun_takes_its_second_decay_halfway(pynative):
    config = configure(name="heun", weight_decay=DECAY, groups=GROUPS,
                       learning_rate=f"{{schedule: constant, initial: {RATE}}}")
    for parameter, change in moved(config).items():
        rate, decay = EXPECTED[parameter]
        wanted = -rate * (decay * 2.0 + decay * (2.0 - rate * decay * 2.0)) / 2
        np.testing.assert_allclose(change, np.full_like(change, wanted), rtol=1e-5, atol=1e-7, err_msg=parameter)


def test_the_factor_is_that_of_every_step(pynative):
    config = configure(name="thor", groups="[{match: '^fc', lr_factor: 0.5}]",
                       learning_rate="{schedule: cosine, initial: 0.2}")
    net = Net()
    optimizer = create_optimizer(config, net, 4)
    for _ in range(3):
        own, grouped = (float(optimizer.get_lr()[i].asnumpy()) for i in (0, 4))
        assert grouped == pytest.approx(own / 2)
        optimizer(tuple(ms.ops.zeros_like(p) for p in optimizer.parameters))
    assert 0 < own < 0.2


def test_rates_and_decays_are_read_through_a_clipped_optimizer(pynative):
    net = Net()
    optimizer = create_optimizer(configure(name="momentum", groups=GROUPS, weight_decay=DECAY, clip_norm=2,
                                           learning_rate=f"{{schedule: constant, initial: {RATE}}}"), net, 4)
    rates = {p.name: float(value.asnumpy()) for p, value in zip(optimizer.parameters, optimizer.get_lr())}
    read = {p.name: float(value.asnumpy()) for p, value in zip(optimizer.parameters, optimizer.get_weight_decay())}
    assert rates == pytest.approx({name: rate for name, (rate, _) in EXPECTED.items()})
    assert read == pytest.approx({name: decay for name, (_, decay) in EXPECTED.items()})
    assert optimizer.is_group_lr and not isinstance(optimizer.get_lr_parameter(net.fc.bias), list)


def test_a_filter_that_leaves_nothing_to_decay(pynative):
    net = nn.LayerNorm((3,))
    config = configure(name="momentum", weight_decay=DECAY, decay_filter="no_bias_norm")
    optimizer = create_optimizer(config, net, 4)
    optimizer(tuple(ms.ops.zeros_like(p) for p in optimizer.parameters))
    np.testing.assert_array_equal(net.gamma.asnumpy(), np.ones(3))


def test_groups_are_written_and_read_back(tmp_path):
    config = configure(groups=GROUPS)
    assert config.optimizer.groups == ({"match": "fc", "lr_factor": 3.0}, {"match": "conv|fc", "weight_decay": 0.2},
                                       {"match": "beta", "lr_factor": 0.0, "weight_decay": 1.0})
    (tmp_path / "config.yaml").write_text(dump_config(config), encoding="utf-8")
    assert load_config(tmp_path / "config.yaml") == config


def test_the_example_of_the_documents_is_taken(tmp_path):
    text = (Path(__file__).parents[2] / "docs" / "training.md").read_text(encoding="utf-8")
    example = re.search(r"^```yaml\n(optimizer:\n  groups:\n.*?)^```$", text, re.MULTILINE | re.DOTALL)[1]
    (tmp_path / "config.yaml").write_text(example, encoding="utf-8")
    groups = load_config(tmp_path / "config.yaml").optimizer.groups
    assert [sorted(group) for group in groups] == [["match", "weight_decay"], ["lr_factor", "match", "weight_decay"]]


ANY = "must be a list of {match, lr_factor, weight_decay}"


@pytest.mark.parametrize("groups, message", [
    (3, f"groups=3; {ANY}; write [{{match: bias, weight_decay: 0}}]"),
    ([3], f"groups=[3]; {ANY}; write [{{match: bias, weight_decay: 0}}]"),
    ([{"match": "a", "lr": 1}], f"{ANY}; remove lr, a group has match, lr_factor and weight_decay"),
    ([{"lr_factor": 1}], f"{ANY}; give each group a regular expression match, in quotes"),
    ([{"match": "(", "lr_factor": 1}], f"{ANY}; correct the regular expression '(': missing )"),
    ([{"match": "a"}], f"{ANY}; give the group of 'a' lr_factor or weight_decay"),
    ([{"match": "a", "lr_factor": -1}], f"{ANY}; make lr_factor a number >= 0"),
    ([{"match": "a", "weight_decay": "no"}], f"{ANY}; make weight_decay a number >= 0"),
], ids=str)
def test_what_is_refused(groups, message):
    with pytest.raises(ConfigError) as raised:
        OptimizerConfig(groups=groups)
    assert message in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["lars", "lamb", "lookahead(lamb)"])
def test_layerwise_optimizers_refuse_groups(name):
    with pytest.raises(ConfigError) as raised:
        configure(name=name, groups="[{match: fc, lr_factor: 2}]")
    assert f"must be left out with optimizer.name={name}; only thor, thor_robust, kfac, spngd, momentum, sgd, adam, " \
        "adamw, radam, muon, shampoo, soap, heun, dcasgd and ranger read it" in str(raised.value)


@pytest.mark.parametrize("name", ["thor", "momentum"])
def test_a_group_without_parameters_is_refused(name):
    config = configure(name=name, groups="[{match: conv, lr_factor: 2}, {match: conv.bias, lr_factor: 3}]")
    with pytest.raises(ConfigError) as raised:
        create_optimizer(config, Net(), 4)
    assert str(raised.value) == (
        "optimizer.groups='conv.bias'; must be an expression found in the name of a trainable parameter that no group "
        "before matches; see the names in parameters.txt of a run of THOR")
