"""How the steps of a run are handed to the device: in sinks, after each of which callbacks are called once.

MindSpore's data sink runs ``sink_size`` steps on the device and calls it an epoch: ``on_train_step_begin`` and
``on_train_step_end`` come once, with ``cur_step_num`` advanced by the whole sink and the loss of its last step, and
``on_train_epoch_end`` after them. So an epoch of the run is cut into several sinks, and one of them ends wherever
something is due: the end of the epoch, a checkpoint by steps, the batch a resumed run begins with (MindSpore
would start at the sink's first). On CPU, which has no sink, callbacks are called after every step,
and the data alone are cut.
"""
from __future__ import annotations

import dataclasses
import math

from models.config import Config

ROWS_PER_EPOCH = 50  # sinks an epoch is cut into, so that progress, metrics.csv and divergence are seen
LEAST = 10  # steps that are worth a sink


@dataclasses.dataclass(frozen=True)
class Sinks:
    """What ``Model.train`` is told.

    Attributes:
        epochs: MindSpore's epochs of the whole run.
        size: steps of a sink, -1 where MindSpore's epochs are passes over the data.
        done: MindSpore's epochs that are done.
    """

    epochs: int
    size: int
    done: int


def plan_sinks(config: Config, per_epoch: int, done: int) -> Sinks:
    """The sinks of a run.

    Args:
        config: the run; uses train and device.target.
        per_epoch: batches that count as an epoch.
        done: batches seen before.
    """
    options = config.train
    on_device = has_sinks(config)
    if not on_device and not (options.sink and options.sink_size > 0):
        return Sinks(options.epochs, options.sink_size, done // per_epoch)
    length = _sink_length(config, per_epoch, done) if on_device else math.gcd(per_epoch, done)
    return Sinks(options.epochs * per_epoch // length, length, done // length)


def has_sinks(config: Config) -> bool:
    """Whether steps run in sinks of the device."""
    return config.train.sink and config.device.target != "CPU"


def _sink_length(config: Config, per_epoch: int, done: int) -> int:
    """Steps of a sink, so that one ends wherever something is due.

    The shortest length that gives at most 50 sinks an epoch, of at least 10 steps; the longest possible where none is
    as long as that, down to one step.
    """
    steps = config.train.checkpoint_every_steps * config.train.accumulate_steps
    common = math.gcd(per_epoch, steps, done)
    wanted = max(per_epoch / ROWS_PER_EPOCH, LEAST)
    return min((length for length in range(1, common + 1) if common % length == 0 and length >= wanted), default=common)


def passed(every: int, before: int, now: int) -> bool:
    """Whether a multiple of ``every`` lies in (before, now]: of single steps, whether ``now`` is one."""
    return now // every > before // every
