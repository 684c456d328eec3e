"""Measured factors: exact for a single sample, averaged over the calls of a shared weight."""
from __future__ import annotations

import numpy as np
import pytest
from mindspore import Tensor, nn, ops

from tests.helpers import reference as ref
from thor import THOR
from thor.layers import EmbeddingLayer
from thor.train import make_train_step

pytestmark = pytest.mark.usefixtures("pynative")


class Linear(nn.Cell):
    """``sum(net(x) * t)``: the gradient at the output is ``t``, whatever the weights are."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def construct(self, x, t):
        return (self.network(x) * t).sum()


class Twice(nn.Cell):
    """Two layers (perhaps the same, or with the same weight), one on each input; outputs summed up."""

    def __init__(self, first, second):
        super().__init__()
        self.first, self.second = first, second

    def construct(self, x, t, x2, t2):
        return (self.first(x) * t).sum() + (self.second(x2) * t2).sum()


def train_one_step(network, *batch, batch_size=None, **options):
    """The optimizer and the weights before one step of lr 1; a running average starts with what it sees.

    The losses here are sums; with a ``batch_size`` they are taken for means over so many samples.
    """
    reduction = {"loss_reduction": "sum"} if batch_size is None else {"batch_size": batch_size}
    optimizer = THOR(network, 1.0, 0.1, 0.0, split_dim=None, running_average=0.5, **reduction, **options)
    before = {p.name: p.asnumpy().copy() for p in network.trainable_params()}
    make_train_step(network, optimizer)(*[Tensor(array) for array in batch])
    return optimizer, before


def factors_of(optimizer, index=0):
    layer = optimizer.registration.layers[index]
    return [layer.factor_parameters[role].asnumpy().astype(np.float64) for role in ("a", "g")]


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(0, 1, shape).astype(np.float32)


@pytest.mark.parametrize("layer, shape, out", [
    (lambda: nn.Dense(4, 3), (1, 4), (1, 3)),
    (lambda: nn.Conv2d(2, 3, (2, 3), pad_mode="valid"), (1, 2, 2, 3), (1, 3, 1, 1)),
], ids=["dense", "conv"])
def test_single_sample_factors_are_the_outer_product_of_its_gradient(layer, shape, out):
    x, t = normal(*shape), normal(*out, seed=1)
    optimizer, _ = train_one_step(Linear(layer()), x, t)
    a, g = factors_of(optimizer)
    gradient = np.outer(t.reshape(-1), x.reshape(-1)).reshape(-1).astype(np.float64)  # d x', row-major
    np.testing.assert_allclose(np.kron(g[0], a[0]), np.outer(gradient, gradient), rtol=2e-6, atol=1e-7)


def test_single_sample_bias_is_exact_when_folded():
    x, t = normal(1, 4), normal(1, 3, seed=1)
    optimizer, _ = train_one_step(Linear(nn.Dense(4, 3)), x, t, fold_bias=True)
    a, g = factors_of(optimizer)
    gradient = np.outer(t[0], np.append(x[0], 1.0)).reshape(-1).astype(np.float64)
    np.testing.assert_allclose(np.kron(g[0], a[0]), np.outer(gradient, gradient), rtol=2e-6, atol=1e-7)


def test_single_id_embedding_is_exact():
    t = normal(1, 1, 3)
    optimizer, _ = train_one_step(Linear(nn.Embedding(4, 3)), np.int32([[2]]), t)
    a, g = factors_of(optimizer)
    gradient = np.zeros((4, 3))
    gradient[2] = t[0, 0]
    np.testing.assert_allclose(np.kron(np.diag(a), g[0]), np.outer(gradient, gradient), rtol=1e-6, atol=1e-7)


def test_single_sample_batch_norm_blocks_are_exact():
    x, t = normal(1, 2, 3, 2), normal(1, 2, 3, 2, seed=1)
    optimizer, _ = train_one_step(Linear(nn.BatchNorm2d(2)).set_train(), x, t, batchnorm_blocks=True)
    images, d = x.reshape(2, -1).astype(np.float64), t.reshape(2, -1).astype(np.float64)
    normalised = (images - images.mean(1, keepdims=True)) / np.sqrt(images.var(1, keepdims=True) + 1e-5)
    gradients = np.stack([(d * normalised).sum(1), d.sum(1)], axis=1)
    expected = np.einsum("ci,cj->cij", gradients, gradients)
    blocks = optimizer.registration.layers[0].factor_parameters["unit"].asnumpy()
    np.testing.assert_allclose(blocks, expected, rtol=2e-5, atol=1e-6)


def test_g_is_of_per_sample_gradients():
    """With the gradient of a mean over the batch, d is per-sample / bs; G takes bs^2 back."""
    x, t = normal(5, 4), normal(5, 3, seed=1)
    optimizer, _ = train_one_step(Linear(nn.Dense(4, 3)), x, t / 5, batch_size=5)
    a, g = factors_of(optimizer)
    np.testing.assert_allclose(a[0], ref.second_moment(x), rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(g[0], ref.second_moment(t), rtol=1e-5, atol=1e-6)


def dense_cells(sharing):
    first = nn.Dense(4, 3)
    if sharing == "one cell":
        return first, first
    second = nn.Dense(4, 3)
    second.weight = first.weight
    return first, second


@pytest.mark.parametrize("sharing", ["one cell", "tied weights"])
def test_shared_dense_factors_are_the_mean_over_calls(sharing):
    x, t, x2, t2 = normal(5, 4), normal(5, 3, seed=1), normal(2, 4, seed=2), normal(2, 3, seed=3)
    network = Twice(*dense_cells(sharing))
    optimizer, before = train_one_step(network, x, t, x2, t2)
    assert len(optimizer.registration.layers) == 1
    a, g = factors_of(optimizer)
    expected_a = (ref.second_moment(x) + ref.second_moment(x2)) / 2
    expected_g = (ref.second_moment(t) + ref.second_moment(t2)) / 2
    np.testing.assert_allclose(a[0], expected_a, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(g[0], expected_g, rtol=1e-6, atol=1e-7)
    gradient = (t.T @ x + t2.T @ x2).astype(np.float64)
    update = ref.kronecker_update(gradient, expected_a, expected_g, 0.1)
    weight = network.first.weight
    np.testing.assert_allclose(before[weight.name] - weight.asnumpy(), update, rtol=1e-4, atol=1e-5)
    assert network.second.weight is weight


def test_shared_convolution_averages_positions_over_calls():
    conv = nn.Conv2d(1, 2, 2, pad_mode="valid")
    x, t = normal(2, 1, 3, 3), normal(2, 2, 2, 2, seed=1)
    x2, t2 = normal(2, 1, 4, 5, seed=2), normal(2, 2, 3, 4, seed=3)
    network = Twice(conv, conv)
    _, before = train_one_step(network, x, t, x2, t2)
    moments, gradient = [], np.zeros((2, 4))
    for images, d in ((x, t), (x2, t2)):
        rows = ref.im2col(images, (2, 2), (1, 1), (0, 0, 0, 0), (1, 1)).reshape(-1, 4)
        moments.append((ref.second_moment(rows), ref.second_moment(ref.group_maps(d, 1, 0))))
        gradient += ref.group_maps(d, 1, 0).T @ rows
    a, g = (sum(pair) / 2 for pair in zip(*moments))
    update = ref.kronecker_update(gradient, a, g, 0.1, positions=(4 + 12) / 2)
    np.testing.assert_allclose(before[conv.weight.name] - conv.weight.asnumpy(), update.reshape(2, 1, 2, 2),
                               rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("sharing", ["one cell", "tied weights"])
def test_shared_embedding_factors_are_the_mean_over_calls(sharing):
    first = nn.Embedding(4, 3)
    second = first
    if sharing == "tied weights":
        second = nn.Embedding(4, 3)
        second.embedding_table = first.embedding_table
    ids, t = np.int32([[0, 1], [1, 1]]), normal(2, 2, 3)
    ids2, t2 = np.int32([[3], [1]]), normal(2, 1, 3, seed=1)
    network = Twice(first, second)
    optimizer, before = train_one_step(network, ids, t, ids2, t2, batch_size=2)
    a, g = factors_of(optimizer)
    np.testing.assert_array_equal(a, np.array([1, 3 + 1, 0, 1]) / 2 / 2)
    expected_g = (ref.second_moment(t.reshape(-1, 3)) + ref.second_moment(t2.reshape(-1, 3))) / 2 * 4
    np.testing.assert_allclose(g[0], expected_g, rtol=1e-6, atol=1e-7)
    gradient = np.zeros((4, 3))
    for index, d in zip([*ids.reshape(-1), *ids2.reshape(-1)], [*t.reshape(-1, 3), *t2.reshape(-1, 3)]):
        gradient[index] += d
    update = ref.embedding_update(gradient, a, expected_g, 0.1)
    table = first.embedding_table
    np.testing.assert_allclose(before[table.name] - table.asnumpy(), update, rtol=1e-4, atol=1e-5)


def test_subsampled_batch_norm_has_the_blocks_of_every_second_sample():
    x, t = normal(5, 2, 3, 3), normal(5, 2, 3, 3, seed=1)
    optimizer, _ = train_one_step(Linear(nn.BatchNorm2d(2)).set_train(), x, t, batchnorm_blocks=True, subsample=2)
    x, t = x.astype(np.float64), t.astype(np.float64)
    normalised = (x - x.mean(axis=(0, 2, 3), keepdims=True)) / np.sqrt(x.var(axis=(0, 2, 3), keepdims=True) + 1e-5)
    gradients = np.stack([(t * normalised).sum(axis=(2, 3)), t.sum(axis=(2, 3))], axis=2)[::2]  # (3, channels, 2)
    expected = np.einsum("nci,ncj->cij", gradients, gradients) / 3
    blocks = optimizer.registration.layers[0].factor_parameters["unit"].asnumpy()
    np.testing.assert_allclose(blocks, expected, rtol=1e-4)


@pytest.mark.parametrize("layer, x, t", [
    (lambda: nn.Dense(4, 3), normal(7, 4), normal(7, 3, seed=1)),
    (lambda: nn.Conv2d(2, 3, 2, pad_mode="valid"), normal(5, 2, 3, 4), normal(5, 3, 2, 3, seed=1)),
    (lambda: nn.Embedding(6, 3), np.int32([[0], [2], [2], [1], [5], [1], [2], [4]]), normal(8, 1, 3, seed=1)),
], ids=["dense", "conv", "embedding"])
def test_subsampled_factors_are_those_of_every_second_row(layer, x, t):
    """A and G of the rows taken, an embedding's counts for each sample of the whole batch. Gradients stay."""
    network = Linear(layer())
    optimizer, before = train_one_step(network, x, t, subsample=2)
    taken = Linear(layer())
    expected, _ = train_one_step(taken, x[::2], t[::2])
    a, g = factors_of(expected)
    np.testing.assert_allclose(factors_of(optimizer)[0], a, rtol=1e-6)
    np.testing.assert_allclose(factors_of(optimizer)[1], g, rtol=1e-6)
    assert not np.array_equal(network.trainable_params()[0].asnumpy(), before[network.trainable_params()[0].name])


class Tied(nn.Cell):
    """A table that is looked up and decodes, in either order of definition."""

    def __init__(self, decoder_first):
        super().__init__()
        if decoder_first:
            self.decoder = nn.Dense(3, 5)
        self.table = nn.Embedding(5, 3)
        if not decoder_first:
            self.decoder = nn.Dense(3, 5)
        self.decoder.weight = self.table.embedding_table

    def construct(self, ids, t, h, t2):
        return (self.table(ids) * t).sum() + (self.decoder(h) * t2).sum()


@pytest.mark.parametrize("decoder_first", [False, True])
def test_a_tied_decoder_counts_both_uses_and_updates_the_table_once(decoder_first):
    ids, t = np.int32([[0, 1], [1, 4]]), normal(2, 2, 3)
    h, t2 = normal(6, 3, seed=1), normal(6, 5, seed=2)
    network = Tied(decoder_first)
    optimizer, before = train_one_step(network, ids, t, h, t2, batch_size=2)
    assert [type(layer) for layer in optimizer.registration.layers] == [EmbeddingLayer]
    a, g = factors_of(optimizer)
    squares = (t2.astype(np.float64) ** 2).mean(axis=0)
    of_lookup, of_decoder = np.array([1, 2, 0, 0, 1]) / 2, 6 * squares / squares.sum() / 2
    np.testing.assert_allclose(a, (of_lookup + of_decoder) / 2, rtol=1e-5)
    moments = ref.second_moment(t.reshape(-1, 3)), squares.sum() * ref.second_moment(h)
    expected_g = (moments[0] + moments[1]) / 2 * 4
    np.testing.assert_allclose(g[0], expected_g, rtol=1e-5, atol=1e-6)
    gradient = t2.T.astype(np.float64) @ h
    np.add.at(gradient, ids.reshape(-1), t.reshape(-1, 3))
    update = ref.embedding_update(gradient, a, expected_g, 0.1)
    table = network.table.embedding_table
    np.testing.assert_allclose(before[table.name] - table.asnumpy(), update, rtol=1e-4, atol=1e-5)
    assert network.decoder.weight is table
    assert "2 uses" in optimizer.registration_table()


def test_a_tied_decoder_of_one_row_is_exact_on_the_diagonal():
    """A x G of the decoder alone is the square of its gradient, vocabulary side cut to the diagonal."""
    h, t2 = normal(1, 3, seed=1), normal(1, 5, seed=2)
    network = Tied(False)
    optimizer, _ = train_one_step(network, np.int32([[0]]), np.zeros((1, 1, 3), np.float32), h, t2)
    a, g = factors_of(optimizer)
    gradient = t2.T.astype(np.float64) @ h
    for row in (1, 2, 3, 4):  # not looked up; each factor is the mean over two uses
        np.testing.assert_allclose(4 * a[row] * g[0], np.outer(gradient[row], gradient[row]), rtol=1e-5, atol=1e-7)


class Optional(nn.Cell):
    """The second layer does not run."""

    def __init__(self):
        super().__init__()
        self.used, self.unused = nn.Dense(3, 2), nn.Dense(3, 2)

    def construct(self, x, t):
        return (self.used(x) * t).sum()


def test_a_layer_that_did_not_run_keeps_its_curvature_and_counts_no_rejection():
    network = Optional()
    optimizer, before = train_one_step(network, normal(4, 3), normal(4, 2, seed=1))
    inverses = optimizer.inverses()
    np.testing.assert_array_equal(inverses["unused"]["a"], np.eye(3)[None])
    assert not np.array_equal(inverses["used"]["a"], np.eye(3)[None])
    np.testing.assert_array_equal(network.unused.weight.asnumpy(), before["unused.weight"])
    assert optimizer.rejected_blocks == 0


def test_measurements_do_not_change_the_gradients():
    """Gradients of the weights are those of the untouched network, bit for bit."""
    def gradients(network):
        weights = [p for p in network.trainable_params() if "factor" not in p.name]
        return [g.asnumpy() for g in ops.grad(network, None, weights)(Tensor(normal(3, 2, 5, 5)), Tensor(t))]

    t = normal(3, 4, 5, 5, seed=1)
    network = Linear(nn.Conv2d(2, 4, 3, has_bias=True))
    plain = gradients(network)
    THOR(network, 0.1, 0.1, 0.9)
    for got, expected in zip(gradients(network), plain, strict=True):
        np.testing.assert_array_equal(got, expected)
