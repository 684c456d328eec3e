"""A tap measures the products with its own weight and nothing else, or the layer is first-order, and says why."""
from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from mindspore import Parameter, Tensor, nn, ops

from tests.helpers import reference as ref
from tests.helpers.modes import BOTH_MODES
from thor import THOR
from thor.train import make_train_step


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(0, 1, shape).astype(np.float32)


def parameter(name, *shape, seed=9):
    return Parameter(Tensor(normal(*shape, seed=seed)), name=name)


class TwoProducts(nn.Dense):
    """``x w' w2'``, both by ``self.matmul``."""

    def __init__(self, w2_rows=2):
        super().__init__(4, 3, weight_init=Tensor(normal(3, 4, seed=5)), has_bias=False)
        self.w2 = parameter("w2", w2_rows, 3)

    def construct(self, x):
        return self.matmul(self.matmul(x, self.weight), self.w2)


class LowRank(nn.Dense):
    """``x w' + x a' b'``, a low-rank adapter."""

    def __init__(self):
        super().__init__(4, 3, weight_init=Tensor(normal(3, 4, seed=5)), has_bias=False)
        self.a, self.b = parameter("a", 2, 4), parameter("b", 3, 2, seed=8)

    def construct(self, x):
        return self.frozen_part(x) + self.matmul(self.matmul(x, self.a), self.b)

    def frozen_part(self, x):
        weight = self.weight
        return self.matmul(x, weight)


class Loss(nn.Cell):
    """``sum(net(x) * t) / bs``: the gradient at the output is ``t / bs``."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def construct(self, x, t):
        return (self.network(x) * t).sum() / x.shape[0]


class Both(nn.Cell):
    """The losses of two networks, added up: one graph measures both."""

    def __init__(self):
        super().__init__()
        self.two, self.low = Loss(TwoProducts()), Loss(LowRank())

    def construct(self, x, t2, t3):
        return self.two(x, t2) + self.low(x, t3)


@BOTH_MODES
def test_only_the_products_with_the_own_weight_are_measured(mode):
    ms.set_context(mode=mode)
    both, x, t2, t3 = Both(), normal(6, 4), normal(6, 2, seed=1), normal(6, 3, seed=1)
    optimizer = THOR(both, 1.0, 0.1, 0.0, batch_size=6, split_dim=None)
    two, low = both.two.network, both.low.network
    before, d2 = two.weight.asnumpy().astype(np.float64), t2.astype(np.float64) @ two.w2.asnumpy()
    make_train_step(both, optimizer)(Tensor(x), Tensor(t2), Tensor(t3))
    for cell, d in ((two, d2), (low, t3.astype(np.float64))):
        update = ref.kronecker_update(d.T @ x / 6, ref.second_moment(x), ref.second_moment(d), 0.1)
        np.testing.assert_allclose(before - cell.weight.asnumpy(), update, rtol=1e-4, atol=1e-6)
    rows = {row.split()[0]: row for row in optimizer.registration_table().splitlines()}
    assert all(rows[cell.weight.name].endswith("second order: A 1x4x4, G 1x3x3") for cell in (two, low))


class Functional(nn.Dense):
    def construct(self, x):
        return ops.dense(x, self.weight, self.bias)


class Masked(nn.Dense):
    def construct(self, x):
        weight = self.weight * 2.0
        return self.matmul(x, weight)


class Transposed(nn.Dense):
    def construct(self, x):
        return ops.matmul(self.matmul(x, self.weight), self.weight)


class Scores(nn.Dense):
    def construct(self, x):
        rows = self.matmul(x, self.weight)
        return self.matmul(rows, x)


class Reshaped(nn.Dense):
    def construct(self, x):
        return self.matmul(x, self.weight) + ops.reshape(self.weight, (-1,)).sum()


class Augmented(nn.Dense):
    def construct(self, x):
        weight = self.weight
        weight *= 2.0
        return self.matmul(x, weight)


class BaseWithHelper(nn.Dense):
    def construct(self, x):
        return self.helper(x)

    def helper(self, x):
        return ops.dense(x, self.weight)


class CallsSuper(BaseWithHelper):
    def construct(self, x):
        return super().construct(x)


class Aliased(nn.Dense):
    def construct(self, x):
        product = self.matmul
        return product(x, self.weight)


def norm_of(cell):
    return cell.weight.sum()


class HandsItselfOn(nn.Dense):
    def construct(self, x):
        return self.matmul(x, self.weight) * norm_of(self)


class InsideOut(nn.Dense):
    """Multiplies with a weight that is not transposed."""

    def __init__(self, inputs, outputs):
        super().__init__(inputs, outputs, has_bias=False)
        self.matmul = ops.MatMul()


class Restrided(nn.Conv2d):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.conv2d = ops.Conv2D(3, 2, stride=2)


class Convolved(nn.Conv2d):
    def construct(self, x):
        return ops.conv2d(x, self.weight)


class LookedUp(nn.Embedding):
    def construct(self, ids):
        return self.embedding_table[ids]


@pytest.mark.parametrize("network, name, reason", [
    (lambda: Functional(4, 3), "weight", "Functional uses weight outside self.matmul"),
    (lambda: Masked(4, 3), "weight", "Masked uses weight outside self.matmul"),
    (lambda: Transposed(3, 3), "weight", "Transposed uses weight outside self.matmul"),
    (lambda: Scores(4, 3), "weight", "Scores multiplies with x, too, which cannot be told from weight"),
    (lambda: TwoProducts(2).set_train(), "weight", None),
    (lambda: Reshaped(4, 3), "weight", "Reshaped uses weight outside self.matmul"),
    (lambda: Augmented(4, 3), "weight", "Augmented uses weight outside self.matmul"),
    (lambda: CallsSuper(4, 3), "weight", "CallsSuper uses weight outside self.matmul"),
    (lambda: Aliased(4, 3), "weight", "Aliased uses weight outside self.matmul"),
    (lambda: HandsItselfOn(4, 3), "weight", "HandsItselfOn.construct hands itself to a function"),
    (lambda: InsideOut(4, 3), "weight", "the matmul of InsideOut does not multiply with weight (out, in) transposed"),
    (lambda: Restrided(2, 3, 2), "weight",
     "the conv2d of Restrided has another kernel, stride, dilation, group or padding than the cell"),
    (lambda: Convolved(2, 3, 2), "weight", "Convolved uses weight outside self.conv2d"),
    (lambda: LookedUp(5, 3), "embedding_table", "LookedUp uses embedding_table outside self.gather and self.array_mul"),
])
def test_what_no_tap_can_measure_is_first_order_and_the_table_says_why(network, name, reason):
    network = network()
    optimizer = THOR(network, 1.0, 0.1, 0.0)
    row = next(row for row in optimizer.registration_table().splitlines() if row.split()[0] == name)
    update = "second order: A 1x4x4, G 1x3x3" if reason is None else f"first order: {reason}"
    assert row.split(maxsplit=2)[2] == update


def test_operands_of_one_shape_cannot_be_told_apart():
    class Square(TwoProducts):
        def __init__(self):
            super().__init__(3)
            self.weight = parameter("weight", 3, 3)

    table = THOR(Square(), 1.0, 0.1, 0.0).registration_table()
    assert table.splitlines()[1].endswith("first order: Square multiplies with self.w2, too, which cannot be told from "
                                          "weight")


def test_products_that_are_not_registered_are_named():
    rows = THOR(ms.mint.nn.Linear(4, 3), 1.0, 0.1, 0.0).registration_table().splitlines()
    assert rows[1].endswith("first order: no tap registered for Linear")


def test_layers_that_share_a_bias_or_beta_are_not_counted_twice():
    network = nn.SequentialCell(nn.LayerNorm((4,)), nn.LayerNorm((4,)))
    network[1].beta = network[0].beta
    rows = THOR(network, 1.0, 0.1, 0.0).registration_table().splitlines()[1:]
    assert [row.split(maxsplit=2)[2] for row in rows] == [
        "second order: squared gradient", "second order: squared gradient", "first order: shares 0.beta with 0"]


def test_an_operator_of_three_axes_is_measured(pynative):
    class Product(nn.Cell):
        def construct(self, x, weight):
            return ops.dense(x, weight)

    class Deep(nn.Dense):
        """Multiplies sequences as they are."""

        def __init__(self):
            super().__init__(4, 3, weight_init=Tensor(normal(3, 4, seed=5)), has_bias=False)
            self.matmul = Product()

        def construct(self, x):
            return self.matmul(x, self.weight)

    network, x, t = Deep(), normal(2, 5, 4), normal(2, 5, 3, seed=1)
    optimizer = THOR(network, 1.0, 0.1, 0.0, batch_size=2, split_dim=None)
    before, d = network.weight.asnumpy().astype(np.float64), t.reshape(-1, 3).astype(np.float64)
    rows = x.reshape(-1, 4).astype(np.float64)
    make_train_step(Loss(network), optimizer)(Tensor(x), Tensor(t))
    update = ref.kronecker_update(d.T @ rows / 2, ref.second_moment(rows), ref.second_moment(d), 0.1)
    np.testing.assert_allclose(before - network.weight.asnumpy(), update, rtol=1e-4, atol=1e-6)
