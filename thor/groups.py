"""Groups of parameters with a learning rate and a weight decay of their own: what they mean, for every optimizer here.

A group is a dictionary with MindSpore's keys: ``{"params": [...], "lr": ..., "weight_decay": ...}``. What it leaves out
is the optimizer's own. Rates and decays may each be a number, one value a step, or a schedule.
"""
from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from mindspore import Parameter, Tensor, nn
from mindspore.nn.learning_rate_schedule import LearningRateSchedule

from thor.checks import ArgumentError
from thor.schedules import number_or_schedule, weight_decay_by_step

Rate = float | Sequence[float] | np.ndarray | Tensor | LearningRateSchedule
Decay = Rate | nn.Cell

KEYS = ("params", "lr", "weight_decay", "grad_centralization", "order_params")
EXAMPLE = 'write [{"params": [net.fc.weight], "lr": 0.01}]'


@dataclass(frozen=True)
class Group:
    """Some parameters; ``learning_rate`` and ``weight_decay`` are None where they take the optimizer's own."""

    parameters: tuple[Parameter, ...]
    learning_rate: float | LearningRateSchedule | None
    weight_decay: float | nn.Cell | None


def groups_within(groups: Iterable[dict[str, Any]] | None, weights: Sequence[Parameter]) -> list[Group]:
    """Groups of some of ``weights``, whose parameters may be given by name or as the cells that hold them.

    Args:
        groups: None for none. ``order_params`` must be ``weights`` in their order.

    Raises:
        ArgumentError: ``groups[i].key=value; must be ...; do ...``.
    """
    if groups is None:
        return []
    found, order = _read("groups", groups, {weight.name: weight for weight in weights})
    if order is not None and [id(p) for p in order] != [id(p) for p in weights]:
        raise ArgumentError("order_params in groups is another order than the network's; must be "
                            "net.trainable_params(), whose order is kept; leave order_params out")
    return found


def parameters_and_groups(params: Iterable) -> tuple[list[Parameter], list[Group]]:
    """What the argument ``params`` of an optimizer holds: parameters alone, or groups and with them all parameters.

    The order is that of the groups, or of ``order_params``, which must then hold every parameter of them.

    Raises:
        ArgumentError: as for :func:`groups_within`.
    """
    params = list(params)
    if not any(isinstance(item, dict) for item in params):
        return params, []
    found, order = _read("params", params, None)
    parameters = [parameter for group in found for parameter in group.parameters]
    if order is None:
        return parameters, found
    if len(order) != len(parameters) or {id(p) for p in order} != {id(p) for p in parameters}:
        raise ArgumentError(f"order_params in params has {len(order)} parameters; must be the {len(parameters)} of the "
                            "groups, each once; use net.trainable_params()")
    return order, found


def _read(name: str, groups: Iterable, known: dict[str, Parameter] | None):
    """Groups as they are given, and the parameters of ``order_params`` or None."""
    if isinstance(groups, (str, dict, nn.Cell)) or not isinstance(groups, Iterable):
        raise ArgumentError(f"{name}={shown(groups)}; must be a list of dicts; {EXAMPLE}")
    found: list[Group] = []
    order = None
    for index, group in enumerate(groups):
        place = f"{name}[{index}]"
        if not isinstance(group, dict):
            raise ArgumentError(f"{place}={shown(group)}; must be a dict, as all others; {EXAMPLE}")
        _check_keys(place, group)
        if "order_params" in group:
            order = _parameters(f"{place}.order_params", group["order_params"], known)
        else:
            found.append(_read_group(place, group, known))
    if not found:
        raise ArgumentError(f"{name}=[]; must have a group with params; {EXAMPLE}")
    _check_disjoint(name, found)
    return found, order


def _check_keys(place: str, group: dict) -> None:
    for key in group:
        if key not in KEYS:
            raise ArgumentError(f"{place} has the key {key!r}; must be one of {', '.join(KEYS)}; rename or remove it")
    if "order_params" in group and len(group) > 1:
        raise ArgumentError(f"{place} has order_params beside other keys; must be alone; give it a dict of its own")
    if "order_params" not in group and "params" not in group:
        raise ArgumentError(f"{place} has no params; must name its parameters; {EXAMPLE}")
    if group.get("grad_centralization", False) is not False:
        raise ArgumentError(f"{place}.grad_centralization={group['grad_centralization']!r}; must be False, gradients "
                            "are not centralised; leave it out")


def _read_group(place: str, group: dict, known: dict[str, Parameter] | None) -> Group:
    parameters = _parameters(f"{place}.params", group["params"], known)
    if not parameters:
        raise ArgumentError(f"{place}.params=[]; must have a trainable parameter; remove the group or fill it")
    rate = number_or_schedule(f"{place}.lr", group["lr"]) if "lr" in group else None
    decay = weight_decay_by_step(f"{place}.weight_decay", group["weight_decay"]) if "weight_decay" in group else None
    return Group(tuple(parameters), rate, decay)


def _parameters(place: str, items: Any, known: dict[str, Parameter] | None) -> list[Parameter]:
    """The parameters that are meant, each once, in order."""
    if isinstance(items, (Parameter, nn.Cell, str)):
        items = [items]
    if not isinstance(items, Iterable) or isinstance(items, (dict, Tensor)):
        raise ArgumentError(f"{place}={shown(items)}; must be a list of parameters; {EXAMPLE}")
    found: dict[int, Parameter] = {}
    for item in items:
        for parameter in _one(place, item, known):
            found[id(parameter)] = parameter
    return list(found.values())


def _one(place: str, item: Any, known: dict[str, Parameter] | None) -> list[Parameter]:
    """The parameters one entry stands for."""
    if isinstance(item, str) and known is not None:
        if item not in known:
            raise ArgumentError(f"{place}={item!r}; must be the name of a trainable parameter of net; see "
                                "net.trainable_params() for them")
        return [known[item]]
    parameters = item.trainable_params() if isinstance(item, nn.Cell) else [item]
    for parameter in parameters:
        if not isinstance(parameter, Parameter):
            wanted = "parameters" if known is None else "parameters, their names or cells"
            raise ArgumentError(f"{place} has {shown(parameter)}; must be {wanted}; {EXAMPLE}")
        if known is not None and known.get(parameter.name) is not parameter:
            raise ArgumentError(f"{place} has {parameter.name}; must be trainable parameters of net; set requires_grad "
                                "where it should learn, or remove it")
    return parameters


def _check_disjoint(name: str, groups: list[Group]) -> None:
    seen: dict[int, int] = {}
    for index, group in enumerate(groups):
        for parameter in group.parameters:
            if id(parameter) in seen:
                raise ArgumentError(f"{name} has {parameter.name} in two groups, {seen[id(parameter)]} and {index}; "
                                    "must be in one; remove it from the other")
            seen[id(parameter)] = index


def shown(value: Any) -> str:
    """A value in an error, in one line."""
    return f"Parameter {value.name}" if isinstance(value, Parameter) else " ".join(repr(value).split())[:80]
