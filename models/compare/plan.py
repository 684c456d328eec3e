"""The comparison file: network and data by another config, settings all runs share, ranges for each optimizer.

    config: ../lenet/lenet5_fashion_mnist.yaml
    settings: {train.epochs: 6}
    target: 0.88
    search: random
    optimizers:
      thor:
        ranges:
          optimizer.learning_rate.initial: {low: 0.01, high: 0.2}
          optimizer.damping.initial: [0.1, 0.03, 0.3]
      asgd:
        settings: {optimizer.name: dcasgd, optimizer.compensation.strength: 0}
        ranges: {optimizer.learning_rate.initial: {low: 0.01, high: 0.2}}

Its key ``extends`` names another such file, as in every config.
"""
from __future__ import annotations

import dataclasses
import difflib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from models.compare.search import SEARCHES, Span, Values, draw, grid_size
from models.config import Config, ConfigError, load_config
from models.config.load import read_tree
from models.config.yaml_nodes import Node

KEYS = {"config", "settings", "target", "search", "search_seed", "choose", "budget", "seeds", "optimizers"}
CHOICES = ("accuracy", "steps")


@dataclasses.dataclass(frozen=True)
class Entry:
    """An optimizer in a comparison.

    Attributes:
        label: its name in tables; also ``optimizer.name`` unless ``settings`` have another.
        settings: what is set in all its runs, by dotted name.
        ranges: what is searched.
    """

    label: str
    settings: dict[str, Any]
    ranges: dict[str, Values | Span]


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What is compared.

    Attributes:
        path: the comparison file.
        config: the configuration file every run begins with.
        settings: what is set over it in all runs, by dotted name.
        target: accuracy, 0 to 1, whose steps and seconds are told.
        search: grid or random.
        search_seed: of the random search.
        choose: a setting is best by its last ``accuracy``, or by fewest ``steps`` to the target.
        budget: settings tried for each optimizer.
        seeds: runs of the best setting, with seeds 1, 2, ...
        entries: the optimizers.
    """

    path: Path
    config: Path
    settings: dict[str, Any]
    target: float
    search: str
    search_seed: int
    choose: str
    budget: int
    seeds: int
    entries: tuple[Entry, ...]

    def settings_of(self, entry: Entry) -> list[dict[str, Any]]:
        """The settings that are tried, ``budget`` of them."""
        return draw(entry.ranges, self.search, self.budget, self.search_seed)

    def config_of(self, entry: Entry, setting: dict[str, Any], seed: int, overrides: Sequence[str] = ()) -> Config:
        """The configuration of a run; ``overrides`` are command line words that win over the file.

        Raises:
            ConfigError: the settings cannot be used; the message names the optimizer.
        """
        shared, own = ([f"--{key}={json.dumps(value)}" for layer in layers for key, value in layer.items()]
                       for layers in ([self.settings], [{"optimizer.name": entry.label}, entry.settings, setting]))
        try:
            return load_config(self.config, [*own, *overrides, f"--seed={seed}", "--train.checkpoint_keep=1"], shared)
        except ConfigError as error:
            raise ConfigError(f"{entry.label}: {error}", error.key, str(self.path)) from None


def read_comparison(path: Path, only: Sequence[str] = (), budget: int | None = None,
                    seeds: int | None = None) -> Comparison:
    """Read and check a comparison file.

    Args:
        path: the file.
        only: labels of optimizers to compare, in this order; all of the file if empty.
        budget, seeds: instead of the file's.

    Raises:
        ConfigError: one line with file and line.
    """
    root = read_tree(path)
    _refuse_unknown(root, KEYS)
    settings = _plain(root.value["settings"]) if "settings" in root.value else {}
    if not isinstance(settings, dict):
        raise ConfigError("settings must be a mapping of dotted names", "settings", root.value["settings"].where)
    found = Comparison(
        path, path.parent / _value(root, "config", str, None), settings,
        float(_value(root, "target", (int, float), None)), _choice(root, "search", SEARCHES),
        _value(root, "search_seed", int, 1), _choice(root, "choose", CHOICES),
        budget or _value(root, "budget", int, 3), seeds or _value(root, "seeds", int, 3), _entries(root, path, only))
    _check_numbers(found, root)
    return found


def _check_numbers(found: Comparison, root: Node) -> None:
    for name, good, wanted in (("target", 0 < found.target < 1, "above 0 and below 1"),
                               ("budget", found.budget >= 1, "an int >= 1"),
                               ("seeds", found.seeds >= 1, "an int >= 1"),
                               ("search_seed", found.search_seed >= 0, "an int >= 0")):
        if not good:
            raise _wrong(root, name, getattr(found, name), wanted)
    for entry in found.entries:
        spans = [name for name, span in entry.ranges.items() if isinstance(span, Span)]
        if found.search == "grid" and spans:
            raise ConfigError(f"{entry.label}: {spans[0]} is a span; a grid needs lists of values; list them or set "
                              "search to random", where=str(found.path))
        if found.search == "grid" and grid_size(entry.ranges) < found.budget:
            raise ConfigError(f"budget={found.budget}; must be at most {grid_size(entry.ranges)}, the grid of "
                              f"{entry.label}; add values or lower the budget", where=str(found.path))


def _entries(root: Node, path: Path, only: Sequence[str]) -> tuple[Entry, ...]:
    node = root.value.get("optimizers")
    if node is None or not node.is_mapping or not node.value:
        raise ConfigError("optimizers must name at least one optimizer with its ranges", "optimizers",
                          root.where if node is None else node.where)
    known = node.value
    for label in only:
        if label not in known:
            near = difflib.get_close_matches(label, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(known)}"
            raise ConfigError(f"optimizer {label} is not in {path}; {hint}")
    return tuple(_entry(label, known[label]) for label in (only or known))


def _entry(label: str, node: Node) -> Entry:
    if not node.is_mapping:
        raise ConfigError(f"{label} must be a mapping with ranges", label, node.where)
    _refuse_unknown(node, {"settings", "ranges"})
    ranges = node.value.get("ranges")
    if ranges is None or not ranges.is_mapping or not ranges.value:
        raise ConfigError(f"{label}: ranges must name at least one setting to search", label, node.where)
    settings = _plain(node.value["settings"]) if "settings" in node.value else {}
    return Entry(label, settings, {name: _range(name, child) for name, child in ranges.value.items()})


def _range(name: str, node: Node) -> Values | Span:
    value = _plain(node)
    if isinstance(value, list) and value:
        return Values(tuple(value))
    if isinstance(value, dict) and {"low", "high"} <= set(value) <= {"low", "high", "scale"}:
        low, high, scale = value["low"], value["high"], value.get("scale", "log")
        numbers = all(isinstance(x, (int, float)) and not isinstance(x, bool) and math.isfinite(x) for x in (low, high))
        if numbers and low < high and scale in ("log", "linear") and (low > 0 or scale == "linear"):
            return Span(float(low), float(high), scale == "log")
    raise ConfigError(f"{name}={value!r}; must be a list of values, or {{low: number, high: number}} with low < high, "
                      "above 0 unless scale: linear", name, node.where)


def _plain(node: Node) -> Any:
    return {key: _plain(child) for key, child in node.value.items()} if node.is_mapping else node.value


def _value(root: Node, name: str, kind: Any, default: Any) -> Any:
    if name not in root.value and default is not None:
        return default
    node = root.value.get(name, Node(None, root.where))
    if not isinstance(node.value, kind) or isinstance(node.value, bool):
        what = {str: "the path of a file", int: "an int"}.get(kind, "a number")
        raise ConfigError(f"{name}={node.value!r}; must be {what}", name, node.where)
    return node.value


def _choice(root: Node, name: str, known: Sequence[str]) -> str:
    value = root.value[name].value if name in root.value else known[-1] if name == "search" else known[0]
    if value not in known:
        raise _wrong(root, name, value, "one of " + ", ".join(known))
    return value


def _wrong(root: Node, name: str, value: Any, wanted: str) -> ConfigError:
    where = root.value[name].where if name in root.value else f"--{name}"
    return ConfigError(f"{name}={value!r}; must be {wanted}", name, where)


def _refuse_unknown(node: Node, known: set[str]) -> None:
    for key, child in node.value.items():
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known here: {', '.join(sorted(known))}"
            raise ConfigError(f"unknown key {key}; {hint}", key, child.where)
