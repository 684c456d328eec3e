"""The alpha-beta model against sums by hand."""
from __future__ import annotations

import pytest

from models.planner.network import Cluster, Link, Message, exposed, finish

CLUSTER = Cluster(8, Link(1e-5, 1e9), Link(2e-5, 5e8))


def test_ring_inside_a_node():
    """2 (R - 1) messages of an R-th: 6 x (10 us + 2 MB at 1 GB/s)."""
    assert CLUSTER.all_reduce(8e6, 4) == pytest.approx(6 * (1e-5 + 2e-3))
    assert CLUSTER.all_gather(8e6, 4) == pytest.approx(3 * (1e-5 + 2e-3))


def test_hierarchical_ring_over_two_nodes():
    """14 messages of 1 MB inside, then 2 of half a megabyte between the nodes."""
    inside, between = 1e-5 + 1e-3, 2e-5 + 0.5e6 / 5e8
    assert CLUSTER.all_reduce(8e6, 16) == pytest.approx(14 * inside + 2 * between)
    assert CLUSTER.all_gather(8e6, 16) == pytest.approx(7 * inside + between)


def test_bytes_a_device_sends():
    assert CLUSTER.all_reduce_bytes(8e6, 4) == pytest.approx(2 * 6e6)
    assert CLUSTER.all_reduce_bytes(8e6, 16) == pytest.approx(2 * 7e6 + 2 * 0.5e6)
    assert CLUSTER.all_gather_bytes(8e6, 4) == pytest.approx(6e6)


@pytest.mark.parametrize("collective", ["all_reduce", "all_gather", "all_reduce_bytes", "all_gather_bytes"])
def test_one_device_sends_nothing(collective):
    assert getattr(CLUSTER, collective)(8e6, 1) == 0


def test_the_number_of_nodes_is_rounded_up():
    assert [CLUSTER.shape(ranks) for ranks in (1, 8, 9, 16, 20)] == [(1, 1), (8, 1), (8, 2), (8, 2), (8, 3)]


def test_messages_queue_in_the_order_in_which_they_get_ready():
    assert finish([]) == 0
    assert finish([Message(5.0, 1.0), Message(1.0, 2.0), Message(2.0, 3.0)]) == 7.0  # 1-3, 3-6, 6-7
    assert finish([Message(5.0, 1.0), Message(1.0, 2.0)]) == 6.0


@pytest.mark.parametrize("overlap, seconds", [(0.0, 4.0), (1.0, 1.5), (0.5, 2.75)])
def test_only_what_outlasts_the_computation_is_exposed(overlap, seconds):
    """Messages from 1 to 4 and from 8 to 9 beside a computation until 7.5: 4 in all, 1.5 after it."""
    assert exposed([Message(1.0, 3.0), Message(8.0, 1.0)], 7.5, overlap) == pytest.approx(seconds)


def test_hidden_messages_cost_nothing():
    assert exposed([Message(0.0, 2.0)], 5.0, 1.0) == 0
