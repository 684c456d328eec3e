"""What an optimizer with curvature tells people; nothing of it is part of a step."""
from __future__ import annotations

from typing import TYPE_CHECKING

from thor.curvature.record import LayerReport

if TYPE_CHECKING:
    from thor.curvature.refresh import Curvature
    from thor.registration import Registration


class CurvatureReports:
    """Reports of a network's registration, and of its curvature where a layer has factors."""

    registration: Registration
    curvature: Curvature
    has_factors: bool

    def registration_table(self) -> str:
        """One row for each trainable parameter: its shape and how it is updated."""
        return self.registration.table()

    @property
    def rejected_blocks(self) -> int:
        """Blocks that were not finite or not positive definite so far; each kept its last good inverse."""
        return self.curvature.record.rejected_blocks() if self.has_factors else 0

    @property
    def unmeasured_layers(self) -> list[str]:
        """Layers that did not run through their taps in the last refresh; they keep the inverse they had."""
        return self.curvature.record.unmeasured_layers() if self.has_factors else []

    def inverses(self) -> dict[str, dict]:
        """The damped inverses by layer name and role, see :meth:`thor.curvature.refresh.Curvature.inverses_by_role`."""
        return self.curvature.inverses_by_role() if self.has_factors else {}

    def curvature_report(self) -> list[LayerReport]:
        """What the last refresh saw and did, layer by layer; traces and conditions where they are measured."""
        return self.curvature.record.reports() if self.has_factors else []
