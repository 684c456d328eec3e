"""Training steps of every graph against float64, on one device or on several ranks."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from textwrap import shorten

import mindspore.dataset as ds
import numpy as np
from mindspore import Tensor, nn, ops

from thor.distribution import world
from thor.model import StepModel
from thor.optimizer import THOR
from thor.selfcheck import reference
from thor.train import make_train_step

# Relative to how far the weights moved. Float32 rounding, multiplied by the condition of the damped blocks, stays below
# 1e-5 on a CPU; float16 products round to 5e-4 each.
BOUND = {"float32": 1e-4, "float16": 2e-2}
LOSS_SCALE = 128.0


@dataclass(frozen=True)
class Trained:
    """How far the weights of a run are from the reference's; ``note`` where there is no number."""

    name: str
    error: float
    bound: float
    note: str = ""

    @property
    def ok(self) -> bool:
        return self.error <= self.bound


class Network(nn.Cell):
    """The network of :mod:`thor.selfcheck.reference`."""

    def __init__(self):
        super().__init__()
        start = {name: Tensor(value) for name, value in reference.initial_weights().items()}
        self.conv = nn.Conv2d(1, 4, 3, pad_mode="valid", has_bias=True, weight_init=start["conv.weight"],
                              bias_init=start["conv.bias"])
        self.last = nn.Dense(144, 5, weight_init=start["last.weight"], bias_init=start["last.bias"])

    def construct(self, images):
        return self.last(ops.tanh(self.conv(images)).reshape(images.shape[0], -1))


class Embedded(nn.Cell):
    """A graph around a train step, as MindSpore's data sink makes one: it chooses between the two steps inside."""

    def __init__(self, step: nn.Cell):
        super().__init__(auto_prefix=False)
        self.step = step

    def construct(self, images, targets):
        return self.step(images, targets)


def check_training(precision: str) -> list[Trained]:
    """All runs of this process, or of this rank among several."""
    runs: dict[str, Callable[[], tuple]] = {
        "3 second-order steps": lambda: _run_steps(3, 1),
        "1 second-order and 3 stale steps": lambda: _run_steps(4, 100),
        "7 steps chosen inside the graph, refresh every 3": lambda: _run_steps(7, 3, embedded=True),
        "2 sinks of 7 steps, refresh every 3": _run_sinks,
    }
    ranks = world()[1]
    if ranks > 1:
        runs = {f"{ranks} ranks, 7 steps, refresh every 3, {mode}":
                partial(_run_steps, 7, 3, share_inverses=shared)
                for mode, shared in (("all invert all", False), ("each inverts its own", True))}
    return [compare(name, run, BOUND[precision]) for name, run in runs.items()]


def compare(name: str, run: Callable[[], tuple], bound: float) -> Trained:
    """Run, and measure against float64; over several ranks, whose weights must agree to the bit."""
    try:
        network, steps, frequency = run()
        weights = {p.name: p.asnumpy() for p in network.trainable_params()}
        if world()[1] > 1 and not agree(weights):
            return Trained(name, np.inf, bound, "the ranks' weights differ")
    except Exception as error:  # whatever a device's compiler or kernel raises is a finding, not a crash
        return Trained(name, np.inf, bound, shorten(f"{type(error).__name__}: {error}", 120))
    expected, start = reference.trained(steps, frequency), reference.initial_weights()
    errors = [np.linalg.norm(weights[key] - expected[key]) / np.linalg.norm(expected[key] - start[key])
              for key in expected]
    return Trained(name, float(max(errors)) if np.isfinite(errors).all() else np.inf, bound)


def _make_step(frequency: int, **options) -> tuple[nn.Cell, nn.Cell]:
    """The network and its train step."""
    network, ranks = Network(), world()[1]
    optimizer = THOR(network, reference.LEARNING_RATE, reference.DAMPING, reference.MOMENTUM, reference.WEIGHT_DECAY,
                     LOSS_SCALE, batch_size=reference.BATCH // ranks, frequency=frequency,
                     split_dim=reference.SPLIT, **options)
    return network, make_train_step(nn.WithLossCell(network, nn.MSELoss()), optimizer)


def _run_steps(steps: int, frequency: int, embedded: bool = False, **options) -> tuple:
    """``steps`` calls of the train step with this rank's part of every batch."""
    network, step = _make_step(frequency, **options)
    step = Embedded(step) if embedded else step
    rank, ranks = world()
    part = slice(rank * reference.BATCH // ranks, (rank + 1) * reference.BATCH // ranks)
    for images, targets in reference.batches(steps):
        step(Tensor(images[part]), Tensor(targets[part]))
    return network, steps, frequency


def _run_sinks() -> tuple:
    """Two data sinks of seven steps, by Model; on CPU, which has no sink, two epochs of seven steps."""
    network, step = _make_step(3)
    images, targets = (np.concatenate(part) for part in zip(*reference.batches(14)))
    dataset = ds.NumpySlicesDataset((images, targets), shuffle=False).batch(reference.BATCH)
    StepModel(step).train(2, dataset, dataset_sink_mode=True, sink_size=7)
    return network, 14, 3


def agree(weights: dict[str, np.ndarray]) -> bool:
    """Whether all ranks hold the same bits."""
    gather = ops.AllGather()
    ranks = world()[1]
    return all((gather(Tensor(value[None])).asnumpy() == np.repeat(value[None], ranks, 0)).all()
               for value in weights.values())
