"""Checks of optimizer arguments: each error names the argument, its value and the remedy."""
from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import Tensor, ops
from mindspore.nn.learning_rate_schedule import LearningRateSchedule


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


def check_schedule(name: str, value, positive: bool) -> LearningRateSchedule:
    """A float, list, array or Tensor (0-D or 1-D), or a ``LearningRateSchedule``, as a schedule by global step."""
    if isinstance(value, LearningRateSchedule):
        return value
    remedy = f"must be a finite {'positive' if positive else 'non-negative'} float or a 1-D array of them, one a step"
    wrong_type = TypeError(f"{name}={value!r}; {remedy}; give a number, list, array or Tensor")
    if value is None or isinstance(value, (bool, str)):
        raise wrong_type
    try:
        values = value.asnumpy() if isinstance(value, Tensor) else np.asarray(value)
        values = values.astype(np.float64)
    except (TypeError, ValueError):
        raise wrong_type from None
    if values.ndim > 1 or values.size == 0:
        raise ValueError(f"{name} has shape {values.shape}; {remedy}; flatten it to one value a step")
    bad = ~np.isfinite(values) | (values <= 0 if positive else values < 0)
    if bad.any():
        raise ValueError(f"{name}={values[bad].flat[0]}; {remedy}; check the schedule it comes from")
    return HeldSchedule(values.reshape(-1))


def check_learning_rate(value):
    """A schedule, or a float for a constant, which MindSpore's optimizers keep in a Parameter callbacks can change."""
    schedule = check_schedule("learning_rate", value, positive=False)
    if isinstance(schedule, HeldSchedule) and schedule.last == 0 and np.ndim(value) == 0:
        return float(value.asnumpy()) if isinstance(value, Tensor) else float(value)
    return schedule


def check_number(name: str, value, low: float, open_interval: bool = False) -> float:
    """A finite int or float at least ``low`` (above it, if the interval is open)."""
    number = isinstance(value, (int, float, np.floating, np.integer)) and not isinstance(value, bool)
    bound = f"must be a number {'>' if open_interval else '>='} {low:g}"
    if not number:
        raise TypeError(f"{name}={value!r}; {bound}; give a Python float")
    if not np.isfinite(value) or value < low or (open_interval and value == low):
        raise ValueError(f"{name}={value!r}; {bound}; give a Python float in that range")
    return float(value)


def check_int(name: str, value, low: int, remedy: str) -> int:
    """An int (not a bool) at least ``low``."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name}={value!r}; must be an int >= {low}; {remedy}")
    if value < low:
        raise ValueError(f"{name}={value!r}; must be an int >= {low}; {remedy}")
    return int(value)


def check_bool(name: str, value) -> bool:
    """Exactly ``True`` or ``False``."""
    if not isinstance(value, bool):
        raise TypeError(f"{name}={value!r}; must be a bool; use True or False")
    return value


def check_callable(name: str, value):
    """Anything that can be called with a Parameter."""
    if not callable(value):
        raise TypeError(f"{name}={value!r}; must be a function of a Parameter; "
                        "return True for parameters that decay")
    return value


def check_split_indices(split_indices, n_layers: int) -> tuple[int, ...] | None:
    """Strictly ascending layer indices at which fused reductions of factors are cut."""
    if split_indices is None:
        return None
    values = list(split_indices) if isinstance(split_indices, (list, tuple)) else [split_indices]
    ints = all(isinstance(v, (int, np.integer)) and not isinstance(v, bool) for v in values)
    if not isinstance(split_indices, (list, tuple)) or not values or not ints:
        raise TypeError(f"split_indices={split_indices!r}; must be a non-empty list of ints or None; "
                        "use e.g. [26, 53] for ResNet-50")
    if values[0] < 0 or any(b <= a for a, b in zip(values, values[1:])):
        raise ValueError(f"split_indices={split_indices!r}; must ascend strictly from >= 0; sort it, without repeats")
    if values[-1] >= n_layers:
        raise ValueError(f"split_indices={split_indices!r}; must be below the {n_layers} layers with factors; "
                         f"use {n_layers - 1} as the last index")
    return tuple(int(v) for v in values)
