"""An update that is not finite is skipped and counted, in graphs, own loops and sinks; nothing is poisoned."""
from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from mindspore import DynamicLossScaleManager, Tensor, nn, ops

from tests.helpers.modes import compiled_once
from tests.helpers.training_cases import BATCH, CLASSES, Sink, arrays, create, state_of
from thor import THOR
from thor.train import make_train_step, skipped_updates

WARNING = ("the update of step {} was not finite and was skipped, as all such updates are (optimizer.skipped_updates "
           "counts them): look for NaN or Inf in the data; if there are none, raise the damping={} or lower the "
           "learning_rate={}")


def bad(pair, value):
    images = pair[0].copy()
    images[1, 2] = value
    return images, pair[1]


def state(optimizer):
    return [parameter.asnumpy().copy() for parameter in (*optimizer.weights, *optimizer.moments, optimizer.global_step)]


def warnings_of(caplog):
    return [record.getMessage() for record in caplog.records if "skipped" in record.getMessage()]


@compiled_once("poison", [{0: np.nan, 3: np.inf, 4: np.nan}, {1: np.inf, 6: np.inf}], ["at a refresh", "between"],
               "at a refresh")
def test_bad_batches_leave_no_trace(mode, caplog, poison):
    """At refreshes and between them: after good batches with bad ones among them as after the good ones alone."""
    ms.set_context(mode=mode)
    data, ended = arrays(9), []
    _, with_loss, optimizer = create()
    step = make_train_step(with_loss, optimizer)
    start = state_of(step)
    for batches in ([pair for i, pair in enumerate(data) if i not in poison],
                    [bad(pair, poison[i]) if i in poison else pair for i, pair in enumerate(data)]):
        for parameter in step.get_parameters():
            ops.assign(parameter, Tensor(start[parameter.name]))
        for pair in batches:
            step(*(Tensor(array) for array in pair))
        ended.append(state(optimizer))
        assert skipped_updates(step) == optimizer.skipped_updates == len(batches) - (9 - len(poison))
    for without, with_bad in zip(*ended):
        np.testing.assert_array_equal(with_bad, without)
    first = min(poison)
    rate, damping = (0.1, 0.3) if first == 0 else (0.08, 0.2)
    assert warnings_of(caplog) == [WARNING.format(first, damping, rate)]
    assert "diverges" not in caplog.text


class Rectified(nn.Cell):
    """Two Dense layers: NaN in the input leaves the loss finite, for ReLU makes 0 of it on the CPU."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Dense(4, 5, activation="relu"), nn.Dense(5, CLASSES)

    def construct(self, x):
        return self.second(self.first(x))


def test_a_finite_loss_hides_nothing(pynative, caplog):
    network = Rectified()
    optimizer = THOR(network, 0.1, 0.1, 0.9, batch_size=BATCH, frequency=2)
    step = make_train_step(nn.WithLossCell(network, nn.CrossEntropyLoss()), optimizer)
    good, other = arrays(2)
    step(*(Tensor(array) for array in good))
    before = state(optimizer)
    loss = step(*(Tensor(array) for array in bad(other, np.nan)))
    assert np.isfinite(loss.asnumpy()) and optimizer.skipped_updates == 1
    for now, then in zip(state(optimizer), before):
        np.testing.assert_array_equal(now, then)


@pytest.mark.parametrize("damping, gradient", [(0.1, np.nan), (0.1, -np.inf), (1e-30, 1e25)])
def test_a_loop_of_ones_own(pynative, caplog, damping, gradient):
    """The last is finite before it is preconditioned, with a damping that is far too small."""
    network = nn.Dense(3, 2, has_bias=False)
    optimizer = THOR(network, 0.1, damping, 0.9, batch_size=BATCH, frequency=1)
    before = state(optimizer)
    gradients = [Tensor(np.zeros(parameter.shape), ms.float32) for parameter in optimizer.parameters]
    gradients[0] = Tensor(np.array([[0, gradient, 0], [0, 0, 1]]), ms.float32)
    if damping == 1e-30:
        inverse = optimizer.curvature.batches[0].inverses
        inverse.set_data(inverse / np.sqrt(damping))
    applied = optimizer.apply_update(tuple(gradients[:1]))
    assert not applied.asnumpy() and optimizer.skipped_updates == 1
    for now, then in zip(state(optimizer), before):
        np.testing.assert_array_equal(now, then)
    finite = tuple(Tensor(np.zeros(parameter.shape), ms.float32) for parameter in optimizer.parameters)
    for _ in range(2):
        optimizer(finite)
    assert len(warnings_of(caplog)) == 1


def test_in_a_sink(caplog):
    ms.set_context(mode=ms.GRAPH_MODE)
    data = arrays(5)
    _, with_loss, optimizer = create()
    sink = Sink(make_train_step(with_loss, optimizer))
    for i, pair in enumerate(data):
        before = state(optimizer)
        sink(*(Tensor(array) for array in (bad(pair, np.nan) if i in (0, 2) else pair)))
        same = all((now == then).all() for now, then in zip(state(optimizer), before))
        assert same == (i in (0, 2))
    assert optimizer.skipped_updates == 2


def test_steps_that_overflow_count_too(pynative):
    _, with_loss, optimizer = create()
    step = make_train_step(with_loss, optimizer, DynamicLossScaleManager(2.0 ** 10))
    for i, pair in enumerate(arrays(4)):
        step(*(Tensor(array) for array in (bad(pair, np.inf) if i in (1, 2) else pair)))
    assert skipped_updates(step) == 2 and optimizer.skipped_updates == 0
