"""When curvature refreshes, and every way to train gives the same weights.

A step in another graph, see ``test_step_outputs``; how often graphs are compiled, see ``test_convert``.
"""
from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from mindspore import Model, Tensor, nn, ops

from tests.helpers.modes import BOTH_MODES
from tests.helpers.training_cases import (
    Classifier,
    Refreshes,
    assert_same_weights,
    batches,
    create,
    dataset,
    loss_fn,
    state_of,
    weights_of,
)
from thor import ConvertModelUtils
from thor.train import make_train_step

STEPS = 7


@pytest.fixture(scope="module")
def expected():
    """Weights after ``STEPS`` steps of make_train_step in PyNative mode."""
    ms.set_context(mode=ms.PYNATIVE_MODE)
    network, with_loss, optimizer = create()
    run(make_train_step(with_loss, optimizer))
    ms.set_context(mode=ms.GRAPH_MODE)
    return weights_of(network)


def run(step, count=STEPS):
    return [float(step(*batch).asnumpy()) for batch in batches(count)]


@pytest.mark.parametrize("frequency, steps, refreshes", [(1, 3, [0, 1, 2]), (7, 8, [0, 7]), (100, 4, [0])])
def test_curvature_refreshes_exactly_every_frequency_steps(pynative, frequency, steps, refreshes):
    """Every third step, see the other tests of this file."""
    _, with_loss, optimizer = create(frequency=frequency)
    step, record = make_train_step(with_loss, optimizer), Refreshes(optimizer)
    for batch in batches(steps):
        step(*batch)
        record.note()
    assert record.steps == refreshes
    np.testing.assert_array_equal(optimizer.global_step.asnumpy(), [steps])


def test_train_cell_of_mindspore(pynative, expected):
    """Compiled, it is that of ``test_model_without_conversion``."""
    network, with_loss, optimizer = create()
    run(nn.TrainOneStepCell(with_loss, optimizer).set_train())
    assert_same_weights(network, expected)


def test_gradients_of_the_network_alone_are_refused(pynative):
    network, with_loss, optimizer = create()
    gradients = ms.value_and_grad(with_loss, None, network.trainable_params())(*batches(1)[0])[1]
    with pytest.raises(ValueError, match=f"^gradients has {len(gradients)} entries; must be "
                                         f"{len(optimizer.parameters)}, one for each of .*; differentiate with "
                                         "respect to optimizer.parameters"):
        optimizer(gradients)


@BOTH_MODES
def test_hand_written_loop(expected, mode):
    ms.set_context(mode=mode)
    network, with_loss, optimizer = create()
    gradients = ms.value_and_grad(with_loss, None, optimizer.parameters)
    with_loss.set_train()
    for batch in batches(STEPS):
        optimizer(gradients(*batch)[1])
    assert_same_weights(network, expected)


def clipped_weights(clip):
    network, with_loss, optimizer = create()
    gradients = ms.value_and_grad(with_loss, None, optimizer.parameters)
    for batch in batches(4):  # two refreshes
        optimizer(clip(gradients(*batch)[1], optimizer.weight_indices))
    return network


def test_measurements_do_not_change_a_global_clip(pynative):
    def clip_all(gradients, plain):
        return ops.clip_by_global_norm(gradients, 0.05)

    def clip_weights_only(gradients, plain):
        norm = np.sqrt(sum((gradients[i].asnumpy().astype(np.float64) ** 2).sum() for i in plain))
        assert norm > 0.1, "nothing is clipped"
        factor = Tensor(np.float32(0.05 / norm))
        return tuple(g * factor if i in plain else g for i, g in enumerate(gradients))

    assert_same_weights(clipped_weights(clip_all), weights_of(clipped_weights(clip_weights_only)))


@pytest.mark.slow
def test_model_without_conversion(expected):
    network, _, optimizer = create()
    Model(network, loss_fn(), optimizer).train(1, dataset(STEPS), dataset_sink_mode=False)
    assert_same_weights(network, expected)


class MyTrainCell(nn.TrainOneStepCell):
    """A train cell of the user's, with a construct of its own."""

    def construct(self, x, y):
        loss = self.network(x, y)
        gradients = self.grad(self.network, self.weights)(x, y, ops.ones_like(loss))
        return ops.depend(loss, self.optimizer(self.grad_reducer(gradients)))


@pytest.mark.parametrize("given, mode", [
    pytest.param(True, ms.GRAPH_MODE, marks=pytest.mark.slow, id="given"),
    pytest.param(False, ms.PYNATIVE_MODE, id="found")])
def test_a_train_cell_of_the_users(expected, given, mode):
    ms.set_context(mode=mode)
    network, with_loss, optimizer = create()
    cell = MyTrainCell(with_loss, optimizer)
    optional = {"optimizer": optimizer} if given else {}
    model = ConvertModelUtils().convert_to_thor_model(Model(cell), cell, **optional)
    record = Refreshes(optimizer)
    model.train(1, dataset(STEPS), callbacks=record, dataset_sink_mode=False)
    assert record.steps == [0, 3, 6]
    assert_same_weights(network, expected)
    graphs = model.train_network.second_order, model.train_network.stale
    assert [len(graph.compile_cache) for graph in graphs] == ([1, 1] if mode == ms.GRAPH_MODE else [0, 0])


def test_losses_are_those_before_the_update(pynative):
    network, with_loss, optimizer = create()
    step = make_train_step(with_loss, optimizer)
    for batch in batches(4):
        before = float(with_loss(*batch).asnumpy())
        assert float(step(*batch).asnumpy()) == pytest.approx(before, rel=1e-6)


def test_other_optimizers_have_one_graph():
    network = Classifier()
    optimizer = nn.Momentum(network.trainable_params(), 0.1, 0.9)
    step = make_train_step(nn.WithLossCell(network, loss_fn()), optimizer)
    run(step)
    other = Classifier()
    theirs = nn.TrainOneStepCell(nn.WithLossCell(other, loss_fn()),
                                 nn.Momentum(other.trainable_params(), 0.1, 0.9)).set_train()
    run(theirs)
    assert len(step.compile_cache) == 1
    assert_same_weights(network, weights_of(other), rtol=1e-6)


def test_everything_that_must_survive_is_a_parameter(pynative, tmp_path):
    """Restored into fresh objects off a refresh step, training goes on bit for bit."""
    def fresh():
        network, with_loss, optimizer = create(running_average=0.5)
        manager = ms.DynamicLossScaleManager(1024, 2, 3)
        return make_train_step(with_loss, optimizer, manager, accumulate_steps=2)

    data = batches(8)
    whole = fresh()
    for batch in data[:5]:  # within a micro-batch of a stale step
        whole(*batch)
    path = str(tmp_path / "step.ckpt")
    ms.save_checkpoint(whole, path)
    for batch in data[5:]:
        whole(*batch)
    resumed = fresh()
    missing, unused = ms.load_param_into_net(resumed, ms.load_checkpoint(path), strict_load=True)
    assert missing == [] and unused == []
    for batch in data[5:]:
        resumed(*batch)
    expected, got = state_of(whole), state_of(resumed)
    assert list(expected) == list(got)
    for name in expected:
        np.testing.assert_array_equal(got[name], expected[name], err_msg=name)
    assert resumed.optimizer.global_step.asnumpy() == [4]
