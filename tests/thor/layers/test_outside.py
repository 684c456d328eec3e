"""Weights that other cells than a layer's own use train first-order, and the table says whose use it is."""
from __future__ import annotations

import mindspore as ms
import pytest
from mindspore import nn, ops

from thor import THOR


def norm_of(cell):
    return cell.weight.sum()


class Reader(nn.Cell):
    """Uses the weight of a child of its own, and that of another in a list."""

    def __init__(self):
        super().__init__()
        self.child, self.rows = nn.Dense(4, 4, has_bias=False), nn.CellList([nn.Dense(4, 4, has_bias=False)])

    def construct(self, x):
        return ops.matmul(x, self.child.weight) + ops.matmul(x, self.rows[0].weight)


class Parent(nn.Cell):
    def __init__(self, child=None):
        super().__init__()
        self.child = child or nn.Dense(4, 4, has_bias=False)


class LocalName(Parent):
    def construct(self, x):
        child = self.child
        return ops.matmul(child(x), child.weight)


class ThroughFunction(Parent):
    def construct(self, x):
        return self.child(x) * norm_of(self.child)


class Loops(Parent):
    def construct(self, x):
        return self.child(x) + sum([layer.weight.sum() for layer in self.cells()])


class Decoding(nn.Dense):
    def decode(self, h):
        return ops.matmul(h, self.weight)


class CallsMethod(Parent):
    def __init__(self):
        super().__init__(Decoding(4, 4, has_bias=False))

    def construct(self, x):
        return self.child.decode(self.child(x))


class Tied(Parent):
    """The weight of a Dense is that of a cell no kind serves, too."""

    def __init__(self):
        super().__init__()
        self.other = ms.mint.nn.Linear(4, 4, bias=False)
        self.other.weight = self.child.weight

    def construct(self, x):
        return self.other(self.child(x))


@pytest.mark.parametrize("network, name, reason", [
    (lambda: nn.MultiheadAttention(4, 2), "out_proj.weight",
     "MultiheadAttention uses out_proj.weight outside its cell"),
    (Reader, "child.weight", "Reader uses child.weight outside its cell"),
    (Reader, "rows.0.weight", "Reader uses rows.0.weight outside its cell"),
    (LocalName, "child.weight", "LocalName uses child.weight outside its cell"),
    (ThroughFunction, "child.weight", "ThroughFunction uses child.weight outside its cell"),
    (CallsMethod, "child.weight", "Decoding uses weight outside self.matmul"),
    (Tied, "child.weight", "Linear uses child.weight outside its cell"),
    (Loops, "child.weight", "Loops uses child.weight outside its cell"),
])
def test_a_weight_that_another_cell_uses_is_first_order(network, name, reason):
    table = THOR(network(), 1.0, 0.1, 0.0).registration_table()
    row = next(row for row in table.splitlines() if row.split()[0] == name)
    assert row.split(maxsplit=2)[2] == f"first order: {reason}"


def test_a_table_that_is_also_read_by_hand_keeps_its_look_ups_factors():
    """MindSpore's BERT decodes like this, and was published so."""
    class Words(nn.Cell):
        def __init__(self):
            super().__init__()
            self.words = nn.Embedding(5, 3)

        def construct(self, ids):
            return ops.matmul(self.words(ids), self.words.embedding_table.T)

    table = THOR(Words(), 1.0, 0.1, 0.0).registration_table()
    assert table.splitlines()[1].endswith("second order: A 5, G 1x3x3, that of Words not measured")
