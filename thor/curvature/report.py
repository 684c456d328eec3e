"""What a refresh saw and did, for people."""
from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from thor.curvature.layer_choice import LayerChoice

logger = logging.getLogger("thor")

STATUS = ("kept", "refreshed", "stopped")  # by KEPT, REFRESHED, STOPPED


@dataclass(frozen=True)
class LayerReport:
    """A layer at the last refresh.

    Attributes:
        status: kept, refreshed or stopped (not to be looked at in the next refresh step).
        refreshes: how often it was refreshed so far.
        trace: tr(HW A x G) as measured; None where it is not, or not finite.
        change: Delta of the damped trace against the layer's last refresh, see ``TracePolicy``; None at its first.
        condition: lower bound of the worst condition number of its damped blocks at its last refresh.
    """

    name: str
    status: str
    refreshes: int
    trace: float | None = None
    change: float | None = None
    condition: float | None = None


def report_layers(choice: LayerChoice, names: list[str]) -> list[LayerReport]:
    """The last refresh, a row for each layer of ``names``."""
    columns = [parameter.asnumpy().tolist() for parameter in (choice.status, choice.refreshes)]
    seen = (choice.seen_traces, choice.seen_changes, choice.conditions) if choice.traced else ()
    columns += [[None if value < 0 else value for value in parameter.asnumpy().tolist()] for parameter in seen]
    return [LayerReport(name, STATUS[status], *numbers) for name, status, *numbers in zip(names, *columns)]


class CurvatureReports:
    """The part of :class:`thor.THOR` that reads its state for people; it changes nothing."""

    registration: Any
    refresh_blocks: Any
    has_factors: bool
    reported: set

    def registration_table(self) -> str:
        """One row for each trainable parameter: its shape and how it is updated."""
        return self.registration.table()

    @property
    def rejected_blocks(self) -> int:
        """Blocks that were not finite or not positive definite so far; each kept its last good inverse."""
        return int(self.refresh_blocks.rejected.asnumpy()) if self.has_factors else 0

    @property
    def unmeasured_layers(self) -> list[str]:
        """Layers that did not run through their taps in the last refresh; they keep the inverse they had."""
        if not self.has_factors:
            return []
        return [layer.name for layer, calls in zip(self._layers_with_factors, self.refresh_blocks.seen_calls.asnumpy())
                if calls == 0]

    def inverses(self) -> dict[str, dict]:
        """The damped inverses by layer name and role: "a" and "g", or "unit"; arrays ``(n_blocks, size, size)``.

        A is divided by the layer's output positions; the diagonal A of an embedding is not among them.
        """
        if not self.has_factors:
            return {}
        found = {}
        for layer, spans in zip(self._layers_with_factors, self.refresh_blocks.inverses):
            roles = ("unit",) if layer.kind == "batchnorm" else ("g",) if layer.kind == "embedding" else ("a", "g")
            found[layer.name] = {role: span.asnumpy() for role, span in zip(roles, spans)}
        return found

    @property
    def _layers_with_factors(self) -> list:
        return [layer for layer in self.registration.layers if layer.factors]

    def curvature_report(self) -> list[LayerReport]:
        """What the last refresh saw and did, layer by layer; traces and conditions with ``record_curvature`` only."""
        if not self.has_factors:
            return []
        return report_layers(self.refresh_blocks.choice, [layer.name for layer in self._layers_with_factors])

    def report_refresh(self) -> None:
        """Warn once, the first time, about blocks that kept their last good inverse and layers not measured."""
        if "rejected" not in self.reported and self.rejected_blocks > 0:
            self.reported.add("rejected")
            logger.warning("%d curvature blocks were not finite or not positive definite and kept their last good "
                           "inverse (counted in optimizer.rejected_blocks); if it goes on, raise the damping",
                           self.rejected_blocks)
        unmeasured = [] if "unmeasured" in self.reported else self.unmeasured_layers
        if unmeasured:
            self.reported.add("unmeasured")
            logger.warning("%s did not run through their taps and train without curvature; if they do run, another "
                           "THOR has tapped the network since, or their construct bypasses the tapped operator",
                           ", ".join(unmeasured))
