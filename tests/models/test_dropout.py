"""Dropout with state in a parameter: rate, scale, independence, gradient, continuation."""
from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest

from models.dropout import Dropout

ONES = ms.Tensor(np.ones((200, 500), np.float32))


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_rate_and_scale(pynative, p):
    out = Dropout(p, seed=3).set_train()(ONES).asnumpy()
    assert (out == 0).mean() == pytest.approx(p, abs=0.006)  # four standard deviations
    np.testing.assert_allclose(out[out != 0], 1 / (1 - p), rtol=1e-6)


def test_calls_and_seeds_are_independent(pynative):
    cell = Dropout(0.5, seed=3).set_train()
    first, second = (cell(ONES).asnumpy() == 0 for _ in range(2))
    other = Dropout(0.5, seed=4).set_train()(ONES).asnumpy() == 0
    for one, two in ((first, second), (first, other), (first[:, 1:], first[:, :-1]), (first[1:], first[:-1])):
        assert (one & two).mean() == pytest.approx(0.25, abs=0.006)


@pytest.mark.parametrize("mode", [ms.GRAPH_MODE, ms.PYNATIVE_MODE])
def test_a_restored_state_repeats_what_followed(mode):
    ms.set_context(mode=mode)
    cell = Dropout(0.5, seed=3).set_train()
    cell(ONES)
    calls = int(cell.calls.asnumpy())
    expected = [cell(ONES).asnumpy() for _ in range(2)]
    other = Dropout(0.5, seed=3).set_train()
    other.calls.set_data(ms.Tensor(calls, ms.int32))
    for out in expected:
        np.testing.assert_array_equal(other(ONES).asnumpy(), out)
    cell.calls.set_data(ms.Tensor(calls, ms.int32))  # also where the graph is compiled already
    np.testing.assert_array_equal(cell(ONES).asnumpy(), expected[0])


@pytest.mark.parametrize("mode", [ms.GRAPH_MODE, ms.PYNATIVE_MODE])
def test_gradient_is_the_mask_and_one_call_is_one_draw(mode):
    ms.set_context(mode=mode)
    cell = Dropout(0.5, seed=3).set_train()
    value, gradient = ms.value_and_grad(cell, 0)(ONES)
    np.testing.assert_array_equal(gradient.asnumpy(), value.asnumpy())
    assert int(cell.calls.asnumpy()) == 1


def test_evaluation_changes_nothing():
    cell = Dropout(0.5, seed=3).set_train(False)
    np.testing.assert_array_equal(cell(ONES).asnumpy(), ONES.asnumpy())
    assert int(cell.calls.asnumpy()) == 0


def test_probability_out_of_range_is_named():
    with pytest.raises(ValueError, match="p=1.0; must be >= 0 and < 1"):
        Dropout(1.0, seed=1)
