"""Every graph compiles for its device: layers, policies, loss scales, precision, optimizers, shipped configurations."""
from __future__ import annotations

import pytest

from models.devicecheck.plugin import TARGETS
from tests.helpers.compilation import Compilation, chosen
from tests.helpers.device_cases import cases

GRAPHS = {f"{target}: {case.name}: {graph}": (target, case, graph)
          for target in TARGETS for case in cases(target) for graph in case.graphs}


@pytest.fixture(scope="module")
def compilation(tmp_path_factory, request, stub_cache):
    """A target's program, which compiles what was chosen of its graphs."""
    running = Compilation(request.param, tmp_path_factory.mktemp(request.param), chosen(request, request.param))
    yield running
    running.end()


@pytest.mark.parametrize("compilation, case, graph", GRAPHS.values(), ids=GRAPHS, indirect=["compilation"])
def test_compiles(compilation, case, graph):
    outcome = compilation.outcome(case.name, graph)
    assert outcome.operator == case.fails, outcome.error
    if case.fails:
        assert not outcome.ok
    else:
        assert outcome.error == ""
        assert outcome.device_id == case.device_id
