"""From seconds to rates and links."""
from __future__ import annotations

import dataclasses

import pytest

from models.planner.measure import assumed, fit_link, profile_of
from models.planner.network import Cluster, Link
from models.planner.predict import DATA, step_time
from tests.helpers.planner_cases import PROFILE, job


@pytest.mark.parametrize("ranks", [2, 8])
def test_a_link_is_recovered_from_its_all_reduces(ranks):
    link = Link(2.5e-4, 4e8)
    sizes = (2 ** 12, 2 ** 16, 2 ** 20, 2 ** 24)
    found = fit_link(sizes, [Cluster(8, link, link).all_reduce(size, ranks) for size in sizes], ranks)
    assert (found.latency, found.bandwidth) == (pytest.approx(link.latency, rel=1e-3),
                                                pytest.approx(link.bandwidth, rel=1e-3))


def test_a_link_is_never_free():
    found = fit_link((1e3, 1e6), (1e-9, 1e-3), 2)
    assert found.latency > 0 and found.bandwidth > 0


def test_a_profile_predicts_the_steps_it_was_made_of():
    seconds = {"first_order": 4.0, "stale": 4.5, "refresh": 6.5, "inverse": 0.5}
    profile = profile_of(job(), seconds, 1e6, PROFILE)
    step = step_time(job(), profile, 1, DATA)
    assert step.first_order == pytest.approx(4.0, rel=1e-3)
    assert step.stale == pytest.approx(4.5, rel=1e-3)
    assert step.refresh == pytest.approx(6.5, rel=1e-3)
    assert step.inverse == pytest.approx(0.5, rel=1e-3)
    assert (profile.copy_bytes, profile.intra_node_bandwidth) == (1e6, PROFILE.intra_node_bandwidth)


def test_differences_lost_in_noise_stay_positive():
    seconds = {"first_order": 4.0, "stale": 3.9, "refresh": 3.8, "inverse": 0.5}
    step = step_time(job(), profile_of(job(), seconds, 1e6, PROFILE), 1, DATA)
    assert step.precondition == pytest.approx(0.004, rel=1e-3) and step.covariance == pytest.approx(0.004, rel=1e-3)


def test_only_a_cpu_sends_each_gradient_by_itself():
    cpu, ascend = assumed("CPU"), assumed("Ascend")
    assert (cpu.fuses_gradients, cpu.overlap) == (False, 0.0)
    assert (ascend.fuses_gradients, ascend.overlap) == (True, 1.0)
    assert dataclasses.replace(cpu, name="x").memory_gib > 0
