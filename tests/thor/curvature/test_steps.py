"""Curvature over several steps: stale inverses, running averages, blocks that cannot be inverted."""
from __future__ import annotations

import logging

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn, ops

from tests.helpers import reference as ref
from tests.helpers.layer_cases import BATCH, Branches, value
from tests.helpers.modes import BOTH_MODES
from thor import THOR
from thor.train import make_train_step

STEPS, FREQUENCY, RATE, MOMENTUM = 5, 2, 0.02, 0.9
DAMPING = [0.05, 0.1, 0.02, 0.2, 0.08]


def batches():
    """``(x, t, ids, t2)`` of each step."""
    rng = np.random.default_rng(11)

    def normal(*shape):
        return rng.normal(0, 1, shape).astype(np.float32)

    return [(normal(BATCH, 4), normal(BATCH, 3), rng.integers(0, 5, (BATCH, 2)).astype(np.int32),
             normal(BATCH, 2, 3)) for _ in range(STEPS)]


class Averaged:
    """K-FAC's running average, e = min(1 - 1/k, weight) at the k-th value."""

    def __init__(self, weight):
        self.weight, self.value, self.seen = weight, 0.0, 0

    def __call__(self, new):
        self.seen += 1
        e = min(1 - 1 / self.seen, self.weight)
        self.value = e * self.value + (1 - e) * new
        return self.value


def simulate(weight, table, average, split_dim, pi_correction):
    """Weights after each step, in float64."""
    weights, moments, history = [weight, table], [0.0, 0.0], []
    dense_a, dense_g, table_a, table_g = (Averaged(average) for _ in range(4))
    for step, (x, t, ids, t2) in enumerate(batches()):
        x, ids = x.astype(np.float64), ids.reshape(-1)
        d, d2 = (x @ weights[0].T - t) / BATCH, (weights[1][ids] - t2.reshape(-1, 3)) / BATCH
        gradient, counts = np.zeros_like(weights[1]), np.bincount(ids, minlength=5) / BATCH
        np.add.at(gradient, ids, d2)
        if step % FREQUENCY == 0:
            damping = DAMPING[step]
            a, g = dense_a(ref.second_moment(x)), dense_g(ref.second_moment(d) * BATCH ** 2)
            share, g2 = table_a(counts), table_g(ref.second_moment(d2) * BATCH ** 2)
            pi = ref.pi_of(a, g) if pi_correction else 1.0
        updates = [ref.kronecker_update(d.T @ x, a, g, damping, split_dim=split_dim, pi=pi),
                   ref.embedding_update(gradient, share, g2, damping, split_dim)]
        for i in (0, 1):
            weights[i], moments[i] = ref.momentum_update(weights[i], moments[i], updates[i], RATE, MOMENTUM)
        history.append(list(weights))
    return history


@pytest.mark.parametrize("mode, options", [
    pytest.param(ms.GRAPH_MODE, {"running_average": 0.8, "split_dim": 2}, marks=pytest.mark.slow),
    (ms.PYNATIVE_MODE, {"running_average": 0.8, "split_dim": 2}),
    (ms.PYNATIVE_MODE, {"split_dim": None}),
    (ms.PYNATIVE_MODE, {"running_average": 0.5, "split_dim": None, "pi_correction": True}),
])
def test_training_follows_the_equations_step_by_step(mode, options):
    ms.set_context(mode=mode)
    dense, embedding = nn.Dense(4, 3, has_bias=False), nn.Embedding(5, 3)
    network = Branches([dense, embedding])
    history = simulate(value(dense.weight), value(embedding.embedding_table),
                       options.get("running_average", 0.0), options["split_dim"],
                       options.get("pi_correction", False))
    optimizer = THOR(network, RATE, DAMPING, MOMENTUM, batch_size=BATCH, frequency=FREQUENCY, **options)
    step = make_train_step(network, optimizer)
    for batch, (weight, table) in zip(batches(), history):
        step(*[Tensor(array) for array in batch])
        np.testing.assert_allclose(dense.weight.asnumpy(), weight, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(embedding.embedding_table.asnumpy(), table, rtol=1e-4, atol=1e-5)


def gradients_of(optimizer, **by_name):
    """Gradients for ``optimizer(...)``: ones for weights, measurements of one call for factors."""
    gradients = []
    for parameter in optimizer.parameters:
        name = parameter.name.replace(".", "_")
        shape = parameter.shape
        default = np.broadcast_to(np.eye(shape[-1]), shape) if name.endswith(("_a", "_g")) else np.ones(shape)
        gradients.append(Tensor(np.asarray(by_name.pop(name, default), np.float32).reshape(shape)))
    assert not by_name
    return tuple(gradients)


INDEFINITE = np.float32([[1, 9], [9, 1]])
GOOD = np.float32([[2, 1], [1, 2]])


def curvature_of(optimizer):
    """Factors as ``layer.factor_a``, inverses as ``inverse_a.layer``."""
    state = {p.name: p.asnumpy().copy() for p in optimizer.get_parameters() if p.name.startswith("inverse_a")}
    for layer, roles in optimizer.inverses().items():
        state.update({f"inverse_{role}.{layer}": blocks for role, blocks in roles.items()})
    for layer in optimizer.registration.layers:
        for role in ("a", "g"):
            state[f"{layer.name}.factor_{role}"] = layer.factor_parameters[role].asnumpy().copy()
    return state


@BOTH_MODES
def test_bad_blocks_keep_their_last_good_inverse(mode):
    ms.set_context(mode=mode)
    network = nn.SequentialCell(nn.Dense(4, 2, has_bias=False), nn.Dense(2, 2, has_bias=False))
    optimizer = THOR(network, 0.0, 0.01, 0.0, batch_size=1, frequency=1, split_dim=2, running_average=0.5)
    optimizer(gradients_of(optimizer))
    before = curvature_of(optimizer)
    np.testing.assert_allclose(before["inverse_a.0"], np.stack([np.eye(2)] * 2) / 1.1, rtol=1e-6)

    optimizer(gradients_of(optimizer, **{"0_factor_a": [GOOD, INDEFINITE], "0_factor_g": GOOD * np.nan,
                                         "1_factor_g": GOOD}))
    assert optimizer.rejected_blocks == 2
    after, average = curvature_of(optimizer), (np.eye(2) + GOOD) / 2
    inverse = np.linalg.inv(average + 0.1 * np.eye(2))
    np.testing.assert_allclose(after["inverse_a.0"][0], inverse, rtol=1e-5)
    np.testing.assert_allclose(after["inverse_g.1"][0], inverse, rtol=1e-5)
    np.testing.assert_allclose(after["0.factor_a"][0], average, rtol=1e-6)
    np.testing.assert_array_equal(after["inverse_a.0"][1], before["inverse_a.0"][1])
    np.testing.assert_array_equal(after["0.factor_a"][1], before["0.factor_a"][1])
    np.testing.assert_array_equal(after["inverse_g.0"], before["inverse_g.0"])
    np.testing.assert_array_equal(after["0.factor_g"], before["0.factor_g"])

    optimizer(gradients_of(optimizer, **{"1_factor_a": np.full((2, 2), np.inf), "0_factor_g": GOOD}))
    assert optimizer.rejected_blocks == 3  # in all
    np.testing.assert_array_equal(curvature_of(optimizer)["inverse_a.1"], after["inverse_a.1"])
    np.testing.assert_allclose(curvature_of(optimizer)["0.factor_g"][0], average, rtol=1e-6)


def test_singular_factors_are_inverted_thanks_to_damping(pynative):
    network = nn.Dense(3, 2, has_bias=False)
    optimizer = THOR(network, 0.0, 1e-6, 0.0, batch_size=1, frequency=1)
    ones = np.ones((3, 3))
    optimizer(gradients_of(optimizer, factor_a=ones, factor_g=np.zeros((2, 2))))
    assert optimizer.rejected_blocks == 0
    expected, after = np.linalg.inv(ones + 1e-3 * np.eye(3)), curvature_of(optimizer)
    np.testing.assert_allclose(after["inverse_a.weight"][0], expected, atol=1e-3 * np.abs(expected).max())
    np.testing.assert_allclose(after["inverse_g.weight"][0], np.eye(2) * 1e3, rtol=1e-6)


class Product(nn.Cell):
    def __init__(self, dense):
        super().__init__()
        self.dense = dense

    def construct(self, x, t):
        return (self.dense(x) * t).sum()


def test_one_warning_and_an_exact_count(caplog):
    ms.set_context(mode=ms.PYNATIVE_MODE)
    dense = nn.Dense(3, 2, has_bias=False)
    optimizer = THOR(dense, 0.0, 0.1, 0.9, batch_size=2, frequency=2)
    step = make_train_step(Product(dense), optimizer)
    good = np.ones((2, 3), np.float32)
    huge = np.full((2, 3), 1e25, np.float32)  # A overflows; gradients, of outputs whose own are small, do not
    with caplog.at_level(logging.WARNING, logger="thor"):
        for count, x in [(0, good), (0, huge), (1, huge), (1, good), (2, huge), (2, huge), (2, good)]:
            step(Tensor(x), Tensor(np.full((2, 2), 1e-15 if x is huge else 1.0), ms.float32))
            assert optimizer.rejected_blocks == count
    messages = [record.getMessage() for record in caplog.records if record.name == "thor"]
    messages = [message for message in messages if "diverges" not in message]  # as the loss of this does
    assert len(messages) == 1
    assert messages[0].startswith("1 curvature blocks were not finite or not positive definite and kept")
    assert np.isfinite(dense.weight.asnumpy()).all()


def test_a_nan_batch_at_a_refresh_leaves_the_curvature():
    ms.set_context(mode=ms.PYNATIVE_MODE)
    dense = nn.Dense(3, 2, has_bias=False)
    optimizer = THOR(dense, 0.1, 0.1, 0.9, batch_size=2, frequency=1, running_average=0.5)
    step = make_train_step(Product(dense), optimizer)
    step(ops.ones((2, 3), ms.float32), ops.ones((2, 2), ms.float32))
    before = curvature_of(optimizer)
    step(Tensor(np.full((2, 3), np.nan, np.float32)), ops.ones((2, 2), ms.float32))
    assert optimizer.rejected_blocks == 1  # A alone: G sees the gradient at the output, which is finite here
    after = curvature_of(optimizer)
    for name in ("inverse_a.dense", "dense.factor_a"):
        np.testing.assert_array_equal(after[name], before[name])
    np.testing.assert_allclose(after["inverse_g.dense"], before["inverse_g.dense"], rtol=1e-6)
