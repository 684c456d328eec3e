"""Seconds and bytes of a job on so many devices, in both modes."""
from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from models.planner.job import BYTES, Job
from models.planner.network import Message, exposed
from models.planner.profile import DeviceProfile
from models.planner.work import Floor, layer_floor
from thor.distribution import assign_owners, default_split, groups_of, inverse_cost

DATA, HYBRID = "data", "hybrid"
BACKWARD_SHARE = 2 / 3  # of the operations of a forward and a backward pass


@dataclass(frozen=True)
class StepTime:
    """Seconds of the parts of a step on every device; communication is what is not hidden.

    Args:
        forward_backward, precondition, gradients: of every step; gradients is their all-reduce.
        covariance, im2col, packing: of a refresh.
        reductions: all-reduces of a refresh step, gradients and factors.
        inverse: what the busiest device inverts.
        gather: all-gather of the inverses.
        frequency: steps from refresh to refresh.
    """

    forward_backward: float
    precondition: float
    gradients: float
    covariance: float
    im2col: float
    packing: float
    reductions: float
    inverse: float
    gather: float
    frequency: int

    @property
    def first_order(self) -> float:
        """A step without preconditioning."""
        return self.forward_backward + self.gradients

    @property
    def stale(self) -> float:
        """A step between two refreshes."""
        return self.first_order + self.precondition

    @property
    def refresh(self) -> float:
        """A step that refreshes all layers."""
        return (self.forward_backward + self.precondition + self.covariance + self.im2col + self.packing
                + self.reductions + self.inverse + self.gather)

    @property
    def amortised(self) -> float:
        """A step on average."""
        return self.stale + (self.refresh - self.stale) / self.frequency

    @property
    def overhead(self) -> float:
        """What an average step costs beyond a first-order step, relative to that."""
        return self.amortised / self.first_order - 1


def step_time(job: Job, profile: DeviceProfile, devices: int, mode: str) -> StepTime:
    """Predict the parts of a step."""
    rounds, cluster = job.micro_batches, profile.cluster
    forward_backward = 3 * job.forward_flop / profile.forward_backward_flops
    measuring = measuring_times(job, profile)
    measured = [covariance + im2col for covariance, im2col in measuring]
    of_gradients = _gradient_messages(job, profile, devices, ready_times(job, forward_backward, [0.0] * len(measured)))
    ready = ready_times(job, forward_backward, measured)
    in_refresh = _gradient_messages(job, profile, devices, ready) + _factor_messages(job, profile, devices, ready)
    packing = 0 if devices == 1 else 2 * job.packed_bytes + sum(layer.factor_bytes for layer in job.layers)
    return StepTime(
        forward_backward=rounds * forward_backward,
        precondition=precondition_flop(job) / profile.precondition_flops,
        gradients=rounds * exposed(of_gradients, forward_backward, profile.overlap),
        covariance=rounds * sum(covariance for covariance, _ in measuring),
        im2col=rounds * sum(im2col for _, im2col in measuring),
        packing=rounds * packing / profile.copy_bytes,
        reductions=rounds * exposed(in_refresh, forward_backward + sum(measured), profile.overlap),
        inverse=busiest_cost(job.block_sizes, devices if mode == HYBRID else 1) / profile.inverse_flops,
        gather=sum(cluster.all_gather(size, devices) for size in gathered_bytes(job, devices, mode)),
        frequency=job.frequency)


def precondition_flop(job: Job) -> float:
    """Operations of preconditioning a step's gradients."""
    return sum(layer_floor(layer.work, job.split_dim).precondition_flop for layer in job.layers if layer.work)


def measuring_times(job: Job, profile: DeviceProfile) -> list[tuple[float, float]]:
    """Seconds each layer's factors take in the backward pass of a micro-batch: covariances and im2col."""
    floors = [layer_floor(layer.work, job.split_dim) if layer.work else Floor() for layer in job.layers]
    return [(floor.covariance_flop / profile.covariance_flops, floor.im2col_bytes / profile.copy_bytes)
            for floor in floors]


def ready_times(job: Job, forward_backward: float, measured: Sequence[float]) -> list[float]:
    """When the backward pass has left each layer, seconds after the start of a micro-batch.

    Args:
        forward_backward: seconds of both passes, shared out by the layers' operations.
        measured: seconds each layer's factors take in its backward pass.
    """
    per_flop = BACKWARD_SHARE * forward_backward / job.forward_flop if job.forward_flop else 0.0
    backward = [layer.forward_flop * per_flop + seconds for layer, seconds in zip(job.layers, measured)]
    begins = forward_backward + sum(measured) - sum(backward)
    return [begins + seconds for seconds in accumulate(reversed(backward))][::-1]


def _gradient_messages(job: Job, profile: DeviceProfile, devices: int, ready: Sequence[float]) -> list[Message]:
    """The all-reduces of gradients."""
    cuts = job.gradient_cuts or (len(job.parameters) - 1,)
    groups = groups_of(cuts if profile.fuses_gradients else range(len(job.parameters)), len(job.parameters))
    messages = []
    for group in groups:
        numbers, layers = zip(*[job.parameters[i] for i in group])
        when = ready[min(layers)] if ready else 0.0
        messages.append(Message(when, profile.cluster.all_reduce(BYTES * sum(numbers), devices)))
    return messages


def _factor_messages(job: Job, profile: DeviceProfile, devices: int, ready: Sequence[float]) -> list[Message]:
    """The all-reduces of packed factors, cut by split_indices or, without, by bytes."""
    if not job.layers:
        return []
    sizes = [layer.packed_bytes for layer in job.layers]
    groups = groups_of(job.split_indices or default_split(sizes), len(sizes))
    return [Message(ready[group.start], profile.cluster.all_reduce(sum(sizes[i] for i in group), devices))
            for group in groups]


def busiest_cost(block_sizes: Sequence[int], owners: int) -> float:
    """What the device with the most to invert has, in :func:`thor.distribution.inverse_cost`."""
    costs = [inverse_cost(size) for size in block_sizes]
    loads = [0.0] * owners
    for cost, owner in zip(costs, assign_owners(costs, owners)):
        loads[owner] += cost
    return max(loads)


def gathered_bytes(job: Job, devices: int, mode: str) -> list[int]:
    """Results of the all-gathers of hybrid: for each block size the inverses, and two numbers a block.

    Every device contributes as many blocks as the one that owns most of that size.
    """
    if mode == DATA or devices == 1:
        return []
    sizes = job.block_sizes
    owners = assign_owners([inverse_cost(size) for size in sizes], devices)
    most: dict[int, int] = {}
    for (size, _), count in Counter(zip(sizes, owners)).items():
        most[size] = max(most.get(size, 0), count)
    return [BYTES * devices * most[size] * numbers for size in sorted(most) for numbers in (size * size, 2)]


def memory(job: Job, profile: DeviceProfile, devices: int, mode: str) -> dict[str, float]:
    """Bytes on every device at the peak of a refresh step, by what they are for.

    Activations are an estimate: the outputs of all cells of one micro-batch, as if the backward pass needed them all
    and operators no work space. The total is the least; a runtime that does not reuse memory takes several times that.
    """
    factors = sum(layer.factor_bytes for layer in job.layers)
    gradients = BYTES * job.gradient_numbers
    sums = gradients + factors if job.micro_batches > 1 else 0
    parts = {"weights": BYTES * job.weights, "momentum": gradients, "gradients": gradients + sums,
             "factors": factors, "measured factors": factors,
             "inverses": sum(layer.inverse_bytes for layer in job.layers),
             "packed factors and their sums": 0 if devices == 1 else 2 * job.packed_bytes,
             "gathered inverses": sum(gathered_bytes(job, devices, mode)),
             "activations (estimate)": profile.activation_bytes * job.activations}
    return {**parts, "total, at least": sum(parts.values())}


def traffic(job: Job, profile: DeviceProfile, devices: int, mode: str) -> dict[str, float]:
    """Bytes each device sends: gradients in every step, the others in a refresh.

    ``inverses whole, instead``: what an all-reduce of all inverses as whole matrices would send in place of both.
    """
    reduce = profile.cluster.all_reduce_bytes
    return {"gradients": job.micro_batches * reduce(BYTES * job.gradient_numbers, devices),
            "factors": job.micro_batches * reduce(job.packed_bytes, devices),
            "inverses": sum(profile.cluster.all_gather_bytes(size, devices)
                            for size in gathered_bytes(job, devices, mode)),
            "inverses whole, instead": reduce(job.dense_bytes, devices)}
