"""Inputs of a train step: in order, for its graphs have positions alone; and how many samples they are."""
from __future__ import annotations

import inspect
from typing import Any

from mindspore import Tensor, nn

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


def samples_of(inputs, batch_size: int) -> int:
    """The leading axis most tensors of a batch have, tuples and dicts looked into.

    Of axes equally often ``batch_size``, if it is one of them, else the first.
    """
    axes = leading_axes(inputs)
    best, times = batch_size, 0
    for axis in axes:
        count = sum([1 for other in axes if other == axis])
        if count > times or (count == times and axis == batch_size):
            best, times = axis, count
    return best


def leading_axes(inputs) -> list[int]:
    """Of the tensors in a tuple, a list or a dict, one after the other."""
    axes: list[int] = []
    for x in inputs.values() if isinstance(inputs, dict) else inputs:
        if isinstance(x, (tuple, list, dict)):
            axes = axes + leading_axes(x)
        elif isinstance(x, Tensor) and x.ndim > 0:
            axes = axes + [x.shape[0]]
    return axes
