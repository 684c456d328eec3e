"""Updates that were skipped, for overflow or because they were not finite."""
from __future__ import annotations

from mindspore import nn

from models.checkpoint_file import COUNTERS
from models.command_line import CAUSES, DivergedError

REASON = "for overflow or because they were not finite"
REMEDY = f"{CAUSES} lower the loss scale or the learning rate, or raise the damping"


class Skipped:
    """How many updates a run has skipped, and how many in a row.

    Args:
        step: the train step, whose parameters count them (``thor.train.skipped_updates``).
        limit: how many in a row end the run.
        batches_per_update: micro-batches of an update.

    Attributes:
        total: since the first start of the run.
        in_a_row: up to now; of several steps at once, in a sink, those of a sink that skipped all.
    """

    def __init__(self, step: nn.Cell, limit: int, batches_per_update: int) -> None:
        self.limit, self.batches_per_update = limit, batches_per_update
        self.counters = [parameter for parameter in step.get_parameters()
                         if parameter.name.rpartition(".")[2] in COUNTERS]  # looked up once, as steps are many
        self.total, self.in_a_row = 0, 0

    def begin(self) -> None:
        """The run begins, or goes on."""
        self.total, self.in_a_row = self._count(), 0

    def look(self, before: int, batches: int) -> tuple[int, int]:
        """Updates that were due, and skipped, in the batches after ``before`` up to ``batches``.

        Raises:
            DivergedError: ``limit`` in a row were skipped.
        """
        due = batches // self.batches_per_update - before // self.batches_per_update
        total = self._count()
        skipped, self.total = total - self.total, total
        if due:
            self.in_a_row = self.in_a_row + skipped if skipped >= due else 0
        if self.in_a_row >= self.limit:
            raise DivergedError(f"{self.in_a_row} updates in a row were skipped up to batch {batches}, {REASON}; "
                                f"{REMEDY} (train.skipped_limit is {self.limit})")
        return due, skipped

    def check_any_applied(self, batches: int) -> None:
        """DivergedError if all updates of a run of ``batches`` were skipped."""
        due, self.total = batches // self.batches_per_update, self._count()
        if 0 < due <= self.total:
            raise DivergedError(f"all {due} updates were skipped, {REASON}; {REMEDY}")

    def _count(self) -> int:
        return sum(int(counter.asnumpy()) for counter in self.counters)
