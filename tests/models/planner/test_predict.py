"""Memory, step time and traffic of a small job against counts by hand."""
from __future__ import annotations

import dataclasses

import pytest

from models.planner.predict import DATA, HYBRID, busiest_cost, gathered_bytes, memory, ready_times, step_time, traffic
from tests.helpers.planner_cases import PROFILE, job

TRIANGLES = (6 + 3 + 6) + (3 + 10 + 6)  # numbers sent: A and G of both layers and their statistics
BLOCKS = (9 + 4) + (4 + 16)


def test_compute_of_one_device():
    step = step_time(job(), PROFILE, 1, DATA)
    forward = 2 * 5 * (6 + 8)
    assert step.forward_backward == 3 * forward
    assert step.precondition == 2 * (3 * 4 + 2 * 9) + 2 * (2 * 16 + 4 * 4)
    assert step.covariance == 5 * (9 + 4 + 4 + 16)
    assert step.inverse == 27 + 8 + 8 + 64
    assert (step.im2col, step.packing, step.gradients, step.reductions, step.gather) == (0, 0, 0, 0, 0)
    assert step.first_order == 3 * forward
    assert step.stale == step.first_order + step.precondition
    assert step.refresh == step.stale + step.covariance + step.inverse
    assert step.amortised == pytest.approx((9 * step.stale + step.refresh) / 10)
    assert step.overhead == pytest.approx(step.amortised / step.first_order - 1)


def test_communication_of_two_devices_that_cannot_overlap():
    step = step_time(job(), PROFILE, 2, DATA)
    assert step.gradients == 4 * 20  # on a ring of two each device sends as much as the message holds
    assert step.reductions == pytest.approx(4 * (20 + TRIANGLES))
    assert step.packing == 4 * (2 * TRIANGLES + BLOCKS + 12)
    assert step.gather == 0


def test_communication_hides_behind_the_backward_pass():
    """All of it but the last group, which is ready when the backward pass ends."""
    overlapping = dataclasses.replace(PROFILE, overlap=1.0)
    assert step_time(job(), overlapping, 2, DATA).gradients == pytest.approx(4 * 20)
    cut = job(gradient_cuts=(1, 3))
    assert step_time(cut, overlapping, 2, DATA).gradients == pytest.approx(4 * 8)


def test_parameters_that_are_not_fused_cost_a_message_each():
    profile = dataclasses.replace(PROFILE, fuses_gradients=False, intra_node_latency=1000.0)
    assert step_time(job(), profile, 2, DATA).gradients == pytest.approx(4 * 2 * 1000 + 4 * 20)


def test_backward_leaves_layers_from_the_last_to_the_first():
    """Forward 140, backward 280 of it 160 for the last layer; factors 10 and 20."""
    assert ready_times(job(), 420.0, [10.0, 20.0]) == pytest.approx([450.0, 320.0])


def test_hybrid_shares_the_inverses_and_gathers_them():
    """Blocks 2, 2, 3, 4: device 0 inverts 4, device 1 the others."""
    step = step_time(job(), PROFILE, 2, HYBRID)
    assert step.inverse == 64 == busiest_cost([2, 2, 3, 4], 2)
    per_size = 2 * (2 * (4 + 2)) + 2 * (9 + 2) + 2 * (16 + 2)  # contributions of both, the larger count for each size
    assert sum(gathered_bytes(job(), 2, HYBRID)) == 4 * per_size
    assert step.gather == pytest.approx(4 * per_size / 2)
    assert gathered_bytes(job(), 2, DATA) == gathered_bytes(job(), 1, HYBRID) == []


@pytest.mark.parametrize("sizes, owners, cost", [
    ([2] * 5, 2, 24), ([4, 2, 2, 2], 2, 64), ([4, 2], 3, 64), ([3], 1, 27)])
def test_busiest_owner(sizes, owners, cost):
    assert busiest_cost(sizes, owners) == cost


def test_micro_batches_repeat_all_but_preconditioning_and_inverses():
    one, three = (step_time(job(micro_batches=n), PROFILE, 2, DATA) for n in (1, 3))
    for name in ("forward_backward", "gradients", "covariance", "packing", "reductions"):
        assert getattr(three, name) == pytest.approx(3 * getattr(one, name))
    assert (three.precondition, three.inverse) == (one.precondition, one.inverse)


def test_memory_by_hand():
    parts = memory(job(), dataclasses.replace(PROFILE, activation_bytes=2), 2, HYBRID)
    assert parts == {
        "weights": 84, "momentum": 80, "gradients": 80, "factors": 4 * (BLOCKS + 12),
        "measured factors": 4 * (BLOCKS + 12), "inverses": 4 * BLOCKS, "packed factors and their sums": 8 * TRIANGLES,
        "gathered inverses": sum(gathered_bytes(job(), 2, HYBRID)), "activations (estimate)": 60,
        "total, at least": sum(value for name, value in parts.items() if not name.startswith("total"))}
    assert memory(job(), PROFILE, 1, DATA)["packed factors and their sums"] == 0
    assert memory(job(micro_batches=2), PROFILE, 1, DATA)["gradients"] == 80 + 80 + 4 * (BLOCKS + 12)


def test_traffic_by_hand():
    sent = traffic(job(), PROFILE, 4, DATA)
    ring = 2 * 3 / 4
    assert sent["gradients"] == pytest.approx(ring * 80)
    assert sent["factors"] == pytest.approx(ring * 4 * TRIANGLES)
    assert sent["inverses whole, instead"] == pytest.approx(ring * 4 * BLOCKS)
    gathered = sum(gathered_bytes(job(), 4, HYBRID))
    assert traffic(job(), PROFILE, 4, HYBRID)["inverses"] == pytest.approx(gathered * 3 / 4)
