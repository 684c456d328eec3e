"""Learning rates and damping by step: as NumPy float32 arrays, and as what an optimizer reads in a graph.

Every function gives one value a step for the whole run: index ``i`` holds the value of global step ``i``, the
first step being 0. A resumed run uses the same array and its restored global step; it never slices the array.
THOR holds the last value after the array's end. The sums are done in float64 and rounded once.

With ``e = (i + 1) / steps_per_epoch``, the epochs passed once step ``i`` is done, and ``T`` its length:

| function | value at step i |
|---|---|
| thor_learning_rate | initial (1 - e / end_epoch)^decay, halved from decay_epochs and from one epoch later |
| thor_damping | initial rate^(e / 10) |
| polynomial | (initial - final) (1 - i / T)^power + final |
| cosine | final + (initial - final) (1 + cos(pi i / T)) / 2 |
| constant | initial |
| with_warmup | first (i + 1) / warmup_steps, then the schedule from its own step 0 |
"""
from __future__ import annotations

import logging
import math

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops
from mindspore.nn.learning_rate_schedule import LearningRateSchedule

from thor.checks import INT32, ArgumentError, shown

logger = logging.getLogger("thor")


def thor_learning_rate(total_steps: int, steps_per_epoch: float, initial: float, decay: float,
                       end_epoch: float, decay_epochs: float | None = None) -> np.ndarray:
    """The learning rate ResNet-50 was published with (Chen et al., AAAI 2021; 45 epochs of ImageNet).

    Args:
        total_steps: length of the array.
        steps_per_epoch: optimizer steps an epoch; a fraction when micro-batches do not divide it.
        initial: learning rate at epoch 0, published 0.05803.
        decay: exponent, published 4.0839.
        end_epoch: epoch at which the rate reaches 0, where it stays; published 53, later than training ends.
        decay_epochs: epoch of the halving, and of a second one epoch later; published 39; None for none.

    Returns:
        float32 array (total_steps,).
    """
    _check_steps(total_steps=total_steps)
    _check_positive(steps_per_epoch=steps_per_epoch, end_epoch=end_epoch)
    epoch = _epochs(total_steps, steps_per_epoch)
    rate = initial * np.maximum(1.0 - epoch / end_epoch, 0.0) ** decay
    if decay_epochs is not None:
        halvings = (epoch >= decay_epochs).astype(int) + (epoch >= decay_epochs + 1)
        rate = rate * 0.5 ** halvings
    return rate.astype(np.float32)


def thor_damping(total_steps: int, steps_per_epoch: float, initial: float, rate: float) -> np.ndarray:
    """The damping ResNet-50 was published with: it changes by the factor ``rate`` every ten epochs.

    Args:
        total_steps: length of the array.
        steps_per_epoch: optimizer steps an epoch.
        initial: damping at epoch 0, published 0.03.
        rate: factor in ten epochs, published 0.50036.

    Returns:
        float32 array (total_steps,).
    """
    _check_steps(total_steps=total_steps)
    _check_positive(steps_per_epoch=steps_per_epoch, rate=rate)
    return (initial * rate ** (_epochs(total_steps, steps_per_epoch) / 10.0)).astype(np.float32)


def polynomial(total_steps: int, initial: float, final: float, power: float = 1.0,
               schedule_steps: int | None = None) -> np.ndarray:
    """Polynomial decay, BERT's published learning rate and damping; ``final`` from ``schedule_steps`` on.

    Args:
        total_steps: length of the array.
        initial: value at step 0.
        final: value at the end.
        power: exponent.
        schedule_steps: steps until ``final`` is reached; None for total_steps.

    Returns:
        float32 array (total_steps,).
    """
    _check_positive(power=power)
    left = 1.0 - _progress(total_steps, schedule_steps)
    return ((initial - final) * left ** power + final).astype(np.float32)


def cosine(total_steps: int, initial: float, final: float = 0.0,
           schedule_steps: int | None = None) -> np.ndarray:
    """Half a cosine from ``initial`` to ``final`` (Loshchilov and Hutter 2017, without restarts).

    Arguments and result as for ``polynomial``.
    """
    wave = (1.0 + np.cos(math.pi * _progress(total_steps, schedule_steps))) / 2.0
    return (final + (initial - final) * wave).astype(np.float32)


def constant(total_steps: int, value: float) -> np.ndarray:
    """``value`` at every step: float32 array (total_steps,)."""
    _check_steps(total_steps=total_steps)
    return np.full(total_steps, value, np.float32)


def with_warmup(schedule: np.ndarray, warmup_steps: int) -> np.ndarray:
    """Linear growth to the first value of ``schedule`` in ``warmup_steps`` steps, then ``schedule``.

    The first step already has first / warmup_steps, so that no step is without effect.

    Args:
        schedule: (n,), n >= 1.
        warmup_steps: length of the ramp, 0 for none.

    Returns:
        float32 array (warmup_steps + n,).
    """
    if warmup_steps < 0:
        raise ValueError(f"warmup_steps={warmup_steps!r}; must be an int >= 0; use 0 for no warm-up")
    if warmup_steps == 0:
        return np.asarray(schedule, np.float32)
    ramp = float(schedule[0]) * np.arange(1, warmup_steps + 1) / warmup_steps
    return np.concatenate([ramp, schedule]).astype(np.float32)


class HeldSchedule(LearningRateSchedule):
    """A 1-D array indexed by the global step; after its end the last value holds.

    Args:
        values: ``(n_steps,)``.
    """

    def __init__(self, values: np.ndarray):
        super().__init__()
        self.values = Tensor(values.astype(np.float32))
        self.last = values.size - 1

    def construct(self, global_step):
        step = ops.minimum(global_step.astype(ms.int32), Tensor(self.last, ms.int32))
        return ops.gather(self.values, step, 0).reshape(())


def by_step(name: str, value, positive: bool) -> LearningRateSchedule:
    """A float, list, array or Tensor (0-D or 1-D), or a ``LearningRateSchedule``, as a schedule by global step.

    Raises:
        ArgumentError: it is none of these, or holds a value that is not finite or too small, in float32 too.
    """
    if isinstance(value, LearningRateSchedule):
        return value
    remedy = f"must be a finite {'positive' if positive else 'non-negative'} float or a 1-D array of them, one a step"
    wrong_type = ArgumentError(f"{name}={shown(value)}; {remedy}; give a number, list, array or Tensor")
    if value is None or isinstance(value, (bool, str)):
        raise wrong_type
    try:
        values = value.asnumpy() if isinstance(value, Tensor) else np.asarray(value)
        values = values.astype(np.float64)
    except (TypeError, ValueError, OverflowError):
        raise wrong_type from None
    if values.ndim > 1 or values.size == 0:
        raise ArgumentError(f"{name} has shape {values.shape}; {remedy}; flatten it to one value a step")
    given = values.reshape(-1)
    with np.errstate(over="ignore", under="ignore"):
        values = given.astype(np.float32)  # what the graph reads
    if positive and values[0] > 0 and values[-1] == 0:
        end = int(np.flatnonzero(values)[-1]) + 1  # a schedule that decays to 0: curvature cannot be without damping
        logger.warning("%s reaches 0 at step %d; it stays at %g from there", name, end, values[end - 1])
        given, values = given[:end], values[:end]
    bad = ~np.isfinite(values) | (values <= 0 if positive else given < 0)
    if not values.any():  # the last values of a schedule may be too small for float32, not all of them
        bad |= given != 0
    if bad.any():
        wrong = given[bad][0]
        rounded = np.isfinite(wrong) and wrong > 0
        raise ArgumentError(f"{name}={wrong}; {remedy}; " + (
            f"float32 rounds it to {values[bad][0]:g}, use a number it can hold" if rounded else
            "check the schedule it comes from"))
    return HeldSchedule(values)


def number_or_schedule(name: str, value):
    """A number as a float, everything else as a schedule by global step, see :func:`by_step`; not negative."""
    schedule = by_step(name, value, positive=False)
    if isinstance(schedule, HeldSchedule) and schedule.last == 0 and np.ndim(value) == 0:
        return float(value.asnumpy()) if isinstance(value, Tensor) else float(value)
    return schedule


def learning_rate_by_step(value):
    """A schedule, or a float for a constant, which MindSpore's optimizers keep in a Parameter callbacks can change."""
    return number_or_schedule("learning_rate", value)


def weight_decay_by_step(name: str, value):
    """The same for a weight decay, whose schedule may be any Cell of the global step, as in MindSpore."""
    return value if isinstance(value, nn.Cell) else number_or_schedule(name, value)


def _epochs(total_steps: int, steps_per_epoch: float) -> np.ndarray:
    return (np.arange(total_steps) + 1.0) / steps_per_epoch


def _progress(total_steps: int, schedule_steps: int | None) -> np.ndarray:
    span = total_steps if schedule_steps is None else schedule_steps
    _check_steps(total_steps=total_steps, schedule_steps=span)
    return np.minimum(np.arange(total_steps) / span, 1.0)


def _check_steps(**steps: int) -> None:
    for name, value in steps.items():
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
            raise ValueError(f"{name}={shown(value)}; must be an int >= 1; give the steps of the whole run")
        if value > INT32:
            raise ValueError(f"{name}={shown(value)}; must be an int >= 1; use at most {INT32}")


def _check_positive(**values: float) -> None:
    for name, value in values.items():
        if not value > 0:
            raise ValueError(f"{name}={value!r}; must be > 0; check the epochs and steps it comes from")
