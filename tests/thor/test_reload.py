"""Parameters loaded into a step that is compiled already: it goes on from them as a new step does."""
from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from mindspore import Parameter, Tensor, nn
from mindspore.amp import DynamicLossScaleManager

from tests.helpers.training_cases import BATCH, Classifier, batches, loss_fn
from thor import THOR
from thor.companions import Lookahead
from thor.train import make_train_step

pytestmark = pytest.mark.slow


def state_of(cell):
    return {p.name: p.asnumpy().copy() for p in cell.get_parameters()}


def load(cell, state):
    ms.load_param_into_net(cell, {name: Parameter(Tensor(value.copy()), name=name) for name, value in state.items()},
                           strict_load=True)


def assert_same(got, expected):
    assert [name for name in expected if not np.array_equal(got[name], expected[name])] == []


def thor_step():
    network = Classifier()
    optimizer = THOR(network, 0.05, 0.3, 0.9, batch_size=BATCH, split_dim=4, frequency=2)
    return make_train_step(nn.WithLossCell(network, loss_fn()), optimizer)


def scaled_momentum():
    network = Classifier()
    optimizer = nn.Momentum(network.trainable_params(), 0.05, 0.9)
    return make_train_step(nn.WithLossCell(network, loss_fn()), optimizer, DynamicLossScaleManager(64.0, 2, 100))


@pytest.mark.parametrize("build", [thor_step, scaled_momentum])
def test_loaded_between_steps_training_repeats_itself_to_the_bit(build):
    step, data = build(), batches(3)
    step(*data[0])
    first = state_of(step)
    expected = []
    for batch in data[1:]:
        step(*batch)
        expected.append(state_of(step))
    load(step, first)
    assert_same(state_of(step), first)
    for batch, state in zip(data[1:], expected):
        step(*batch)
        assert_same(state_of(step), state)


@pytest.mark.usefixtures("pynative")
def test_loaded_between_steps_training_repeats_itself_operator_by_operator():
    step, data = thor_step(), batches(3)
    step(*data[0])
    first = state_of(step)
    step(*data[1])
    second = state_of(step)
    load(step, first)
    step(*data[1])
    assert_same(state_of(step), second)


def test_a_loop_of_ones_own_sees_what_is_loaded():
    network, data = Classifier(), batches(2)
    optimizer = THOR(network, 0.05, 0.3, 0.9, batch_size=BATCH, split_dim=4, frequency=2)
    with_loss = nn.WithLossCell(network, loss_fn())
    gradients = [ms.grad(with_loss, None, optimizer.parameters)(*batch) for batch in data]
    start = state_of(optimizer)
    optimizer(gradients[0])
    first = state_of(optimizer)
    optimizer(gradients[1])
    load(optimizer, start)
    optimizer(gradients[0])
    assert_same(state_of(optimizer), first)


def test_slow_weights_looked_at_between_steps_change_nothing():
    def trained(looks):
        network = Classifier()
        optimizer = Lookahead(THOR(network, 0.05, 0.3, 0.9, batch_size=BATCH, split_dim=4, frequency=2), 2, 0.5)
        step = make_train_step(nn.WithLossCell(network, loss_fn()), optimizer)
        for batch in batches(4):
            step(*batch)
            if looks:
                with optimizer.evaluation_weights():
                    assert_same({p.name: p.asnumpy() for p in optimizer.synchronisation.weights},
                                {p.name: slow.asnumpy() for p, slow in zip(optimizer.synchronisation.weights,
                                                                           optimizer.synchronisation.slow)})
        return state_of(step)

    assert_same(trained(True), trained(False))
