"""When curvature is refreshed, and of which layers.

A policy answers two questions. ``due(step)``: does this step refresh? A pure function of the step, the same in
every graph, on the host, on all ranks and after a resume. ``select(...)``: which factors does it refresh? It sees
what the step measured and may keep state in parameters of its own, which are saved with the optimizer's.
"""
from __future__ import annotations

from bisect import bisect_right

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops

from thor.checks import IN_RANGE, checked, integer, number


class UpdatePolicy(nn.Cell):
    """Every layer at every refresh step. Derive from it for a policy of your own and override ``select``.

    Args:
        interval: steps from one refresh to the next; or ``((first_step, interval), ...)`` for intervals that change
            as training goes on, the first from step 0, each segment starting with a refresh. Default: 100.

    Attributes:
        gated: whether ``select`` is asked at all. Default: False, everything is refreshed.
        traced: whether ``select`` needs the change of the traces, which costs a pass over every input and output
            gradient of the layers that are looked at. Default: False.
        keep_below: a layer whose trace changed by no more than this is not even measured where that can be seen
            before its factors are computed; ``select`` still sees the change. Needs ``traced``. Default: 0, all are
            measured.
        compares: whether ``select`` needs the distances to the last two factors, which costs two copies of the
            factors. Default: False.

    Raises:
        TypeError, ValueError: an argument is wrong; the message names it, its value and the remedy.
    """

    gated = False
    traced = False
    keep_below = 0.0
    compares = False

    def __init__(self, interval: int | tuple = 100):
        super().__init__(auto_prefix=False)
        self.set_interval(interval)

    def set_interval(self, interval: int | tuple) -> None:
        """Change ``interval``; before the first step."""
        self.segments = _check_intervals(interval)
        self.starts = Tensor([start for start, _ in self.segments], ms.int32)
        self.lengths = Tensor([length for _, length in self.segments], ms.int32)
        self.ends = Tensor([*[start for start, _ in self.segments[1:]], 2 ** 31 - 1], ms.int32)

    def due_at(self, step: int) -> bool:
        """Whether ``step`` refreshes, on the host."""
        start, length = self.segments[bisect_right([start for start, _ in self.segments], step) - 1]
        return (step - start) % length == 0

    def due(self, step):
        """Whether ``step`` ``()`` refreshes, as a Tensor of shape ``()``."""
        start, length, _ = self._segment(step)
        return ops.equal(ops.floor_mod(step - start, length), 0)

    def following(self, step):
        """The refresh step after the refresh step ``step``; both ``()``."""
        _, length, end = self._segment(step)
        return ops.minimum(step + length, end)

    def _segment(self, step):
        """``(start, interval, end)`` of the segment ``step`` lies in."""
        place = 0
        if len(self.segments) > 1:
            place = ops.cast(step >= self.starts, ms.int32).sum() - 1
        return self.starts[place], self.lengths[place], self.ends[place]

    def prepare(self, n_factors: int) -> None:
        """Create the state ``select`` keeps, if any, for ``n_factors`` factors."""

    def select(self, opened, change, distance, earlier_distance):
        """Which factors to refresh now, and which to look at at the next refresh step.

        Args:
            opened: bool ``(n_factors,)``, which factors were to be looked at in this step.
            change: ``(n_factors,)``, Delta of the trace of the layer's damped Fisher block against that of its last
                refresh; infinite before the first, not a number where the layer did not run or was not looked at; 0
                unless ``traced``.
            distance: ``(n_factors,)``, ``|X - Y|_F / |Y|_F`` from the last factor Y refreshed; infinite before the
                first; 0 unless ``compares``.
            earlier_distance: the same from the last but one.

        Returns:
            Two bool tensors ``(n_factors,)``: refreshed now (where measured), looked at next time.
        """
        return opened, opened


class TracePolicy(UpdatePolicy):
    r"""The rule that gave THOR its name: a layer is refreshed when the trace of its Fisher block has changed.

    With :math:`F_i = HW_i A_i \otimes G_i` and

    .. math::
        \Delta_i = \frac{\big| |tr(F_i^k + \lambda I)| - |tr(F_i^{last} + \lambda I)| \big|}
                        {|tr(F_i^{last} + \lambda I)|}

    a layer is refreshed where Delta > w1, keeps its factors this time where w2 <= Delta <= w1, and is never looked
    at again where Delta < w2. ``last`` is the layer's last refresh, so that slow drift adds up. Published settings
    ``(w1, w2)``: THOR (0.01, 0), THOR_stop (0.01, 0.001), THOR_NT (0, 0).

    Args:
        interval: see :class:`UpdatePolicy`.
        w1: largest change at which a layer is kept, >= 0. Default: 0.01.
        w2: change under which a layer is stopped, in [0, w1]. Default: 0, never.

    Source: Chen et al., THOR, AAAI 2021, section 3.2.
    """

    gated = True
    traced = True

    def __init__(self, interval: int | tuple = 100, w1: float = 0.01, w2: float = 0.0):
        super().__init__(interval)
        self.w1, self.w2 = (checked(name, value, number(minimum=0), IN_RANGE)
                            for name, value in (("w1", w1), ("w2", w2)))
        if self.w2 > self.w1:
            raise ValueError(f"w2={self.w2:g}; must be <= w1={self.w1:g}; use 0 to stop no layer")
        self.keep_below = self.w1

    def select(self, opened, change, distance, earlier_distance):
        kept, stopped = change <= self.w1, change < self.w2
        return (ops.logical_and(opened, ops.logical_not(kept)),
                ops.logical_and(opened, ops.logical_not(stopped)))


class FrobeniusPolicy(UpdatePolicy):
    r"""SP-NGD's rule: each factor has an interval of its own, which grows while the factor stays what it was.

    X is similar to Y where :math:`|X - Y|_F / |Y|_F < \alpha`. After a refresh, counted in refresh steps,

    .. math::
        \Delta \leftarrow \max(1, \lfloor \Delta_{-1} / 2 \rfloor) \ (X \not\sim X_{-1}), \quad
        \Delta_{-1} \ (X \sim X_{-1}, X \not\sim X_{-2}), \quad \Delta_{-1} + \Delta_{-2} \ (otherwise)

    Args:
        interval: see :class:`UpdatePolicy`; SP-NGD itself asks at every step. Default: 1.
        alpha: threshold of similarity, > 0. Default: 0.1.

    Source: Osawa et al., Scalable and Practical Natural Gradient for Large-Scale Deep Learning, 2020, algorithm 2.
    """

    gated = True
    compares = True

    def __init__(self, interval: int | tuple = 1, alpha: float = 0.1):
        super().__init__(interval)
        self.alpha = checked("alpha", alpha, number(above=0), IN_RANGE)

    def prepare(self, n_factors: int) -> None:
        def state(name: str) -> Parameter:
            return Parameter(Tensor(np.ones(n_factors), ms.int32), name=name, requires_grad=False)

        self.length, self.length_before = state("interval_of_factor"), state("interval_of_factor_before")
        self.remaining = state("refreshes_until_factor")

    def select(self, opened, change, distance, earlier_distance):
        length, before = self.length + 0, self.length_before + 0
        longer = ops.select(earlier_distance < self.alpha, length + before, length)
        shorter = ops.maximum(length // 2, ops.ones_like(length))
        fresh = ops.select(distance < self.alpha, longer, shorter)
        remaining = ops.select(opened, fresh, self.remaining + 0) - 1
        ops.assign(self.length, ops.select(opened, fresh, length))
        ops.assign(self.length_before, ops.select(opened, length, before))
        ops.assign(self.remaining, remaining)
        return opened, remaining <= 0


def check_policy(policy) -> UpdatePolicy:
    """A :class:`thor.curvature.UpdatePolicy`."""
    if not isinstance(policy, UpdatePolicy):
        raise TypeError(f"update={policy!r}; must be a thor.curvature.UpdatePolicy or None; "
                        "use e.g. TracePolicy(interval=100, w1=0.01)")
    for name in ("traced", "compares"):
        if getattr(policy, name) and not policy.gated:
            raise ValueError(f"{name}=True of {type(policy).__name__}; must be False where gated is, as select is not "
                             "asked; set gated = True")
    if policy.keep_below > 0 and not policy.traced:
        raise ValueError(f"keep_below={policy.keep_below:g} of {type(policy).__name__}; must be 0 without traces; set "
                         "traced = True")
    return policy


def _check_intervals(interval) -> tuple[tuple[int, int], ...]:
    """``((first_step, interval), ...)`` from an int or such pairs.

    Raises:
        TypeError, ValueError: naming what is wrong.
    """
    remedy = "use 100, or ((0, 20), (1000, 100)) for 20 up to step 1000 and 100 from there"
    if isinstance(interval, int):
        return ((0, checked("interval", interval, integer(1), remedy)),)
    if not isinstance(interval, (tuple, list)) or not interval \
            or not all(isinstance(pair, (tuple, list)) and len(pair) == 2 for pair in interval):
        raise TypeError(f"interval={interval!r}; must be an int or pairs (first_step, interval); {remedy}")
    segments = tuple((checked("first_step", start, integer(0), remedy), checked("interval", length, integer(1), remedy))
                     for start, length in interval)
    starts = [start for start, _ in segments]
    if starts[0] != 0 or any(later <= start for start, later in zip(starts, starts[1:])):
        raise ValueError(f"interval={interval!r}; must start at step 0, each segment later than the one before; "
                         f"{remedy}")
    return segments
