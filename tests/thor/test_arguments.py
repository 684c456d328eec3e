"""Every argument check of THOR: the message names the argument, its value and the remedy."""
from __future__ import annotations

import inspect
import logging
import os
import subprocess
import sys
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn

import thor
from thor import THOR
from thor.checks import number
from thor.distribution import check_split_indices
from thor.schedules import by_step

REQUIRED = {"learning_rate": 0.1, "damping": 0.1, "momentum": 0.9}
WRONG = [
    ("learning_rate", "0.1", TypeError, "learning_rate='0.1'; must be a finite non-negative float or a 1-D"),
    ("learning_rate", None, TypeError, "learning_rate=None; must be a finite non-negative float"),
    ("learning_rate", True, TypeError, "learning_rate=True; must be a finite non-negative float"),
    ("learning_rate", ["a"], TypeError, r"learning_rate=\['a'\]; must be .*; give a number, list, array"),
    ("learning_rate", -0.5, ValueError, "learning_rate=-0.5; must be .* non-negative .*; check the schedule"),
    ("learning_rate", [0.1, float("nan")], ValueError, "learning_rate=nan; must be a finite"),
    ("learning_rate", Tensor([0.1, np.inf], ms.float32), ValueError, "learning_rate=inf; must be a finite"),
    ("learning_rate", [], ValueError, r"learning_rate has shape \(0,\); must be .*; flatten it"),
    ("learning_rate", np.ones((2, 3)), ValueError, r"learning_rate has shape \(2, 3\); .*; flatten it"),
    ("damping", None, TypeError, "damping=None; must be a finite positive float"),
    ("damping", 0.0, ValueError, "damping=0.0; must be a finite positive float"),
    ("damping", [0.0, 0.0], ValueError, "damping=0.0; must be a finite positive .*; check the schedule"),
    ("damping", [0.1, 0.0, 0.1], ValueError, "damping=0.0; must be a finite positive .*; check the schedule"),
    ("learning_rate", 1e39, ValueError, "learning_rate=1e[+]39; must be a finite non-negative float or a 1-D array of "
     "them, one a step; float32 rounds it to inf, use a number it can hold$"),
    ("learning_rate", [0.1, 1e39], ValueError, "learning_rate=1e[+]39; .*; float32 rounds it to inf, use"),
    ("learning_rate", 1e-46, ValueError, "learning_rate=1e-46; .*; float32 rounds it to 0, use a number it can hold$"),
    ("learning_rate", 10 ** 400, ValueError, "learning_rate=1000.* characters[)]; .*; give a number, list"),
    ("damping", 1e-46, ValueError, "damping=1e-46; must be a finite positive float or a 1-D array of them, one a step; "
     "float32 rounds it to 0, use a number it can hold$"),
    ("damping", np.float64([1e-46, 0.1]), ValueError, "damping=1e-46; .*; float32 rounds it to 0, use a number"),
    ("damping", 1e39, ValueError, "damping=1e[+]39; must be .*; float32 rounds it to inf, use a number it can hold$"),
    ("damping", -0.1, ValueError, "damping=-0.1; must be a finite positive .*; check the schedule it comes from$"),
    ("weight_decay", 1e39, ValueError, "weight_decay=1e[+]39; .*; float32 rounds it to inf, use a number it can hold$"),
    ("weight_decay", 1e-46, ValueError, "weight_decay=1e-46; .*; float32 rounds it to 0, use a number it can hold$"),
    ("momentum", 1e39, ValueError, "momentum=1e[+]39; must be a number >= 0; float32 rounds it to inf, use a number "
     "it can hold$"),
    ("momentum", "0.9" * 99, TypeError, "momentum='0.9.*[.][.][.] [(]299 characters[)]; must be a number >= 0; give"),
    ("loss_scale", 1e39, ValueError, "loss_scale=1e[+]39; must be a number > 0; float32 rounds it to inf, use a number "
     "it can hold$"),
    ("loss_scale", 1e-46, ValueError, "loss_scale=1e-46; must be a number > 0; float32 rounds it to 0, use a number "
     "it can hold$"),
    ("running_average", 1 - 1e-9, ValueError, "running_average=0.999999999; .*; float32 rounds it to 1, use a number"),
    ("frequency", 2 ** 31, ValueError, "frequency=2147483648; must be an int >= 1; use at most 2147483647$"),
    ("split_dim", 10 ** 12, ValueError, "split_dim=1000000000000; must be an int >= 1 or None; use at most 2147483647"),
    ("momentum", "0.9", TypeError, "momentum='0.9'; must be a number >= 0; give a Python float"),
    ("momentum", True, TypeError, "momentum=True; must be a number >= 0"),
    ("momentum", -0.1, ValueError, "momentum=-0.1; must be a number >= 0; give a Python float in that range"),
    ("momentum", float("nan"), ValueError, "momentum=nan; must be a number >= 0"),
    ("weight_decay", None, TypeError, "weight_decay=None; must be a finite non-negative float or a 1-D"),
    ("weight_decay", -1e-4, ValueError, "weight_decay=-0.0001; must be .* non-negative .*; check the schedule"),
    ("loss_scale", "128", TypeError, "loss_scale='128'; must be a number > 0"),
    ("loss_scale", 0.0, ValueError, "loss_scale=0.0; must be a number > 0"),
    ("loss_scale", float("inf"), ValueError, "loss_scale=inf; must be a number > 0"),
    ("batch_size", 0, ValueError, "batch_size=0; must be an int >= 1; give the number of samples"),
    ("batch_size", 3.5, ValueError, "batch_size=3.5; must be an int >= 1"),
    ("batch_size", True, ValueError, "batch_size=True; must be an int >= 1"),
    ("use_nesterov", 1, TypeError, "use_nesterov=1; must be a bool; use True or False"),
    ("decay_filter", None, TypeError, "decay_filter=None; must be a function of a Parameter; return True"),
    ("split_indices", 3, TypeError, "split_indices=3; must be a list of ints or None"),
    ("split_indices", [0.0], TypeError, r"split_indices=\[0.0\]; must be a list of ints"),
    ("split_indices", [-1], ValueError, r"split_indices=\[-1\]; must ascend strictly from >= 0; sort it"),
    ("split_indices", [0, 0], ValueError, r"split_indices=\[0, 0\]; must ascend strictly"),
    ("enable_clip_grad", None, TypeError, "enable_clip_grad=None; must be a bool"),
    ("frequency", 0, ValueError, "frequency=0; must be an int >= 1; use 1 to refresh curvature every step"),
    ("frequency", True, TypeError, "frequency=True; must be an int >= 1"),
    ("frequency", 10.0, TypeError, "frequency=10.0; must be an int >= 1"),
    ("split_dim", 0, ValueError, "split_dim=0; must be an int >= 1 or None; use 128 for the published"),
    ("split_dim", 12.5, ValueError, "split_dim=12.5; must be an int >= 1 or None"),
    ("running_average", 1.0, ValueError, r"running_average=1.0; must be a float in \[0, 1\); use 0.0"),
    ("running_average", -0.1, ValueError, "running_average=-0.1; must be a float"),
    ("running_average", "0.9", ValueError, "running_average='0.9'; must be a float"),
    ("relative_damping", None, TypeError, "relative_damping=None; must be a bool; use True or False"),
    ("pi_correction", 1, TypeError, "pi_correction=1; must be a bool; use True or False"),
    ("fold_bias", "yes", TypeError, "fold_bias='yes'; must be a bool"),
    ("batchnorm_blocks", None, TypeError, "batchnorm_blocks=None; must be a bool"),
    ("precision", "half", ValueError, "precision='half'; must be one of auto, float32, bfloat16, float16"),
    ("precision", "float16", ValueError, "precision='float16'; must be float32, bfloat16 or auto on CPU; use auto"),
]


def network():
    return nn.SequentialCell(nn.Dense(2, 2), nn.Dense(2, 2))


@pytest.mark.parametrize("name, value, error, message", WRONG, ids=[f"{w[0]}={w[1]!r}"[:40] for w in WRONG])
def test_wrong_arguments_are_refused(name, value, error, message):
    with pytest.raises(error, match="^" + message) as raised:
        THOR(network(), **{**REQUIRED, name: value})
    assert "\n" not in str(raised.value)


def test_two_ways_to_share_damping_are_one_too_many():
    with pytest.raises(ValueError) as raised:
        THOR(network(), **REQUIRED, pi_correction=True, relative_damping=True)
    assert str(raised.value) == "pi_correction=True; must be False with relative_damping=True; use one of the two"


def test_a_refused_argument_leaves_the_network_as_it_was():
    for wrong in ({"frequency": 0}, {"decay_filter": 3}, {"running_average": 2.0}):
        net = network()
        with pytest.raises((TypeError, ValueError)):
            THOR(net, **REQUIRED, **wrong)
        assert [p.name for p in net.trainable_params()] == ["0.weight", "0.bias", "1.weight", "1.bias"]


@pytest.mark.parametrize("arguments", [
    {"momentum": 0}, {"momentum": np.float32(0.9)}, {"loss_scale": 128}, {"weight_decay": 0},
    {"weight_decay": [0.1, 0.0]}, {"groups": None},
    {"frequency": 1}, {"frequency": np.int64(7)}, {"split_indices": [0, 1]}, {"split_indices": (1,)},
    {"split_indices": []}, {"batch_size": 32.0}, {"split_dim": None},
    {"learning_rate": 0}, {"damping": Tensor(np.float64([0.1, 0.2]))}, {"running_average": 0},
], ids=str)
def test_reasonable_arguments_are_taken(arguments):
    optimizer = THOR(network(), **{**REQUIRED, **arguments})
    assert optimizer.get_frequency() == arguments.get("frequency", 100)


def test_frequency_can_be_set_before_training():
    optimizer = THOR(network(), **REQUIRED)
    optimizer.set_frequency(7)
    assert optimizer.get_frequency() == 7
    with pytest.raises(ValueError, match="^frequency=0; must be an int >= 1; use 1"):
        optimizer.set_frequency(0)


def test_a_network_without_trainable_parameters_is_refused():
    net = nn.Dense(2, 2)
    net.weight.requires_grad = net.bias.requires_grad = False
    with pytest.raises(ValueError, match="^net=Dense has no trainable parameter; .*; set requires_grad=True"):
        THOR(net, **REQUIRED)


def test_split_indices_are_plain_ints():
    assert check_split_indices([np.int64(0), 3], 4) == (0, 3)
    assert check_split_indices(None, 4) is None and check_split_indices([], 4) is None


def test_split_indices_beyond_the_layers_are_dropped_with_a_warning(caplog):
    with caplog.at_level(logging.WARNING, "thor"):
        assert check_split_indices([1, 26, 53], 4) == (1,)
        assert check_split_indices([26, 53], 4) is None
    assert [record.getMessage() for record in caplog.records] == [
        "split_indices=[1, 26, 53]: 26, 53 beyond the 4 layers with factors dropped",
        "split_indices=[26, 53]: 26, 53 beyond the 4 layers with factors dropped"]


def test_a_damping_that_reaches_zero_holds_its_last_positive_value(caplog):
    with caplog.at_level(logging.WARNING, "thor"):
        schedule = by_step("damping", [0.2, 0.1, 0.0, 0.0], positive=True)
    assert [float(schedule(Tensor([step], ms.int32)).asnumpy()) for step in range(6)] == pytest.approx(
        [0.2, 0.1, 0.1, 0.1, 0.1, 0.1])
    assert caplog.records[0].getMessage() == "damping reaches 0 at step 2; it stays at 0.1 from there"


def test_the_end_of_a_schedule_may_be_too_small_for_float32():
    schedule = by_step("learning_rate", [0.5, 1e-50], positive=False)
    assert [float(schedule(Tensor([step], ms.int32)).asnumpy()) for step in range(3)] == [0.5, 0, 0]
    held = by_step("damping", [0.5, 1e-50], positive=True)
    assert [float(held(Tensor([step], ms.int32)).asnumpy()) for step in range(3)] == [0.5, 0.5, 0.5]


@pytest.mark.parametrize("value", [3.4028234e38, 1.5e-45, 1.18e-38, 0.0])
def test_numbers_that_float32_holds_are_taken(value):
    assert number(minimum=0).parse(value) == value
    assert by_step("learning_rate", value, positive=False) is not None


def test_ints_that_python_does_not_write_out_are_refused_in_one_line():
    with pytest.raises(ValueError, match="^momentum=an int of too many digits; must be a number >= 0; float32 rounds "
                                         "it to inf, use a number it can hold$"):
        THOR(network(), **{**REQUIRED, "momentum": 10 ** 5000})


def test_positional_arguments_are_those_of_mindspore():
    theirs = inspect.signature(nn.thor).parameters
    ours = inspect.signature(thor.thor).parameters
    assert list(ours)[:len(theirs)] == list(theirs)
    defaults = {name: p.default for name, p in theirs.items() if name != "decay_filter"}
    assert {name: ours[name].default for name in defaults} == defaults
    positional = [name for name, p in inspect.signature(THOR).parameters.items()
                  if p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
    assert positional == list(theirs)


def test_thor_function_passes_everything_on(monkeypatch):
    signature = inspect.signature(THOR)
    monkeypatch.setattr("thor.optimizer.THOR", lambda *args, **more: signature.bind(*args, **more).arguments)
    given = {name: object() for name in signature.parameters}
    positional = list(inspect.signature(nn.thor).parameters)
    options = {name: value for name, value in given.items() if name not in positional}
    assert thor.thor(*[given[name] for name in positional], **options) == given


def test_import_is_light():
    code = ("import sys, mindspore; before = set(sys.modules); import thor; "
            "print(*sorted({name.split('.')[0] for name in set(sys.modules) - before}))")
    root = str(Path(thor.__file__).parent.parent)
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                            env={**os.environ, "PYTHONPATH": root})
    loaded = result.stdout.split()
    assert "thor" in loaded
    assert not {"scipy", "matplotlib", "sklearn", "models", "tqdm"} & set(loaded)
