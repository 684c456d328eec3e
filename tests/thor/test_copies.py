"""Copies of tapped networks (weight averages, teachers) are plain networks of their own."""
from __future__ import annotations

import copy

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn

from tests.helpers.training_cases import Classifier, assert_same_weights, batches, create, loss_fn, weights_of
from thor import THOR
from thor.layers import Tap
from thor.train import make_train_step


def taps_of(network):
    return [cell for _, cell in network.cells_and_names() if isinstance(cell, Tap)]


def outputs_of(network):
    return network.set_train(False)(batches(1)[0][0]).asnumpy()


def test_a_copy_is_independent_and_untapped(pynative):
    network, with_loss, optimizer = create()
    plain, plain_loss, plain_optimizer = create()
    step, plain_step = make_train_step(with_loss, optimizer), make_train_step(plain_loss, plain_optimizer)
    data = batches(5)
    for batch in data[:2]:
        step(*batch), plain_step(*batch)
    teacher = copy.deepcopy(network)
    weights, outputs = weights_of(network), outputs_of(network)
    taps = [id(tap) for tap in taps_of(network)]
    np.testing.assert_array_equal(outputs_of(teacher), outputs)
    assert [p.name for p in teacher.get_parameters()] == [p.name for p in Classifier().get_parameters()]
    assert all(tap.recorder is None and not tap.recording for tap in taps_of(teacher))
    network.set_train()
    for batch in data[2:]:  # one of them refreshes
        step(*batch), plain_step(*batch)
    assert_same_weights(network, weights_of(plain), rtol=1e-6, atol=1e-7)
    assert [id(tap) for tap in taps_of(network)] == taps and optimizer.unmeasured_layers == []
    assert_same_weights(teacher, weights, rtol=0, atol=0)
    np.testing.assert_array_equal(outputs_of(teacher), outputs)


def test_a_copy_of_a_copy_and_of_what_holds_the_network(pynative):
    network, with_loss, _ = create()
    expected = outputs_of(network)
    np.testing.assert_array_equal(outputs_of(copy.deepcopy(copy.deepcopy(network))), expected)
    held = copy.deepcopy(with_loss)
    images, labels = batches(1)[0]
    np.testing.assert_array_equal(held(images, labels).asnumpy(), with_loss(images, labels).asnumpy())
    assert not {id(tap) for tap in taps_of(held)} & {id(tap) for tap in taps_of(with_loss)}


@pytest.mark.parametrize("train_first", ["original", "copy"])
def test_another_optimizer_on_the_copy(pynative, train_first):
    network, with_loss, optimizer = create(frequency=2)
    teacher = copy.deepcopy(network)
    other = THOR(teacher, [0.1, 0.08, 0.06], [0.3, 0.2], 0.9, weight_decay=1e-3, batch_size=4, frequency=2, split_dim=4)
    assert other.registration_table() == optimizer.registration_table()
    steps = [make_train_step(with_loss, optimizer), make_train_step(nn.WithLossCell(teacher, loss_fn()), other)]
    for batch in batches(3):  # two refreshes
        for step in steps if train_first == "original" else reversed(steps):
            step(*batch)
    assert_same_weights(teacher, weights_of(network), rtol=1e-6, atol=1e-7)
    assert optimizer.unmeasured_layers == other.unmeasured_layers == []
    assert all(tap.recorder is not None and not isinstance(tap.operator, Tap) for tap in taps_of(teacher))


def test_parameters_load_both_ways(pynative, tmp_path):
    network, with_loss, optimizer = create()
    teacher = copy.deepcopy(network)
    step = make_train_step(with_loss, optimizer)
    for batch in batches(2):
        step(*batch)
    trained = weights_of(network)
    for source, target in ((network, teacher), (teacher, network)):
        for parameter in target.get_parameters():
            parameter.set_data(parameter * 0)
        path = str(tmp_path / "network.ckpt")
        ms.save_checkpoint(source, path)
        assert ms.load_param_into_net(target, ms.load_checkpoint(path), strict_load=True) == ([], [])
        assert_same_weights(target, trained, rtol=0, atol=0)
    np.testing.assert_array_equal(outputs_of(teacher), outputs_of(network))
