"""Settings of the curvature estimate."""
from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CurvatureSettings:
    """How measured factors become damped inverses.

    Args:
        batch_size: samples a device processes in one step; turns the gradient of the mean loss into
            per-sample gradients.
        running_average: weight of the old factor in ``new = w * old + (1 - w) * measured``; 0 uses the
            current batch only, as THOR was published.
        pi_correction: split the damping by the ratio of the factors' mean traces (Martens & Grosse 2015,
            section 6.3) instead of evenly.
        share_inverses: with several ranks, each block is inverted by the rank that owns it, not by all.
    """

    batch_size: int = 32
    running_average: float = 0.0
    pi_correction: bool = False
    share_inverses: bool = False

    def __post_init__(self):
        if type(self.batch_size) is not int or self.batch_size < 1:
            raise ValueError(f"batch_size={self.batch_size!r}; must be an int >= 1; "
                             "give the number of samples each device sees in one step")
        if isinstance(self.running_average, bool) or not isinstance(self.running_average, (int, float)) \
                or not 0.0 <= self.running_average < 1.0:
            raise ValueError(f"running_average={self.running_average!r}; must be a float in [0, 1); "
                             "use 0.0 for the current batch only, 0.95 for a long average")
        for name in ("pi_correction", "share_inverses"):
            if type(getattr(self, name)) is not bool:
                raise TypeError(f"{name}={getattr(self, name)!r}; must be a bool; use True or False")
