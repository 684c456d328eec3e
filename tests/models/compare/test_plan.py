"""Comparison files and the settings drawn from them."""
from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models.compare.plan import read_comparison
from models.compare.search import Span, Values, draw
from models.config import ConfigError
from tests.helpers import CONFIGS

COMPARE = CONFIGS / "compare"
BASE = """
model: {name: convnet3}
train: {epochs: 3}
optimizer: {name: thor, weight_decay: 0.01}
"""
FILE = """
config: base.yaml
settings: {train.epochs: 2, optimizer.momentum: 0.5}
target: 0.9
optimizers:
  thor:
    ranges: {optimizer.learning_rate.initial: {low: 0.01, high: 1}, optimizer.damping.initial: [0.1, 0.2]}
  sync:
    settings: {optimizer.name: sgd, optimizer.momentum: 0.0}
    ranges: {optimizer.learning_rate.initial: {low: 1, high: 3, scale: linear}}
"""


@pytest.fixture
def write(tmp_path):
    (tmp_path / "base.yaml").write_text(BASE)

    def write(text: str, name: str = "compare.yaml") -> Path:
        (tmp_path / name).write_text(text)
        return tmp_path / name
    return write


def test_what_a_file_says_and_what_it_leaves_out(write):
    found = read_comparison(write(FILE))
    assert [entry.label for entry in found.entries] == ["thor", "sync"]
    assert (found.target, found.search, found.choose, found.budget, found.seeds) == (0.9, "random", "accuracy", 3, 3)
    assert found.entries[0].ranges == {"optimizer.learning_rate.initial": Span(0.01, 1.0),
                                       "optimizer.damping.initial": Values((0.1, 0.2))}
    assert found.entries[1].ranges["optimizer.learning_rate.initial"] == Span(1.0, 3.0, log=False)
    found = read_comparison(write(FILE), ["sync"], budget=5, seeds=1)
    assert ([entry.label for entry in found.entries], found.budget, found.seeds) == (["sync"], 5, 1)


def test_layers_of_a_runs_configuration(write):
    found = read_comparison(write(FILE))
    setting = {"optimizer.learning_rate.initial": 2.5}
    config = found.config_of(found.entries[1], setting, 7, ["--train.epochs", "4"])
    options = config.optimizer
    assert (options.name, options.momentum, options.weight_decay) == ("sgd", 0, 0.01)
    assert options.learning_rate.initial == 2.5
    assert (config.seed, config.train.epochs, config.model.name) == (7, 4, "convnet3")
    assert found.config_of(found.entries[0], {}, 1).optimizer.momentum == 0.5


def test_a_file_extends_another(write):
    write(FILE)
    own = "extends: compare.yaml\ntarget: 0.8\noptimizers: {thor: {ranges: {optimizer.clip: [true]}}}"
    path = write(own, "own.yaml")
    found = read_comparison(path)
    assert (found.target, [entry.label for entry in found.entries]) == (0.8, ["thor", "sync"])
    assert found.entries[0].ranges["optimizer.clip"] == Values((True,))
    assert len(found.entries[0].ranges) == 3


def test_a_grid_begins_with_the_usual_values_and_goes_on_with_their_neighbours():
    ranges = {"a": Values((1, 2, 3)), "b": Values((10, 20))}
    points = [tuple(point.values()) for point in draw(ranges, "grid", 6, 1)]
    assert points == [(1, 10), (1, 20), (2, 10), (2, 20), (3, 10), (3, 20)]
    assert draw(ranges, "grid", 2, 1) == [{"a": 1, "b": 10}, {"a": 1, "b": 20}]


def test_a_random_search_covers_the_ranges_and_a_longer_one_begins_with_the_shorter():
    ranges = {"a": Span(1e-4, 1.0), "b": Span(-1.0, 1.0, log=False), "c": Values(("x", "y"))}
    points = draw(ranges, "random", 64, 3)
    assert draw(ranges, "random", 5, 3) == points[:5]
    assert draw(ranges, "random", 5, 4) != points[:5]
    decades = np.floor(np.log10([point["a"] for point in points]))
    assert [int((decades == decade).sum()) for decade in (-4, -3, -2, -1)] == [16, 16, 16, 16]
    assert 31 <= sum(point["b"] < 0 for point in points) <= 33
    assert 28 <= sum(point["c"] == "x" for point in points) <= 36
    assert all(point["a"] == float(f"{point['a']:.3g}") for point in points)


def test_optimizers_are_searched_at_the_same_places():
    one, other = draw({"a": Span(1.0, 10.0)}, "random", 4, 1), draw({"b": Span(10.0, 100.0)}, "random", 4, 1)
    np.testing.assert_allclose([point["b"] for point in other], [10 * point["a"] for point in one], rtol=1e-9)


RANGES = "optimizers: {thor: {ranges: {optimizer.damping.initial: %s}}}"
HEAD = "config: base.yaml\ntarget: 0.9\n"


@pytest.mark.parametrize("text, expected", [
    ("target: 0.9\noptimizers: {}", "compare.yaml:1: config=None; must be the path of a file"),
    ("config: base.yaml\noptimizers: {}", "compare.yaml:1: target=None; must be a number"),
    (HEAD + "optimizers: {}", "compare.yaml:3: optimizers must name at least one optimizer with its ranges"),
    (HEAD + "optimizer: {}", "compare.yaml:3: unknown key optimizer; did you mean optimizers?"),
    (HEAD + "optimizers: {thor: {range: {}}}", "compare.yaml:3: unknown key range; did you mean ranges?"),
    (HEAD + "optimizers: {thor: {}}", "compare.yaml:3: thor: ranges must name at least one setting to search"),
    (HEAD + RANGES % "3", "compare.yaml:3: optimizer.damping.initial=3; must be a list of values, or {low: number, "
     "high: number} with low < high, above 0 unless scale: linear"),
    (HEAD + RANGES % "{low: 0, high: 1}", "compare.yaml:3: optimizer.damping.initial={'low': 0, 'high': 1}; must be a "
     "list of values, or {low: number, high: number} with low < high, above 0 unless scale: linear"),
    (HEAD + "search: bayes\n" + RANGES % "[1]", "compare.yaml:3: search='bayes'; must be one of grid, random"),
    (HEAD + "budget: 0\n" + RANGES % "[1]", "compare.yaml:3: budget=0; must be an int >= 1"),
    (HEAD + "search: grid\n" + RANGES % "[1, 2]", "compare.yaml: budget=3; must be at most 2, the grid of thor; add "
     "values or lower the budget"),
    (HEAD + "search: grid\n" + RANGES % "{low: 1, high: 2}", "compare.yaml: thor: optimizer.damping.initial is a span; "
     "a grid needs lists of values; list them or set search to random"),
    ("config: base.yaml\ntarget: 2\n" + RANGES % "[1]", "compare.yaml:2: target=2.0; must be above 0 and below 1"),
])
def test_wrong_files_are_refused_in_one_line(write, text, expected):
    path = write(text)
    with pytest.raises(ConfigError) as raised:
        read_comparison(path)
    assert str(raised.value) == f"{path.parent}/{expected}"


def test_unknown_optimizers_and_settings_are_named(write):
    path = write(FILE)
    with pytest.raises(ConfigError, match="optimizer tor is not in .*compare.yaml; did you mean thor\\?"):
        read_comparison(path, ["tor"])
    found = read_comparison(path)
    with pytest.raises(ConfigError, match="compare.yaml: thor: --optimizer.dampin.initial: unknown key "
                                          "optimizer.dampin; did you mean optimizer.damping\\?"):
        found.config_of(found.entries[0], {"optimizer.dampin.initial": 1}, 1)


@pytest.mark.parametrize("path", sorted(COMPARE.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_comparison_has_all_optimizers_and_its_settings_make_configurations(path):
    found = read_comparison(path)
    labels = {entry.label for entry in found.entries}
    assert labels == {"thor", "thor_robust", "thor_orthogonal", "kfac", "spngd", "momentum", "sgd", "adam", "adamw",
                      "lars", "lamb", "radam", "muon", "shampoo", "soap", "lookahead(momentum)", "ranger", "heun",
                      "asgd", "dcasgd"}
    named = {"asgd": "dcasgd", "thor_orthogonal": "thor_robust"}
    for entry in found.entries:
        settings = found.settings_of(entry)
        assert len(settings) == found.budget and len({str(setting) for setting in settings}) == found.budget
        configs = [found.config_of(entry, setting, 1) for setting in settings]
        assert {config.optimizer.name for config in configs} == {named.get(entry.label, entry.label)}
        assert len({(config.model, config.data, config.train, config.loss) for config in configs}) == 1


def test_delayed_gradients_are_compared_at_equal_delays():
    found = read_comparison(COMPARE / "lenet5_fashion_mnist.yaml", ["asgd", "dcasgd", "sgd"])
    asgd, dcasgd, sgd = (found.config_of(entry, {}, 1).optimizer for entry in found.entries)
    assert asgd.delay == dcasgd.delay and asgd.delay.mean == 3
    assert (asgd.compensation.strength, dcasgd.compensation.strength) == (0, 2)
    assert asgd.momentum == dcasgd.momentum == sgd.momentum == 0
