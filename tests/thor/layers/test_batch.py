"""G is that of per-sample gradients, whatever the batch, the reduction of the loss and what it is multiplied with."""
from __future__ import annotations

import logging

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn, ops
from mindspore.amp import DynamicLossScaleManager

from tests.helpers import reference as ref
from tests.helpers.modes import BOTH_MODES
from tests.helpers.train_cells import OwnScale, divided
from thor import THOR, ConvertModelUtils
from thor.curvature import TracePolicy
from thor.inputs import samples_of
from thor.train import make_train_step

pytestmark = pytest.mark.usefixtures("pynative")
DAMPING = 0.1


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(0, 1, shape).astype(np.float32)


def batch(n):
    return normal(n, 4, seed=n), normal(n, 3, seed=n + 50)


class Loss(nn.Cell):
    """Mean (or sum) over samples of ``net(x) . t``, so that a sample's gradient at the output is ``t``."""

    def __init__(self, network, mean=True):
        super().__init__()
        self.network, self.mean = network, mean

    def construct(self, x, t):
        total = (self.network(x) * t).sum()
        return total / t.shape[0] if self.mean else total


def create(**options):
    network = nn.Dense(4, 3, weight_init=Tensor(normal(3, 4, seed=5)), has_bias=False)
    return network, THOR(network, 1.0, DAMPING, 0.0, split_dim=None, **{"batch_size": 8, **options})


def expected(*batches, gradient_of_sum=False):
    """The update of the mean loss (``gradient_of_sum``: of the sum) over batches of one size, in float64."""
    x, t = (np.concatenate(arrays).astype(np.float64) for arrays in zip(*batches))
    gradient = t.T @ x / (1 if gradient_of_sum else len(x))
    return ref.kronecker_update(gradient, ref.second_moment(x), ref.second_moment(t), DAMPING)


def assert_moved(network, update):
    np.testing.assert_allclose(normal(3, 4, seed=5) - network.weight.asnumpy(), update, rtol=2e-4, atol=1e-5)


def tensors(arrays):
    return [Tensor(array) for array in arrays]


@pytest.mark.parametrize("rows", [2, 8, 12, 16])
def test_the_rows_seen_count_not_those_said(rows, caplog):
    network, optimizer = create()
    with caplog.at_level(logging.WARNING, "thor"):
        step = make_train_step(Loss(network), optimizer)
        step(*tensors(batch(rows)))
        assert_moved(network, expected(batch(rows)))
        step(*tensors(batch(rows)))
    warned = [record.getMessage() for record in caplog.records]
    assert warned == ([] if rows == 8 else [
        f"batch_size=8; this step saw {rows} samples, and curvature is measured with those; give batch_size={rows} if "
        "that is what a device sees in one step"])


@BOTH_MODES
def test_a_small_batch_in_a_loop_of_ones_own(mode):
    ms.set_context(mode=mode)
    network, optimizer = create()
    gradients = ms.value_and_grad(Loss(network), None, optimizer.parameters)(*tensors(batch(2)))[1]
    optimizer(gradients)
    assert_moved(network, expected(batch(2)))


def test_samples_may_be_on_another_axis_than_the_first():
    """Positions first, as recurrent networks have them: the targets tell how many samples there are."""
    class PositionsFirst(Loss):
        def construct(self, x, t):
            return super().construct(x.sum(axis=0), t)

    network, optimizer = create(batch_size=6)
    x, t = batch(6)
    make_train_step(PositionsFirst(network), optimizer)(Tensor(np.stack((x, np.zeros_like(x)))), Tensor(t))
    assert_moved(network, expected((x, t)))


def mean_over_batches(batches, means):
    """Update, in float64, of an average of batches' gradients, whose curvature is the average of theirs."""
    batches = [tuple(array.astype(np.float64) for array in pair) for pair in batches]
    gradient = sum(t.T @ x / (len(x) if means else 1) for x, t in batches) / len(batches)
    a, g = (sum(ref.second_moment(pair[i]) for pair in batches) / len(batches) for i in (0, 1))
    return ref.kronecker_update(gradient, a, g, DAMPING)


@pytest.mark.parametrize("mode, sizes, reduction", [
    (ms.PYNATIVE_MODE, (4, 4), "mean"), (ms.PYNATIVE_MODE, (8, 2), "mean"), (ms.GRAPH_MODE, (8, 2), "mean"),
    (ms.PYNATIVE_MODE, (8, 2), "sum")], ids=["equal", "unequal", "unequal-graph", "unequal-sums"])
def test_micro_batches_count_what_they_have(mode, sizes, reduction, caplog):
    ms.set_context(mode=mode)
    network, optimizer = create(loss_reduction=reduction, update=TracePolicy(1, w1=0.01))
    batches = [batch(sizes[0]), tuple(array[::-1].copy() * 2 for array in batch(sizes[1]))]
    step = make_train_step(Loss(network, reduction == "mean"), optimizer, accumulate_steps=2)
    with caplog.at_level(logging.WARNING, "thor"):
        for arrays in batches:
            step(*tensors(arrays))
        assert_moved(network, mean_over_batches(batches, reduction == "mean"))
        trace = np.prod([sum(np.trace(ref.second_moment(pair[i])) for pair in batches) / 2 for i in (0, 1)])
        np.testing.assert_allclose(optimizer.curvature.choice.traces.asnumpy(), [trace], rtol=1e-5)
        step(*tensors(batches[0]))
    assert len(caplog.records) == 1 and f"this step saw {min(sizes)} samples" in caplog.text


class Picked(nn.Cell):
    """Mean over samples of ``table[ids] . t``."""

    def __init__(self, table):
        super().__init__()
        self.table = table

    def construct(self, ids, t):
        return (self.table(ids) * t).sum() / t.shape[0]


def test_ids_are_counted_a_sample_over_micro_batches():
    table = nn.Embedding(4, 3, embedding_table=Tensor(np.zeros((4, 3)), ms.float32))
    optimizer = THOR(table, 1.0, DAMPING, 0.0, batch_size=8, split_dim=None)
    step = make_train_step(Picked(table), optimizer, accumulate_steps=2)
    ids, t = [np.array([0, 1, 1, 3]), np.array([2, 0])], [normal(4, 3), normal(2, 3, seed=1)]
    for pair in zip(ids, t):
        step(Tensor(pair[0], ms.int32), Tensor(pair[1]))
    one_hot = [np.eye(4)[i] for i in ids]
    gradient = sum(rows.T @ d / len(d) for rows, d in zip(one_hot, t)) / 2
    counts = sum(rows.mean(axis=0) for rows in one_hot) / 2
    g = sum(ref.second_moment(d.astype(np.float64)) for d in t) / 2
    damped = np.linalg.inv(g + np.sqrt(DAMPING) * np.eye(3))
    update = (gradient / (counts[:, None] + np.sqrt(DAMPING))) @ damped
    np.testing.assert_allclose(-table.embedding_table.asnumpy(), update, rtol=2e-4, atol=1e-6)


def test_a_summed_loss_is_said_to_be_one():
    network, optimizer = create(loss_reduction="sum")
    make_train_step(Loss(network, mean=False), optimizer)(*tensors(batch(5)))
    assert_moved(network, expected(batch(5), gradient_of_sum=True))


def test_layer_norm_of_a_summed_loss_has_the_curvature_of_the_mean():
    x, t = normal(5, 3), normal(5, 3, seed=1)
    moved = []
    for mean, options in ((True, {}), (False, {"loss_reduction": "sum"})):
        network = nn.LayerNorm((3,))
        optimizer = THOR(network, 1.0, DAMPING, 0.0, batch_size=2, **options)
        make_train_step(Loss(network, mean), optimizer)(Tensor(x), Tensor(t))
        moved.append(np.stack([network.gamma.asnumpy() - 1.0, network.beta.asnumpy()]))
    normalised = (x - x.mean(axis=1, keepdims=True)) / x.std(axis=1, keepdims=True)
    gradients = np.stack([(t * normalised).mean(axis=0), t.mean(axis=0)]).astype(np.float64)
    update = ref.layer_norm_update(gradients, DAMPING, 5)
    np.testing.assert_allclose(moved[0], -update, rtol=1e-3)
    np.testing.assert_allclose(moved[1], -5 * update, rtol=1e-3)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_layer_norm_counts_the_samples_of_all_micro_batches(reduction):
    moved, mean = [], reduction == "mean"
    for parts in (1, 2):
        network = nn.LayerNorm((3,))
        optimizer = THOR(network, 1.0, DAMPING, 0.0, batch_size=8 // parts, loss_reduction="mean" if mean else "sum")
        step = make_train_step(Loss(network, mean), optimizer, accumulate_steps=parts)
        for rows in np.split(np.arange(8), parts):
            step(Tensor(normal(8, 3)[rows]), Tensor(normal(8, 3, seed=1)[rows]))
        moved.append(np.stack([network.gamma.asnumpy() - 1.0, network.beta.asnumpy()]))
    np.testing.assert_allclose(moved[1], moved[0] / (1 if mean else 2), rtol=1e-4)  # an average of two sums


@pytest.mark.parametrize("loss, said, message", [
    (nn.CrossEntropyLoss(reduction="sum"), "mean",
     "loss_reduction='mean'; must be 'sum', the reduction of this CrossEntropyLoss; give THOR loss_reduction='sum'"),
    (nn.MSELoss(), "sum", "loss_reduction='sum'; must be 'mean', the reduction of this MSELoss; give THOR "
                          "loss_reduction='mean'"),
])
def test_a_loss_known_to_reduce_in_another_way_is_refused(loss, said, message):
    network, optimizer = create(loss_reduction=said)
    with pytest.raises(ValueError) as error:
        make_train_step(nn.WithLossCell(network, loss), optimizer)
    assert str(error.value) == message


@BOTH_MODES
def test_a_train_cell_with_a_scale_of_its_own(mode):
    ms.set_context(mode=mode)
    network, optimizer = create(frequency=2)
    cell = OwnScale(Loss(network), optimizer)
    model = ConvertModelUtils.convert_to_thor_model(ms.Model(network), cell, optimizer=optimizer)
    assert cell.network.mean and [p.name for p in cell.network.trainable_params()] == ["network.weight"]
    for _ in range(3):  # the third refreshes, at four times the scale of the first
        before = network.weight.asnumpy().copy()
        model.train_network(*tensors(batch(8)))
    np.testing.assert_allclose(before - network.weight.asnumpy(), expected(batch(8)), rtol=2e-4, atol=1e-5)


def test_an_outlier_at_the_start_is_averaged_away():
    """K-FAC's weight min(1 - 1/k, 0.75): the mean of all factors up to the fourth refresh."""
    network, optimizer = create(frequency=1, running_average=0.75)
    step = make_train_step(Loss(network), optimizer)
    factors = []
    for k in range(6):
        x, t = batch(8)
        x = x * (100.0 if k == 0 else 1.0 + k / 6)
        step(Tensor(x), Tensor(t))
        factors.append(ref.second_moment(x))
        if k == 3:
            mean = np.mean(factors, axis=0)
            a = optimizer.registration.layers[0].factor_parameters["a"].asnumpy()[0]
            np.testing.assert_allclose(a, mean, rtol=1e-5)
    for factor in factors[4:]:
        mean = 0.75 * mean + 0.25 * factor
    a = optimizer.registration.layers[0].factor_parameters["a"].asnumpy()[0]
    np.testing.assert_allclose(a, mean, rtol=1e-5)


class Nested(Loss):
    def construct(self, pair):
        return super().construct(pair[0], pair[1])


def test_batches_may_be_nested_and_have_other_inputs():
    network, optimizer = create()
    make_train_step(Nested(network), optimizer)(tuple(tensors(batch(4))))
    assert_moved(network, expected(batch(4)))
    assert samples_of(((np_tensor(4), np_tensor(4)), np_tensor(8)), 8) == 4  # a weight for each of eight classes
    assert samples_of((np_tensor(1), np_tensor(8), np_tensor(8)), 8) == 8
    assert samples_of(({"x": np_tensor(3)}, 2.0), 8) == 3 and samples_of((), 8) == 8


def np_tensor(rows):
    return Tensor(np.zeros((rows, 2)), ms.float32)


@pytest.mark.parametrize("clip", [1.0, 0.3])
def test_micro_batches_summed_by_hand_are_one_batch(clip):
    """batch_size=8 and a loss halved for each of two micro-batches; a gradient clipped by hand changes nothing."""
    network, optimizer = create()
    differentiate = ms.value_and_grad(lambda x, t: Loss(network)(x, t) / 2, None, optimizer.parameters)
    x, t = batch(8)
    parts = [differentiate(Tensor(x[i:i + 4]), Tensor(t[i:i + 4]))[1] for i in (0, 4)]
    optimizer(tuple((first + second) * clip for first, second in zip(*parts)))
    assert_moved(network, clip * expected((x, t)))


class WithOutputs(Loss):
    def construct(self, x, t):
        y = self.network(x)
        return (y * t).sum() / t.shape[0], y


class OwnScaleOfSeveral(OwnScale):
    def construct(self, *inputs):
        loss, outputs = self.network(*inputs)
        sens = (ops.ones_like(loss) * self.loss_scale, ops.zeros_like(outputs))
        gradients = self.grad(self.network, self.weights)(*inputs, sens)
        gradients = self.divide(ops.partial(divided, self.loss_scale), gradients)
        return ops.depend(loss, self.optimizer(gradients))


def test_the_scale_of_a_train_cell_whose_network_returns_more_than_the_loss():
    network, optimizer = create()
    cell = OwnScaleOfSeveral(WithOutputs(network), optimizer)
    model = ConvertModelUtils.convert_to_thor_model(ms.Model(network), cell, optimizer=optimizer)
    model.train_network(*tensors(batch(8)))
    assert_moved(network, expected(batch(8)))


def test_a_loss_that_is_left_apart_is_a_sum():
    network, optimizer = create()
    with pytest.raises(ValueError, match="^loss_reduction='mean'; must be 'sum', the reduction of this SoftmaxCross"):
        make_train_step(nn.WithLossCell(network, nn.SoftmaxCrossEntropyWithLogits(sparse=True)), optimizer)


def test_a_second_step_has_its_own_loss_scale():
    network, optimizer = create()
    make_train_step(Loss(network), optimizer, DynamicLossScaleManager(2.0 ** 10))
    make_train_step(Loss(network), optimizer)(*tensors(batch(8)))
    assert_moved(network, expected(batch(8)))
