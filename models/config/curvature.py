"""When THOR refreshes its curvature, of which layers, and what is recorded of it."""
from __future__ import annotations

import dataclasses
from typing import Any

from models.config.errors import invalid
from models.config.section import Section, subsection
from thor.checks import INT32, Check, choice, flag, integer, number, optional, setting


def intervals() -> Check:
    """Pairs (start, steps), the first start 0 and the rest ascending, kept as a tuple of tuples."""
    requirement = "a list of pairs [start, steps], starts ascending from 0, steps ints >= 1"

    def parse(value: Any) -> tuple[tuple[float, int], ...]:
        if not isinstance(value, (list, tuple)) or not value:
            raise ValueError
        for pair in value:
            if not isinstance(pair, (list, tuple)) or len(pair) != 2 or any(isinstance(item, bool) for item in pair):
                raise ValueError
            if not isinstance(pair[0], (int, float)) or not isinstance(pair[1], int) or pair[1] < 1:
                raise ValueError
            if not all(-INT32 <= item <= INT32 for item in pair):
                raise ValueError(f"use at most {INT32}")
        starts = [start for start, _ in value]
        if starts[0] != 0 or any(later <= start for start, later in zip(starts, starts[1:])):
            raise ValueError
        return tuple((start, steps) for start, steps in value)
    return Check(requirement, parse)


@dataclasses.dataclass(frozen=True)
class UpdateConfig(Section):
    """Which steps refresh curvature, and of which layers.

    Attributes:
        policy: fixed (all layers every optimizer.frequency steps), growing (all layers, at ``intervals``), trace
            (layers whose trace changed, thor.curvature.TracePolicy) or frobenius (each factor at an interval of its
            own, thor.curvature.FrobeniusPolicy).
        intervals: growing, trace, frobenius: pairs [start, steps]: from ``start`` on, a refresh every ``steps``
            steps; null for every optimizer.frequency steps.
        unit: what the starts of ``intervals`` count: epoch or step.
        w1: trace: largest relative change of the trace at which a layer keeps its factors.
        w2: trace: change under which it is never looked at again; 0 for never.
        alpha: frobenius: relative distance under which two factors count as the same.
    """

    policy: str = setting("fixed", choice("fixed", "growing", "trace", "frobenius"))
    intervals: tuple | None = setting(None, optional(intervals(), "every optimizer.frequency steps"),
                                      "use e.g. [[0, 50], [2, 200]]")
    unit: str = setting("epoch", choice("epoch", "step"))
    w1: float = setting(0.01, number(minimum=0))
    w2: float = setting(0.0, number(minimum=0))
    alpha: float = setting(0.1, number(above=0))

    def check_together(self) -> None:
        if self.w2 > self.w1:
            raise invalid("w2", self.w2, f"<= w1, which is {self.w1:g}", "use 0 to stop no layer")
        if self.policy == "growing" and self.intervals is None:
            raise invalid("intervals", None, "pairs [start, steps] with policy growing", "use e.g. [[0, 50], [2, 200]]")
        if self.intervals and self.unit == "step" and any(start != int(start) for start, _ in self.intervals):
            raise invalid("intervals", self.intervals, "whole starts with unit step", "use ints, or unit epoch")


@dataclasses.dataclass(frozen=True)
class CurvatureConfig(Section):
    """THOR's curvature at work.

    Attributes:
        update: when it is refreshed, and of which layers.
        subsample: measure factors on every so many-th row of data (image of a convolution); 1 takes all.
        record: write each layer's trace, its change, condition and fate at every refresh to curvature.csv and draw
            curvature.png; measuring the traces costs one pass over activations and gradients a refresh. Of several
            refreshes within one sink of a device only the last is written.
    """

    update: UpdateConfig = subsection(UpdateConfig)
    subsample: int = setting(1, integer(1), "use 1 to measure on all rows")
    record: bool = setting(True, flag())
