"""Evaluation on the held-out images while training."""
from __future__ import annotations

from typing import Any

from mindspore.train import Callback

from models.callbacks.state import TrainingState


class Evaluation(Callback):
    """Every ``config.train.eval_every_epochs`` epochs, and at the end; the metrics go to ``state.evaluation``."""

    def __init__(self, state: TrainingState) -> None:
        super().__init__()
        self.state = state

    def on_train_epoch_end(self, run_context: Any) -> None:
        epochs = self.state.batches // self.state.per_epoch
        every = self.state.session.config.train.eval_every_epochs
        if every and self.state.ends_epoch and (epochs % every == 0 or self.state.batches >= self.state.total):
            metrics = self.state.session.evaluate()
            self.state.evaluation = {name: float(value) for name, value in metrics.items()}
