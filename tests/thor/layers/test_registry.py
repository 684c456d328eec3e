"""Users register their own layer types."""
from __future__ import annotations

import ast
import inspect
from pathlib import Path

import numpy as np
import pytest
from mindspore import Parameter, Tensor, nn, ops

import thor
from thor import NotTapped, register_layer
from thor.layers import DenseLayer, base, kind_of
from thor.registration import tap_network

pytestmark = pytest.mark.usefixtures("pynative")


class Mine(nn.Cell):
    """A linear cell of the user's."""

    def __init__(self, skip=False):
        super().__init__()
        self.weight = Parameter(Tensor(np.ones((2, 3), np.float32)), name="weight")
        self.has_bias = False
        self.matmul = ops.MatMul(transpose_b=True)
        self.skip = skip

    def construct(self, x):
        return self.matmul(x, self.weight)


@pytest.fixture
def mine_registered(monkeypatch):
    monkeypatch.setattr(base, "_KINDS", dict(base._KINDS))

    @register_layer(Mine)
    class MineLayer(DenseLayer):
        """Dense, unless it asks to be skipped."""

        def __init__(self, cells, context):
            if cells[0].skip:
                raise NotTapped("asked to skip")
            super().__init__(cells, context)


def test_a_users_layer(mine_registered):
    network = nn.SequentialCell(Mine(), Mine(skip=True))
    assert tap_network(network).table().splitlines()[1:] == [
        "0.weight   2x3    second order: A 1x3x3, G 1x2x2", "1.weight   2x3    first order: asked to skip"]
    np.testing.assert_array_equal(network[0](Tensor(np.float32([[1, 2, 3]]))).asnumpy(), [[6.0, 6.0]])


def test_an_unknown_layer_trains_first_order():
    last = tap_network(Mine()).table().splitlines()[-1]
    assert last == "weight     2x3    first order: no tap registered for Mine"
    assert kind_of(Mine()) is None


@pytest.mark.parametrize("wrong", [None, int, nn.Dense(1, 1)])
def test_only_cell_types_are_registered(wrong):
    with pytest.raises(TypeError, match="^cell_type=.*must be a subclass of mindspore.nn.Cell; pass the"):
        register_layer(wrong, DenseLayer)


@pytest.mark.parametrize("wrong", [nn.Dense, lambda cell: None, 3])
def test_only_layer_kinds_are_registered(wrong):
    with pytest.raises(TypeError, match="^kind=.*must be a subclass of thor.layers.Layer; pass e.g. DenseLayer"):
        register_layer(Mine, wrong)


def test_kinds_are_known_in_their_own_files_alone():
    """Every other module of thor sees a layer, whatever its kind."""
    package = Path(thor.__file__).parent
    kinds = {cell: kind.__name__ for cell, kind in base._KINDS.items() if kind.__module__.startswith("thor.")}
    own = {Path(inspect.getfile(kind)) for kind in base._KINDS.values() if kind.__module__.startswith("thor.")}
    names = set(kinds.values()) | {cell.__name__ for cell in kinds}
    assert {"DenseLayer", "ConvLayer", "Conv1d", "EmbeddingLayer", "LayerNormLayer", "BatchNormLayer"} <= names
    elsewhere = {}
    for path in set(package.rglob("*.py")) - own - {package / "layers" / "__init__.py"}:
        if "selfcheck" not in path.parts:  # it trains a network of its own
            nodes = ast.walk(ast.parse(path.read_text()))
            nodes = [node for node in nodes if isinstance(node, (ast.Name, ast.Attribute))]
            elsewhere[path.name] = names & {node.id if isinstance(node, ast.Name) else node.attr for node in nodes}
    assert {name: used for name, used in elsewhere.items() if used} == {}
