"""Picking, cutting, scaling and calling over tuples inside graphs.

MindSpore compiles a Python loop over layers, or a list comprehension, as functions that call one another, three deep a
round: the 161 parameters of ResNet-50 come to half of the thousand calls it allows, and take minutes. Maps are flat.
"""
from __future__ import annotations

from collections.abc import Sequence

from mindspore import ops

_MAP = ops.Map()  # unlike HyperMap it does not walk into tuples of tuples

_picked = ops.MultitypeFuncGraph("picked")
_cut = ops.MultitypeFuncGraph("cut")
_taken = ops.MultitypeFuncGraph("taken")
_scaled = ops.MultitypeFuncGraph("scaled")
_called = ops.MultitypeFuncGraph("called")
_multiply, _cast = ops.Mul(), ops.Cast()


@_picked.register("Tuple", "Number")
def _pick(values, place):
    return values[place]


@_cut.register("Tuple", "Tuple")
def _slice(values, span):
    return values[span[0]:span[1]]


@_taken.register("Tuple", "Tuple")
def _take(groups, place):
    return groups[place[0]][place[1]]


@_scaled.register("Tensor", "Tensor")
def _scale(factor, tensor):
    return _multiply(tensor, _cast(factor, tensor.dtype))


@_called.register("Function", "Tensor")
def _call(function, tensor):
    return function(tensor)


def call_each(functions: tuple, tensors: tuple) -> tuple:
    """Every function of its tensor."""
    return _MAP(_called, functions, tensors)


def scale(tensors: tuple, factor) -> tuple:
    """Every tensor times ``factor``, ``()``, in its own type."""
    return _MAP(ops.partial(_scaled, factor), tensors)


def pick(values: tuple, places: tuple[int, ...]) -> tuple:
    """``values[i]`` for every i of ``places``, which are constants of the graph."""
    if len(places) == 0:
        return ()
    return _MAP(ops.partial(_picked, values), places)


def cut(values: tuple, spans: tuple[tuple[int, int], ...]) -> tuple[tuple, ...]:
    """``values[first:end]`` for every ``(first, end)`` of ``spans``."""
    if len(spans) == 0:
        return ()
    return _MAP(ops.partial(_cut, values), spans)


def each(values, count: int) -> tuple:
    """A tuple of ``count`` of a scalar; a tuple as it is."""
    return values if isinstance(values, tuple) else (values,) * count


def layer_spans(counts: Sequence[int]) -> tuple[tuple, tuple]:
    """Spans for :func:`cut` of layers of ``counts`` tensors, and places for :func:`flatten` of what was cut so."""
    ends = [sum(counts[:i + 1]) for i in range(len(counts))]
    places = tuple((layer, part) for layer, count in enumerate(counts) for part in range(count))
    return tuple(zip([0, *ends], ends)), places


def flatten(groups: tuple[tuple, ...], places: tuple[tuple[int, int], ...]) -> tuple:
    """``groups[i][k]`` for every ``(i, k)`` of ``places``."""
    if len(places) == 0:
        return ()
    return _MAP(ops.partial(_taken, groups), places)
