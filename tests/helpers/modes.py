"""Execution modes as parameters of tests; what is compiled is slow."""
from __future__ import annotations

import mindspore as ms
import pytest

COMPILED = pytest.param(ms.GRAPH_MODE, marks=pytest.mark.slow, id="graph")
BOTH_MODES = pytest.mark.parametrize("mode", [COMPILED, pytest.param(ms.PYNATIVE_MODE, id="pynative")])


def operator_by_operator(names, graph=()):
    """A test of ``mode`` and ``name`` with every name, of which those of ``graph`` are compiled, too."""
    runs = [pytest.param(ms.PYNATIVE_MODE, name, id=name) for name in names]
    return pytest.mark.parametrize("mode, name", runs + [
        pytest.param(ms.GRAPH_MODE, name, marks=pytest.mark.slow, id=f"{name}-graph") for name in graph])


def compiled_once(name, values, ids, compiled):
    """A test of ``mode`` and ``name``: every value operator by operator, that with the id ``compiled`` in a graph."""
    runs = [pytest.param(ms.PYNATIVE_MODE, value, id=f"{label}-pynative") for value, label in zip(values, ids)]
    value = values[ids.index(compiled)]
    runs.append(pytest.param(ms.GRAPH_MODE, value, id=f"{compiled}-graph", marks=pytest.mark.slow))
    return pytest.mark.parametrize(f"mode, {name}", runs)
