"""Update policies by themselves: refresh steps, the trace rule by hand, SP-NGD's intervals, wrong arguments."""
from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor

from thor import THOR
from thor.curvature import FrobeniusPolicy, TracePolicy, UpdatePolicy
from thor.curvature.choice import trace_change

pytestmark = pytest.mark.usefixtures("pynative")

INF, NAN = float("inf"), float("nan")
GROWING = ((0, 2), (5, 4), (14, 10))


def refresh_steps(policy, count):
    on_host = [step for step in range(count) if policy.due_at(step)]
    in_graph = [step for step in range(count) if bool(policy.due(Tensor(step, ms.int32)))]
    assert on_host == in_graph
    return on_host


def test_a_fixed_interval_refreshes_every_so_many_steps():
    assert refresh_steps(UpdatePolicy(3), 11) == [0, 3, 6, 9]
    assert refresh_steps(UpdatePolicy(1), 4) == [0, 1, 2, 3]


def test_growing_intervals_refresh_at_the_exact_steps():
    assert refresh_steps(UpdatePolicy(GROWING), 40) == [0, 2, 4, 5, 9, 13, 14, 24, 34]


@pytest.mark.parametrize("interval", [3, GROWING])
def test_following_is_the_next_refresh_step(interval):
    policy = UpdatePolicy(interval)
    steps = refresh_steps(policy, 60)
    assert [int(policy.following(Tensor(step, ms.int32))) for step in steps[:-1]] == steps[1:]


def select(policy, opened, change, distance=None, earlier=None):
    zeros = np.zeros(len(opened))
    answer = policy.select(Tensor(opened), *[Tensor(np.float32(zeros if values is None else values))
                                             for values in (change, distance, earlier)])
    return [values.asnumpy().astype(bool).tolist() for values in answer]


@pytest.mark.parametrize("now, before, ridge, expected", [
    (3.0, 2.0, 0.0, 0.5),
    (2.0, 4.0, 0.0, 0.5),
    (3.0, 2.0, 8.0, 0.1),
    (0.0, 0.0, 1.0, 0.0),  # a zero trace: only the damping is there
    (1.0, 0.0, 4.0, 0.25),
    (0.0, 0.0, 0.0, 0.0),
    (1.0, 0.0, 0.0, INF),
    (-3.0, 2.0, 0.0, 0.5),  # absolute values, as the rule is written
])
def test_change_of_the_damped_trace(now, before, ridge, expected):
    change = trace_change(*[Tensor([value], ms.float32) for value in (now, before, ridge)])
    np.testing.assert_allclose(change.asnumpy(), [expected], rtol=1e-6)


def test_the_trace_rule_by_hand_with_both_borders():
    """Delta > w1: refresh; w2 <= Delta <= w1: keep; Delta < w2: stop; closed stays closed."""
    change = [INF, 0.6, 0.5, 0.3, 0.25, 0.2, 0.0, NAN, 0.9, 0.0]
    opened = [True] * 8 + [False] * 2
    refreshed, looked_at = select(TracePolicy(1, 0.5, 0.25), opened, change)
    assert refreshed == [True, True, False, False, False, False, False, True, False, False]
    assert looked_at == [True, True, True, True, True, False, False, True, False, False]


def test_thresholds_of_zero_refresh_whatever_changed_and_stop_nothing():
    refreshed, looked_at = select(TracePolicy(1, 0.0, 0.0), [True] * 3, [INF, 1e-7, 0.0])
    assert (refreshed, looked_at) == ([True, True, False], [True, True, True])


def simulate_sp_ngd(similar):
    """Algorithm 2 of Osawa et al. for one factor: refresh times; ``similar[t] = (to X_-1, to X_-2)``."""
    length = before = due = 1
    due, times = 0, []
    for t, (to_last, to_earlier) in enumerate(similar):
        if t < due:
            continue
        times.append(t)
        if not to_last:
            new = max(1, length // 2)
        elif not to_earlier:
            new = length
        else:
            new = length + before
        before, length = length, new
        due = t + new
    return times


def test_sp_ngd_intervals_grow_and_shrink_per_factor():
    rng = np.random.default_rng(3)
    steps, factors = 60, 7
    near = rng.random((steps, factors, 2)) < 0.75
    near[0] = False
    policy = FrobeniusPolicy(1, alpha=0.1)
    policy.prepare(factors)
    opened, times = [True] * factors, [[] for _ in range(factors)]
    for t in range(steps):
        distance = np.where(near[t], 0.05, 0.5)
        refreshed, following = select(policy, opened, np.zeros(factors), distance[:, 0], distance[:, 1])
        assert refreshed == opened
        for factor in np.flatnonzero(refreshed):
            times[factor].append(t)
        opened = following
    assert times == [simulate_sp_ngd(near[:, factor].tolist()) for factor in range(factors)]
    assert max(np.diff(times[0]).tolist()) >= 3


class BandWithoutTraces(UpdatePolicy):
    keep_below = 0.1


class TracesForNobody(UpdatePolicy):
    traced = True


@pytest.mark.parametrize("create, error, message", [
    (lambda: UpdatePolicy(0), ValueError, "interval=0; must be an int >= 1; use 100"),
    (lambda: UpdatePolicy("5"), TypeError, "interval='5'; must be an int or pairs"),
    (lambda: UpdatePolicy(((1, 5),)), ValueError, "must start at step 0"),
    (lambda: UpdatePolicy(((0, 5), (0, 7))), ValueError, "each segment later than the one before"),
    (lambda: UpdatePolicy(((0, 0),)), ValueError, "interval=0; must be an int >= 1"),
    (lambda: TracePolicy(1, -0.1), ValueError, "w1=-0.1; must be a number >= 0"),
    (lambda: TracePolicy(1, 0.1, 0.2), ValueError, "w2=0.2; must be <= w1=0.1; use 0 to stop no layer"),
    (lambda: FrobeniusPolicy(1, 0.0), ValueError, "alpha=0.0; must be a number > 0"),
    (lambda: THOR(ms.nn.Dense(2, 2), 0.1, 0.1, 0.9, update=BandWithoutTraces()), ValueError,
     "keep_below=0.1 of BandWithoutTraces; must be 0 without traces; set traced = True"),
    (lambda: THOR(ms.nn.Dense(2, 2), 0.1, 0.1, 0.9, update=TracesForNobody()), ValueError,
     "traced=True of TracesForNobody; must be False where gated is, as select is not asked; set gated = True"),
    (lambda: THOR(ms.nn.Dense(2, 2), 0.1, 0.1, 0.9, update="trace"), TypeError,
     "update='trace'; must be a thor.curvature.UpdatePolicy or None; use e.g. TracePolicy"),
])
def test_wrong_arguments(create, error, message):
    with pytest.raises(error) as raised:
        create()
    assert message in str(raised.value)
