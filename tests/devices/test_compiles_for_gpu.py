"""Every graph compiles for GPU: layers, policies, loss scales, precision, optimizers, shipped configurations."""
from __future__ import annotations

import pytest
from compilation import Compilation, chosen
from device_cases import cases

TARGET = "GPU"
GRAPHS = [(case, graph) for case in cases(TARGET) for graph in case.graphs]


@pytest.fixture(scope="module")
def compilation(tmp_path_factory, request):
    running = Compilation(TARGET, tmp_path_factory.mktemp(TARGET), chosen(request))
    yield running
    running.end()


@pytest.mark.parametrize("case, graph", GRAPHS, ids=[f"{case.name}: {graph}" for case, graph in GRAPHS])
def test_compiles(compilation, case, graph):
    outcome = compilation.outcome(case.name, graph)
    assert outcome.operator == case.fails, outcome.error
    if case.fails:
        assert not outcome.ok
    else:
        assert outcome.error == ""
        assert outcome.device_id == case.device_id
