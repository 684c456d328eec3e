"""Cuts and modes: the best of all partitions, ties, and where one mode overtakes the other."""
from __future__ import annotations

import dataclasses
from itertools import combinations

import pytest

from models.planner.network import Message, finish
from models.planner.predict import DATA, HYBRID, measuring_times, ready_times, step_time
from models.planner.search import best, best_split, candidate_splits, equal_groups, make_plan, make_plans, timely_groups
from tests.helpers.planner_cases import PROFILE, dense, job

SIX = job(layers=tuple(dense(3 + i, 4 + i % 2, 20) for i in range(6)), parameters=((1, 0),))


def seconds_through(split: tuple[int, ...], profile, devices: int) -> float:
    """When the factors of six layers are through if they alone use the network."""
    ready = ready_times(SIX, 3 * SIX.forward_flop / profile.forward_backward_flops,
                        [sum(pair) for pair in measuring_times(SIX, profile)])
    firsts = [0, *(end + 1 for end in split[:-1])]
    return finish([Message(ready[first], profile.cluster.all_reduce(
        sum(layer.packed_bytes for layer in SIX.layers[first:end + 1]), devices)) for first, end in zip(firsts, split)])


@pytest.mark.parametrize("latency, bandwidth", [(0.0, 0.5), (50.0, 0.5), (2000.0, 0.5), (10.0, 0.1), (10.0, 5.0)])
def test_timely_groups_are_the_best_of_all_partitions(latency, bandwidth):
    profile = dataclasses.replace(PROFILE, overlap=1.0, intra_node_latency=latency, intra_node_bandwidth=bandwidth)
    partitions = [(*cuts, 5) for count in range(6) for cuts in combinations(range(5), count)]
    assert len(partitions) == 32
    shortest = min(seconds_through(split, profile, 4) for split in partitions)
    assert seconds_through(timely_groups(SIX, profile, 4), profile, 4) == pytest.approx(shortest)


def test_equal_groups_cut_where_bytes_pass_equal_shares():
    assert equal_groups([10] * 6, 1) == (5,)
    assert equal_groups([10] * 6, 2) == (2, 5)
    assert equal_groups([10] * 6, 3) == (1, 3, 5)
    assert equal_groups([100, 1, 1], 2) == (0, 2)
    assert equal_groups([1, 1, 100], 3) == (2,)


def test_candidates_are_valid_cuts_and_hold_what_is_configured():
    found = candidate_splits(dataclasses.replace(SIX, split_indices=(1, 5)), PROFILE, 4)
    assert (1, 5) in found and (5,) in found and len(found) == len(set(found))
    for split in found:
        assert split[-1] == 5 and list(split) == sorted(set(split))
    assert candidate_splits(job(layers=(), parameters=((1, 0),)), PROFILE, 4) == []


def test_without_overlap_one_group_is_best_and_with_it_several_are():
    slow = dataclasses.replace(PROFILE, intra_node_latency=1.0, intra_node_bandwidth=2.0)
    assert best_split(SIX, slow, 4) == (5,)
    split = best_split(SIX, dataclasses.replace(slow, overlap=1.0), 4)
    assert len(split) > 1
    step = step_time(SIX.with_split(split), dataclasses.replace(slow, overlap=1.0), 4, DATA)
    assert step.refresh < step_time(SIX.with_split((5,)), dataclasses.replace(slow, overlap=1.0), 4, DATA).refresh


def test_cuts_that_save_less_than_a_hundredth_are_not_made():
    fast = dataclasses.replace(PROFILE, overlap=1.0, intra_node_bandwidth=1e9)
    assert best_split(SIX, fast, 4) == (5,)


@pytest.mark.parametrize("rate, mode", [(10.0, DATA), (0.28, DATA), (0.25, HYBRID), (0.1, HYBRID)])
def test_modes_cross_where_sharing_saves_more_than_gathering_costs(rate, mode):
    """Two devices: hybrid saves 107 - 64 operations and sends half of 328 bytes: worth it below 43 / 164 a second."""
    plans = make_plans(job(), dataclasses.replace(PROFILE, inverse_flops=rate), 2)
    assert best(plans).mode == mode
    saved = plans[DATA].step.inverse - plans[HYBRID].step.inverse
    assert saved == pytest.approx((107 - 64) / rate)
    assert plans[HYBRID].step.gather == pytest.approx(164)


def test_equal_modes_are_data():
    assert best(make_plans(job(), PROFILE, 1)).mode == DATA


def test_minutes_and_steps_of_an_epoch():
    plan = make_plan(job(samples=103, epochs=3), PROFILE, 2, DATA)
    assert plan.epoch_steps == 10  # 51 samples a device, 5 a step
    assert plan.minutes == pytest.approx(30 * plan.step.amortised / 60)
    assert make_plan(job(epoch_steps=7, samples=103), PROFILE, 2, DATA).epoch_steps == 7
    assert make_plan(job(samples=103, micro_batches=4), PROFILE, 1, DATA).epoch_steps == 5
    assert make_plan(job(), PROFILE, 2, DATA).minutes is None
    assert make_plan(job(samples=103), PROFILE, 64, DATA).minutes is None


def test_configured_cuts_are_kept_for_comparison():
    slow = dataclasses.replace(PROFILE, intra_node_latency=1000.0)
    plan = make_plan(dataclasses.replace(SIX, split_indices=(0, 1, 2, 3, 4, 5)), slow, 2, DATA)
    assert plan.split_indices == (5,)
    assert plan.configured.refresh - plan.step.refresh == pytest.approx(5 * 2 * 1000)
