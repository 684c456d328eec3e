"""Inputs of a train step by keyword: its graphs, which serve networks of any inputs, have positions alone."""
from __future__ import annotations

import inspect
from typing import Any

from mindspore import nn

_ANY_NUMBER = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def in_order(network: nn.Cell, inputs: tuple, keywords: dict[str, Any]) -> tuple:
    """``inputs`` and ``keywords`` in the order in which ``network.construct`` takes them, with its defaults.

    Raises:
        TypeError: ``construct`` takes no such keyword, or by keyword alone; an input is missing or given twice.
    """
    if not keywords:
        return inputs
    network = _inner(network)
    signature = inspect.signature(network.construct)
    try:
        bound = signature.bind(*inputs, **keywords)
        bound.apply_defaults()
        reason = "a graph takes inputs by position alone" if bound.kwargs else ""
    except TypeError as error:
        reason = str(error)
    if reason:
        names = ", ".join(f"{name}=..." for name in keywords)
        raise TypeError(f"{names} for {type(network).__name__}.construct{signature} ({reason}); must be its positional "
                        "arguments; pass inputs in their order, without keywords")
    return bound.args


def _inner(network: nn.Cell) -> nn.Cell:
    """The network that names its inputs, inside cells that pass on whatever they are given."""
    while all(parameter.kind in _ANY_NUMBER for parameter in inspect.signature(network.construct).parameters.values()):
        inside = getattr(network, "network", None)
        cells = [inside] if isinstance(inside, nn.Cell) else list(network.cells())
        if len(cells) != 1:
            break
        network = cells[0]
    return network
