"""What a refresh saw and did: kept in parameters, so that it is saved with the optimizer, and reported to people."""
from __future__ import annotations

import logging
from dataclasses import dataclass

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops

logger = logging.getLogger("thor")

STATUS = ("kept", "refreshed", "stopped")
KEPT, REFRESHED, STOPPED = range(3)


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


class RefreshRecord(nn.Cell):
    """State of all layers with factors, ``(n_layers,)`` each.

    Args:
        names: of the layers.
        traced: traces are measured.
    """

    def __init__(self, names: list[str], traced: bool):
        super().__init__(auto_prefix=False)
        self.names, self.traced = tuple(names), traced
        self.warned: set[str] = set()

        def state(name: str, shape: tuple = (len(names),), dtype=ms.float32, value: float = 0) -> Parameter:
            return Parameter(Tensor(np.full(shape, value), dtype), name=name, requires_grad=False)

        self.calls = state("calls_at_last_refresh", value=1)
        self.rejected = state("rejected_blocks", ())
        self.refreshes = state("refreshes_of_layer", dtype=ms.int32)
        self.status = state("status_of_layer", dtype=ms.int32)
        if traced:
            self.traces, self.changes = state("trace_of_layer"), state("change_of_layer")
            self.conditions = state("condition_of_layer")

    def construct(self, seen):
        """Count refreshes, and keep what was seen.

        Args:
            seen: calls of each layer; blocks rejected, ``()``; the worst condition number of each layer's damped
                blocks, None where it is not ``traced``; 1.0 for each layer refreshed, and for each not to be looked at
                next; where it is traced, the change and the trace of each. ``(n_layers,)`` all but one.
        """
        calls, rejected, worst, refreshed, stopped = seen[:5]
        done = refreshed > 0
        ops.assign(self.calls, calls)
        ops.assign(self.rejected, self.rejected + rejected)
        ops.assign(self.refreshes, self.refreshes + done.astype(ms.int32))
        status = ops.select(stopped > 0, STOPPED * ops.ones_like(refreshed), ops.zeros_like(refreshed))
        ops.assign(self.status, ops.select(done, REFRESHED * ops.ones_like(refreshed), status).astype(ms.int32))
        if self.traced:
            ops.assign(self.conditions, ops.select(done, worst, self.conditions + 0.0))
            ops.assign(self.changes, _finite_or_negative(seen[5]))
            ops.assign(self.traces, _finite_or_negative(seen[6]))
        return refreshed

    def rejected_blocks(self) -> int:
        """Blocks that were not finite or not positive definite so far."""
        return int(self.rejected.asnumpy())

    def unmeasured_layers(self) -> list[str]:
        """Layers that did not run through their taps in the last refresh."""
        return [name for name, calls in zip(self.names, self.calls.asnumpy()) if calls == 0]

    def reports(self) -> list[LayerReport]:
        """The last refresh, layer by layer."""
        columns = [parameter.asnumpy().tolist() for parameter in (self.status, self.refreshes)]
        seen = (self.traces, self.changes, self.conditions) if self.traced else ()
        columns += [[None if value < 0 else value for value in parameter.asnumpy().tolist()] for parameter in seen]
        return [LayerReport(name, STATUS[status], *numbers) for name, status, *numbers in zip(self.names, *columns)]

    def warn_once(self) -> None:
        """Warn, the first time, about blocks that kept their last good inverse and layers not measured."""
        if "rejected" not in self.warned and self.rejected_blocks() > 0:
            self.warned.add("rejected")
            logger.warning("%d curvature blocks were not finite or not positive definite and kept their last good "
                           "inverse (counted in optimizer.rejected_blocks); if it goes on, raise the damping",
                           self.rejected_blocks())
        unmeasured = [] if "unmeasured" in self.warned else self.unmeasured_layers()
        if unmeasured:
            self.warned.add("unmeasured")
            logger.warning("%s did not run through their taps and train without curvature; if they do run, another "
                           "THOR has tapped the network since, or their construct bypasses the tapped operator",
                           ", ".join(unmeasured))


def _finite_or_negative(values):
    """``values`` with -1 where they are not finite."""
    return ops.select(ops.isfinite(values), values, -ops.ones_like(values))
