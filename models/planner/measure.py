"""Measure a device's profile with a network: first-order, stale and refresh steps, inverses, copies, links.

Rates are what a whole step shows, so that copies and the like which go with the products are in them: preconditioning
is what a stale step takes beyond a first-order step, covariances what a refresh step takes beyond a stale one, without
its inverses and im2col. Started by msrun as several processes, the links between them are measured, too.
"""
from __future__ import annotations

import dataclasses
import datetime
import os
import platform
from collections.abc import Callable, Sequence
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn

from models.config import Config, LossScaleConfig
from models.planner.job import Job
from models.planner.network import Link
from models.planner.predict import precondition_flop
from models.planner.profile import DeviceProfile
from models.planner.work import layer_floor
from models.planner.zoo import build_network, job_of, make_batch, unrecorded
from models.ranks import started
from models.session import create_step, start
from models.turns import measure_in_turn, step_at
from thor import THOR
from thor.distribution import inverse_cost
from thor.reduction import AllReduce

COPY_BYTES = 2 ** 27
LINK_SIZES, MESSAGES = (2 ** 12, 2 ** 16, 2 ** 20, 2 ** 23), 8  # bytes of a message, and messages of a graph
WARMUP, REPEATS = 2, 7
LEAST_SHARE = 1e-3  # of a step that a difference of two steps counts as at least
ASSUMED_LINK = Link(1e-4, 1e9)


def measured_profile(config: Config, base: DeviceProfile | None = None,
                     sequence_length: int | None = None) -> tuple[DeviceProfile, bool]:
    """The profile of this device, and whether this process is the one that writes it.

    Args:
        base: what cannot be measured is taken from it: links where one process runs, memory, overlap.
    """
    parallel = dataclasses.replace(config.parallel, device_num=started(), all_reduce_fusion_config=None)
    ranks = start(dataclasses.replace(config, parallel=parallel))
    config = dataclasses.replace(config, parallel=dataclasses.replace(config.parallel, curvature="data"))
    job = job_of(config, sequence_length=sequence_length)
    seconds = _median_seconds(step_calls(config, sequence_length))
    base = base or assumed(ms.get_context("device_target"))
    link = measure_link(ranks.count) if ranks.count > 1 else None
    profile = profile_of(job, seconds, copy_rate(), base)
    if link is not None:
        profile = dataclasses.replace(profile, devices_per_node=ranks.count, intra_node_latency=link.latency,
                                      intra_node_bandwidth=link.bandwidth)
    return dataclasses.replace(profile, description=description(job, ranks.count)), ranks.is_first


def assumed(target: str) -> DeviceProfile:
    """What is assumed of a device where nothing else is known; every rate is replaced."""
    cpu, cores = target == "CPU", os.cpu_count() or 1
    host = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2 ** 30
    link = {f"{where}_node_{name}": getattr(ASSUMED_LINK, name)
            for where in ("intra", "inter") for name in ("latency", "bandwidth")}
    rates = dict.fromkeys(("forward_backward_flops", "precondition_flops", "covariance_flops", "inverse_flops",
                           "copy_bytes"), 1.0)
    return DeviceProfile(name=f"{target} process" if cpu else target, description="assumed",
                         memory_gib=rounded(host / cores), devices_per_node=cores, overlap=0.0 if cpu else 1.0,
                         fuses_gradients=not cpu, **rates, **link)


def profile_of(job: Job, seconds: dict[str, float], copy_bytes: float, base: DeviceProfile) -> DeviceProfile:
    """Rates from the seconds of steps.

    Args:
        seconds: of the steps ``first_order``, ``stale`` and ``refresh`` of a micro-batch, and of all inverses
            (``inverse``).
    """
    floors = [layer_floor(layer.work, job.split_dim) for layer in job.layers if layer.work]
    least = LEAST_SHARE * seconds["first_order"]
    preconditioning = max(seconds["stale"] - seconds["first_order"], least)
    im2col = sum(floor.im2col_bytes for floor in floors) / copy_bytes
    covariances = max(seconds["refresh"] - seconds["stale"] - seconds["inverse"] - im2col, least)
    return dataclasses.replace(
        base, copy_bytes=rounded(copy_bytes),
        forward_backward_flops=rounded(3 * job.forward_flop / seconds["first_order"]),
        precondition_flops=rounded(precondition_flop(job) / preconditioning),
        covariance_flops=rounded(sum(floor.covariance_flop for floor in floors) / covariances),
        inverse_flops=rounded(sum(map(inverse_cost, job.block_sizes)) / seconds["inverse"]))


def rounded(value: float) -> float:
    """``value`` to four digits, more than a measurement holds."""
    return float(f"{value:.4g}")


def step_calls(config: Config, sequence_length: int | None = None) -> dict[str, Callable]:
    """Calls of the three steps on one random batch, and of all inverses; each returns when its work is done."""
    batch = make_batch(config, config.data.batch_size, sequence_length)
    first_order = _first_order_step(config)
    thor = _thor_step(config)
    inverses = [_inverse_call(blocks) for blocks in thor.optimizer.curvature.batches]
    return {"first_order": lambda: first_order(*batch).asnumpy(), "stale": step_at(thor, thor.optimizer, batch, 1),
            "refresh": step_at(thor, thor.optimizer, batch, 0), "inverse": lambda: [call() for call in inverses]}


def _first_order_step(config: Config) -> Callable:
    """A train step with MindSpore's Momentum."""
    network = build_network(config)
    return create_step(_micro_batch(config), network, nn.Momentum(network.trainable_params(), 1e-3, 0.9))


def _thor_step(config: Config) -> Any:
    """The configuration's own second-order step, refreshing all layers at fixed intervals."""
    network, options = build_network(config), config.optimizer
    optimizer = THOR(network, 1e-3, 0.1, 0.9, batch_size=config.data.batch_size,
                     frequency=max(config.refresh_interval, 2), split_indices=options.split_indices,
                     **vars(unrecorded(config)))
    return create_step(_micro_batch(config), network, optimizer)


def _micro_batch(config: Config) -> Config:
    """The configuration with a step for every micro-batch, and no loss scale."""
    return dataclasses.replace(config, train=dataclasses.replace(config.train, accumulate_steps=1),
                               loss_scale=LossScaleConfig())


def _inverse_call(blocks: Any) -> Callable[[], Any]:
    """A call that inverts a :class:`thor.curvature.refresh.BlockBatch` of random blocks."""
    count, size, _ = blocks.inverses.shape
    rows = np.random.default_rng(0).standard_normal((size, 2 * size)).astype(np.float32)
    matrices = Tensor(np.broadcast_to(rows @ rows.T / (2 * size), (count, size, size)).copy())
    one, damping = (Tensor(np.full((count, 1, 1), value, np.float32)) for value in (1.0, 0.1))
    return lambda: blocks.update(matrices, one, damping, one, one, matrices)[1].asnumpy()


def _median_seconds(sides: dict[str, Callable]) -> dict[str, float]:
    """Median seconds of a call of each side, in turn."""
    return {name: float(np.median(times)) for name, times in measure_in_turn(sides, WARMUP, REPEATS).items()}


class Copy(nn.Cell):
    """A tensor read and written once."""

    def construct(self, x):
        return x + 1.0


def copy_rate() -> float:
    """Bytes a second that the device copies, each counted once."""
    copy, source = Copy(), Tensor(np.zeros(COPY_BYTES // 4, np.float32))
    return COPY_BYTES / _median_seconds({"copy": lambda: copy(source)[:1].asnumpy()})["copy"]


class Messages(nn.Cell):
    """All-reduces one after the other in one graph, as a step sends them."""

    def __init__(self):
        super().__init__(auto_prefix=False)
        self.reduces = nn.CellList([AllReduce(i) for i in range(MESSAGES)], auto_prefix=False)

    def construct(self, vector):
        for reduce in self.reduces:
            vector = reduce(vector)
        return vector


def measure_link(ranks: int, sizes: Sequence[int] = LINK_SIZES) -> Link:
    """The link between processes, from all-reduces of several sizes."""
    sides = {}
    for size in sizes:
        messages, vector = Messages(), Tensor(np.ones(size // 4, np.float32))
        sides[str(size)] = lambda messages=messages, vector=vector: messages(vector)[:1].asnumpy()
    seconds = _median_seconds(sides)
    return fit_link(sizes, [seconds[str(size)] / MESSAGES for size in sizes], ranks)


def fit_link(sizes: Sequence[float], seconds: Sequence[float], ranks: int) -> Link:
    """Alpha and beta of a ring from the seconds of all-reduces: least squares of relative errors."""
    seconds_of = np.asarray(seconds, float)
    messages = 2.0 * (ranks - 1)
    terms = np.stack([np.full(len(sizes), messages), messages / ranks * np.asarray(sizes, float)], 1)
    (latency, inverse), *_ = np.linalg.lstsq(terms / seconds_of[:, None], np.ones(len(sizes)), rcond=None)
    return Link(rounded(max(float(latency), 1e-7)), rounded(1.0 / max(float(inverse), 1e-15)))


def description(job: Job, ranks: int, cores: int | None = None) -> str:
    """Where and when the profile was measured; ``cores`` of each process are by default those of this one."""
    links = f"links of {ranks} processes" if ranks > 1 else "links not measured"
    cores = cores or len(os.sched_getaffinity(0))
    return (f"measured {datetime.date.today().isoformat()} with {job.description}; {cores} core{'s' * (cores > 1)} of "
            f"{processor()}, load {os.getloadavg()[0]:.2f}, MindSpore {ms.__version__}; {links}")


def processor() -> str:
    """The processor's name."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.machine()
