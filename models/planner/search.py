"""Which mode and which split_indices are best on so many devices."""
from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

from models.planner.job import Job
from models.planner.predict import DATA, HYBRID, StepTime, measuring_times, memory, ready_times, step_time, traffic
from models.planner.profile import DeviceProfile
from thor.distribution import default_split

MOST_EQUAL_GROUPS = 8
TOLERANCE = 0.01  # of a refresh step, for which further cuts are not worth it


@dataclass(frozen=True)
class Plan:
    """A prediction for one number of devices and one mode, with the best cuts found.

    Attributes:
        split_indices: the best of the cuts tried.
        configured: the step with the configuration's own cuts.
        memory, traffic: bytes, see :mod:`models.planner.predict`.
        epoch_steps: steps of an epoch, None where not known.
        minutes: of the whole run, None where not known or where an epoch has no whole batch.
    """

    devices: int
    mode: str
    split_indices: tuple[int, ...]
    step: StepTime
    configured: StepTime
    memory: dict[str, float]
    traffic: dict[str, float]
    epoch_steps: int | None
    minutes: float | None


def make_plan(job: Job, profile: DeviceProfile, devices: int, mode: str) -> Plan:
    """Predict a mode with its best cuts."""
    split = best_split(job, profile, devices)
    chosen = job.with_split(split) if split else job
    step = step_time(chosen, profile, devices, mode)
    steps = job.steps_per_epoch(devices)
    minutes = None if not steps else job.epochs * steps * step.amortised / 60
    return Plan(devices, mode, split, step, step_time(job, profile, devices, mode),
                memory(chosen, profile, devices, mode), traffic(chosen, profile, devices, mode), steps, minutes)


def make_plans(job: Job, profile: DeviceProfile, devices: int) -> dict[str, Plan]:
    """Both modes; see :func:`best`."""
    return {mode: make_plan(job, profile, devices, mode) for mode in (DATA, HYBRID)}


def best(plans: dict[str, Plan]) -> Plan:
    """The plan with the shortest average step; data where both are equal."""
    return min(plans.values(), key=lambda plan: (plan.step.amortised, plan.mode != DATA))


def best_split(job: Job, profile: DeviceProfile, devices: int) -> tuple[int, ...]:
    """Of :func:`candidate_splits` the fewest cuts whose refresh step is within 1 % of the shortest."""
    refresh = {split: step_time(job.with_split(split), profile, devices, DATA).refresh
               for split in candidate_splits(job, profile, devices)}
    near = [split for split, seconds in refresh.items() if seconds <= (1 + TOLERANCE) * min(refresh.values())]
    return min(near, key=lambda split: (len(split), refresh[split]), default=())


def candidate_splits(job: Job, profile: DeviceProfile, devices: int) -> list[tuple[int, ...]]:
    """One group; two to eight groups of equal bytes; the default; what is configured; the best in time for overlap."""
    if not job.layers:
        return []
    sizes = [layer.packed_bytes for layer in job.layers]
    found = [equal_groups(sizes, count) for count in range(1, min(MOST_EQUAL_GROUPS, len(sizes)) + 1)]
    found += [default_split(sizes), timely_groups(job, profile, devices)]
    if job.split_indices:
        found.append(job.split_indices)
    return list(dict.fromkeys(found))


def equal_groups(sizes: list[int], count: int) -> tuple[int, ...]:
    """Last layers of ``count`` groups at most, cut where the bytes pass equal shares."""
    total, ends = sum(sizes), []
    for layer, passed in enumerate(accumulate(sizes)):
        if passed * count >= total * (len(ends) + 1) and layer < len(sizes) - 1 and len(ends) < count - 1:
            ends.append(layer)
    return (*ends, len(sizes) - 1)


def timely_groups(job: Job, profile: DeviceProfile, devices: int) -> tuple[int, ...]:
    """The groups that are through earliest when each is sent as soon as the backward pass has left its first layer.

    Exact, by dynamic programming from the last layer to the first, for a network that carries nothing else.
    """
    n = len(job.layers)
    forward_backward = 3 * job.forward_flop / profile.forward_backward_flops
    ready = ready_times(job, forward_backward, [sum(pair) for pair in measuring_times(job, profile)])
    passed = [0, *accumulate(layer.packed_bytes for layer in job.layers)]
    through: list[tuple[float, int, int]] = [(0.0, 0, n)] * (n + 1)  # when, groups, where the next group begins
    for first in range(n - 1, -1, -1):
        through[first] = min(
            (max(through[end][0], ready[first]) + profile.cluster.all_reduce(passed[end] - passed[first], devices),
             through[end][1] + 1, end) for end in range(first + 1, n + 1))
    ends, first = [], 0
    while first < n:
        first = through[first][2]
        ends.append(first - 1)
    return tuple(ends)

