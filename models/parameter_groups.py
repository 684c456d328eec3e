"""Which learning rate and weight decay each parameter of a network has, by configuration."""
from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from mindspore import Parameter, nn

from models.config import OptimizerConfig
from models.config.errors import invalid


def decays(optimizer: OptimizerConfig) -> Callable[[Parameter], bool]:
    """Tells which parameters decay. Biases and gamma and beta of normalisation layers are those of rank 1."""
    if optimizer.decay_filter == "no_bias_norm":
        return lambda parameter: len(parameter.shape) > 1
    return lambda parameter: True


def chosen_groups(options: OptimizerConfig, network: nn.Cell, rate: Sequence[float]) -> list[dict[str, Any]]:
    """``optimizer.groups`` with the trainable parameters each of them matches first, in the form of thor.groups.

    Args:
        options: the section ``optimizer``.
        network: without its loss.
        rate: learning rate by step of parameters in no group.

    Raises:
        ConfigError: a group has no parameter.
    """
    left = network.trainable_params()
    chosen = []
    for group in options.groups:
        members = [parameter for parameter in left if re.search(group["match"], parameter.name)]
        if not members:
            raise invalid("optimizer.groups", group["match"], "an expression found in the name of a trainable "
                          "parameter that no group before matches", "see the names in parameters.txt of a run of THOR")
        left = [parameter for parameter in left if not any(parameter is member for member in members)]
        own: dict[str, Any] = {"params": members}
        if "lr_factor" in group:
            own["lr"] = [group["lr_factor"] * float(value) for value in rate]
        if "weight_decay" in group:
            own["weight_decay"] = group["weight_decay"]
        chosen.append(own)
    return chosen


def grouped(options: OptimizerConfig, network: nn.Cell, rate: Sequence[float]) -> list:
    """Trainable parameters in their order; as groups where they differ in rate or decay. Arguments as above."""
    parameters = network.trainable_params()
    groups = chosen_groups(options, network, rate)
    seen = {id(parameter) for group in groups for parameter in group["params"]}
    groups += [{"params": [parameter for parameter in parameters if id(parameter) not in seen]}]
    split = [part for group in groups for part in _split(options, group)]
    if [set(part) for part in split] != [{"params"}]:
        return [*split, {"order_params": parameters}]
    # without groups MindSpore's optimizers leave gamma and beta alone, whatever the decay
    return [{"params": parameters, "weight_decay": options.weight_decay}] if options.weight_decay > 0 else parameters


def _split(options: OptimizerConfig, group: dict[str, Any]) -> list[dict[str, Any]]:
    """A group, without those of its parameters that do not decay, and a group of these."""
    wanted = decays(options)
    exempt = [parameter for parameter in group["params"] if not wanted(parameter)]
    if group.get("weight_decay", options.weight_decay) == 0 or not exempt:
        return [group] if group["params"] else []
    others = [parameter for parameter in group["params"] if wanted(parameter)]
    return [*([{**group, "params": others}] if others else []), {**group, "params": exempt, "weight_decay": 0.0}]
