"""A run that diverges says so once, with the settings that decide it.

Right mathematics diverges where curvature is stale, little damped or followed too far, and the loss shows it before it
overflows. Looking at it costs next to nothing: a step called from Python waits for the global step of the one before
anyway, and that step's loss is there by then. In a data sink the last loss of each sink is seen.
"""
from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Any

import mindspore as ms
import numpy as np
from mindspore import Tensor

if TYPE_CHECKING:
    from thor.optimizer import THOR

logger = logging.getLogger("thor")

MANIFOLD = 3.0
SETTLED = 10


class DivergenceWatch:
    """Warns, once, when the loss has risen manifold.

    It has when it lies above the loss the run began with, and is three times that, or three times the largest loss of
    the refresh interval before. The beginning of a resumed run is not seen: the largest of its first ten losses stands
    for it. A loss that is not finite has risen, too, unless its update was not finite, either, and was skipped.

    Args:
        optimizer: whose settings the warning names.
        tolerates: losses that are not finite are nothing to warn of, because such steps may be skipped.
    """

    def __init__(self, optimizer: THOR, tolerates: bool = False):
        self.optimizer, self.tolerates, self.warned = optimizer, tolerates, False
        self.skipped = optimizer.skipped_updates
        self.resumed: bool | None = None
        self.step = -1
        self.first_losses: list[float] = []
        self.begun: float | None = None
        self.before, self.largest = math.inf, -math.inf  # of the refresh interval before, and of this one
        self.pending: tuple[int, Tensor] | None = None

    def start(self, step: int) -> None:
        """Tell where the run starts; the first loss does, if nothing else has."""
        if self.resumed is None:
            self.resumed = step > 0

    def remember(self, step: int, outputs: Any) -> None:
        """Keep the loss of ``step``, a Tensor or the first of several, until :meth:`look` is called."""
        loss = outputs[0] if isinstance(outputs, (tuple, list)) else outputs
        if not self.warned and isinstance(loss, Tensor) and loss.dtype in (ms.float16, ms.float32, ms.float64):
            self.pending = step, loss

    def look(self) -> None:
        """Look at the loss that was kept."""
        if self.pending is not None:
            (step, loss), self.pending = self.pending, None
            self.note(step, float(np.mean(loss.asnumpy().astype(np.float64))))

    def note(self, step: int, loss: float) -> None:
        """Tell the loss of ``step``, which counts updates from 0; steps may be left out."""
        if self.warned:
            return
        self.start(step)
        if not math.isfinite(loss):
            applied, self.skipped = self.optimizer.skipped_updates == self.skipped, self.optimizer.skipped_updates
            if applied and not self.tolerates:
                self._warn(step, loss)
            return
        if any(self.optimizer.refresh_due_at(between) for between in range(self.step + 1, step + 1)):
            self.before = self.largest if self.step >= 0 else math.inf
            self.largest = -math.inf
        self.step = step
        if self.begun is None:
            self.first_losses.append(loss)
            if not self.resumed or len(self.first_losses) == SETTLED:
                self.begun = max(self.first_losses)
        elif loss > self.begun and loss >= MANIFOLD * min(self.begun, self.before) > 0:
            self._warn(step, loss)
        self.largest = max(self.largest, loss)

    def _warn(self, step: int, loss: float) -> None:
        self.warned = True
        optimizer = self.optimizer
        interval = [length for start, length in optimizer.policy.segments if start <= step][-1]
        damping = float(optimizer.damping(optimizer.global_step).asnumpy().reshape(()))
        rate = float(optimizer.own_lr().asnumpy())
        often = "refresh more often (a lower frequency), " if interval > 1 else ""
        begun = "" if self.begun is None else f", {self.begun:.4g} at the start"
        logger.warning("the loss is %.4g at step %d%s: training diverges with frequency=%d, damping=%.4g and "
                       "learning_rate=%.4g; %sraise the damping, or lower or warm up the learning rate", loss, step,
                       begun, interval, damping, rate, often)
