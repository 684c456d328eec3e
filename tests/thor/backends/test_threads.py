"""Host arithmetic on all cores: every item once, errors told, memory used again by one thread only."""
import threading

import numpy as np
import pytest

from thor.backends import blas, host
from thor.backends.threads import for_each, scratch


@pytest.mark.parametrize("count", [0, 1, 2, 3, 500])
def test_every_item_is_done_once(count):
    done = np.zeros(count, np.int64)

    def add(index):
        done[index] += 1

    for_each(add, list(range(count)))
    assert (done == 1).all()


def test_an_error_in_any_item_reaches_the_caller():
    def fail(index):
        if index == 37:
            raise ArithmeticError("item 37")

    with pytest.raises(ArithmeticError, match="item 37"):
        for_each(fail, list(range(64)))
    for_each(lambda index: None, list(range(64)))  # and nothing stays locked


def test_blas_has_its_threads_back_afterwards():
    before = [entry["num_threads"] for entry in blas.libraries().info()]
    for_each(lambda index: None, list(range(8)))
    assert [entry["num_threads"] for entry in blas.libraries().info()] == before


def test_scratch_is_the_same_memory_for_a_role_and_another_for_each_thread():
    first = scratch("test", (4, 8))
    assert np.shares_memory(first, scratch("test", (2, 3)))
    assert not np.shares_memory(first, scratch("test of another role", (4, 8)))
    others = []
    thread = threading.Thread(target=lambda: others.append(scratch("test", (4, 8))))
    thread.start()
    thread.join()
    assert not np.shares_memory(first, others[0])


@pytest.mark.parametrize("positions", [host.DIRECT_POSITIONS - 1, host.DIRECT_POSITIONS])
def test_both_ways_through_a_map_give_its_second_moment(positions):
    maps = np.random.default_rng(6).standard_normal((3, 20, positions), np.float32)
    blocks = host.covariance_of_maps(maps, np.zeros((4, 8, 8), np.float32), 2, 0.5)
    rows = maps.transpose(1, 0, 2).reshape(20, -1).astype(np.float64)
    whole = 0.5 * rows @ rows.T / rows.shape[1]
    for place, (first, last) in enumerate(((0, 8), (8, 10), (10, 18), (18, 20))):
        width = last - first
        np.testing.assert_allclose(blocks[place, :width, :width], whole[first:last, first:last], atol=2e-6)
        assert (blocks[place, width:] == 0).all() and (blocks[place, :, width:] == 0).all()


def test_the_same_input_gives_the_same_bits():
    maps = np.random.default_rng(7).standard_normal((4, 500, 40), np.float32)

    def blocks():
        return host.covariance_of_maps(maps, np.zeros((4, 128, 128), np.float32), 1, 1.0)

    first = blocks()
    for _ in range(20):
        assert np.array_equal(first, blocks())
