"""Every graph compiles for its device: layers, policies, loss scales, precision, optimizers, shipped configurations."""
from __future__ import annotations

import pytest

from models.devicecheck.plugin import TARGETS
from tests.helpers.compilation import Compilation, chosen
from tests.helpers.device_cases import cases

pytestmark = pytest.mark.slow

GRAPHS = {f"{target}: {case.name}: {graph}": (target, case, graph)
          for target in TARGETS for case in cases(target) for graph in case.graphs}


@pytest.fixture(scope="module")
def outcome_of(tmp_path_factory, request, stub_cache):
    """What became of a graph, told by a target's program, which compiles what was chosen of its graphs."""
    programs = {}

    def ask(target, case, graph):
        if target not in programs:
            programs[target] = Compilation(target, tmp_path_factory.mktemp(target), chosen(request, target))
        return programs[target].outcome(case.name, graph)

    yield ask
    for program in programs.values():
        program.end()


@pytest.mark.parametrize("target, case, graph", GRAPHS.values(), ids=GRAPHS)
def test_compiles(outcome_of, target, case, graph):
    outcome = outcome_of(target, case, graph)
    assert outcome.operator == case.fails, outcome.error
    if case.fails:
        assert not outcome.ok
    else:
        assert outcome.error == ""
        assert outcome.device_id == case.device_id
