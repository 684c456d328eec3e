"""A run that ends where its held-out accuracy rises no more."""
from __future__ import annotations

import json
import math
from typing import Any

from mindspore.train import Callback

from models.callbacks.state import TrainingState
from models.checkpoint_file import EARLY_STOP


class EarlyStop(Callback):
    """Asks for the end after ``train.early_stop.patience`` evaluations that do not rise above the best.

    An evaluation rises where it is more than the best so far and ``min_delta``; it is the best then. What was seen is
    kept in every checkpoint, on all ranks alike.

    Args:
        state: where training stands.

    Attributes:
        best, step: the accuracy to rise above, -inf before the first evaluation, and the batch it was seen at.
        without: evaluations since then.
        ended_at: the batch the run ended early at, None where it does not.
    """

    def __init__(self, state: TrainingState) -> None:
        super().__init__()
        self.state = state
        self.options = state.session.config.train.early_stop
        seen = json.loads(state.session.notes.get(EARLY_STOP, "{}"))
        self.best, self.step, self.without = (seen.get(name, default) for name, default in
                                              (("best", -math.inf), ("step", 0), ("without", 0)))
        at = seen.get("seen_at", 0)
        self.ended_at = at if self.reached and at < state.total else None

    @property
    def reached(self) -> bool:
        """Whether patience has come to its end."""
        return self.options.patience is not None and self.without >= self.options.patience

    def on_train_epoch_end(self, run_context: Any) -> None:
        value = self.state.evaluation.get(self.state.session.task.accuracy)
        if self.options.patience is None or value is None:
            return
        if value > self.best + self.options.min_delta:
            self.best, self.step, self.without = value, self.state.batches, 0
        else:
            self.without += 1
        self.state.session.notes[EARLY_STOP] = json.dumps(
            {"best": self.best, "step": self.step, "without": self.without, "seen_at": self.state.batches})
        if self.reached and self.state.batches < self.state.total:
            self.ended_at = self.state.batches
            run_context.request_stop()

    def line(self) -> str:
        """How the run ended early."""
        above = f"{self.best:.4f}" + (f" + {self.options.min_delta:g}" if self.options.min_delta else "")
        return (f"stopped early at step {self.ended_at}: no {self.state.session.task.accuracy} above {above} (step "
                f"{self.step}) in {self.without} evaluations; --train.resume CHECKPOINT with a larger "
                "train.early_stop.patience goes on")
