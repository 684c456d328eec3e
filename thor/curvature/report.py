"""What a refresh saw and did, for people."""
from __future__ import annotations

from dataclasses import dataclass

from thor.curvature.layer_choice import LayerChoice

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
