"""Settings to try, from ranges: points of a grid, or spread over it at random."""
from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping
from typing import Any

SEARCHES = ("grid", "random")


@dataclasses.dataclass(frozen=True)
class Values:
    """A setting takes one of these, the usual one first."""

    values: tuple[Any, ...]

    def at(self, share: float) -> Any:
        """The value at ``share``, 0 <= share < 1, of the list."""
        return self.values[int(share * len(self.values))]


@dataclasses.dataclass(frozen=True)
class Span:
    """A setting takes any number from ``low`` to ``high``, spread evenly or evenly in its logarithm."""

    low: float
    high: float
    log: bool = True

    def at(self, share: float) -> float:
        """The number at ``share``, 0 <= share < 1, of the span, to three digits."""
        if self.log:
            value = self.low * (self.high / self.low) ** share
        else:
            value = self.low + (self.high - self.low) * share
        return float(f"{value:.3g}")


def draw(ranges: Mapping[str, Values | Span], search: str, count: int, seed: int) -> list[dict[str, Any]]:
    """``count`` settings; those for a smaller count are the first of those for a larger one.

    Args:
        ranges: by name of the setting; only Values for a grid.
        search: ``grid``, products of the values in order of how far from the usual ones they are, or ``random``,
            a scrambled Halton sequence, which leaves no part of the ranges out (Owen 2017,
            https://arxiv.org/abs/1706.02808).
        count: >= 1; at most the points of a grid.
        seed: of the random search; the same for all optimizers.
    """
    names = list(ranges)
    if search == "grid":
        places = itertools.product(*(range(len(ranges[name].values)) for name in names))
        chosen = sorted(places, key=sum)[:count]
        return [{name: ranges[name].values[i] for name, i in zip(names, place)} for place in chosen]
    from scipy.stats import qmc

    points = qmc.Halton(len(names), scramble=True, seed=seed).random(count)
    return [{name: ranges[name].at(float(share)) for name, share in zip(names, point)} for point in points]


def grid_size(ranges: Mapping[str, Values | Span]) -> int:
    """Points of a grid."""
    return math.prod(len(values.values) for values in ranges.values())
