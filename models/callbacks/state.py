"""Where training stands, for all other callbacks."""
from __future__ import annotations

import math
from typing import Any

import numpy as np
from mindspore import nn
from mindspore.train import Callback

from models.finite import DivergedError, check_finite
from models.optimizers import damping_array, learning_rate_array

MOST_SKIPPED = 100


class TrainingState(Callback):
    """Batches seen, loss, learning rate and damping; ends the run when it has diverged or is done.

    Args:
        session: models.session.Session.

    Attributes:
        batches: training batches seen since the first start of the run.
        start: batches seen when this process began.
        total: batches of the whole run.
        loss: of the latest batch.
        refreshed: layers refreshed, and layers with curvature, at the latest refresh; None before it.
        evaluation: metrics of the latest evaluation if it belongs to the present batch, else {}.

    Raises:
        DivergedError: the loss, or after an epoch a parameter, is not finite. With a loss scale that skips
            steps that overflow, only after 100 such losses in a row.
    """

    def __init__(self, session: Any) -> None:
        super().__init__()
        config = session.config
        self.session = session
        self.per_epoch = session.batches_per_epoch
        self.total = config.train.epochs * self.per_epoch
        self.batches = self.start = 0
        self.loss = math.nan
        self.refreshed: tuple[int, int] | None = None
        self.evaluation: dict[str, float] = {}
        self._learning_rates = learning_rate_array(config, self.per_epoch)
        self._dampings = damping_array(config, self.per_epoch) if config.optimizer.second_order else None
        skips = config.loss_scale.policy == "dynamic" or config.loss_scale.value != 1
        self._tolerated = MOST_SKIPPED if skips else 0
        self._not_finite = 0

    @property
    def epoch(self) -> float:
        """Epochs passed, with fraction."""
        return self.batches / self.per_epoch

    @property
    def learning_rate(self) -> float:
        """Learning rate of the latest update."""
        return self._scheduled(self._learning_rates)

    @property
    def damping(self) -> float | None:
        """Damping of the latest update, None if the optimizer is not THOR."""
        return None if self._dampings is None else self._scheduled(self._dampings)

    def _scheduled(self, values: np.ndarray) -> float:
        optimizer = self.session.optimizer
        if isinstance(optimizer, nn.LARS):
            optimizer = optimizer.opt
        updates = int(optimizer.global_step.asnumpy().reshape(()))
        return float(values[min(max(updates - 1, 0), len(values) - 1)])

    def on_train_begin(self, run_context: Any) -> None:
        self.start = self.batches = self.session.train_set.get_init_step()

    def on_train_step_end(self, run_context: Any) -> None:
        parameters = run_context.original_args()
        self.batches = self.start + parameters.cur_step_num
        self.evaluation = {}
        self.loss = float(np.mean(parameters.net_outputs.asnumpy()))
        self._check_loss()
        if self.batches >= self.total:
            run_context.request_stop()  # epochs of a data sink need not end where the resumed run began

    def _check_loss(self) -> None:
        self._not_finite = 0 if math.isfinite(self.loss) else self._not_finite + 1
        if self._not_finite > self._tolerated:
            raise DivergedError(f"loss is {self.loss} at batch {self.batches} (epoch {self.epoch:.2f}); "
                                f"training has diverged; lower the learning rate or raise the damping")

    def on_train_epoch_end(self, run_context: Any) -> None:
        check_finite(self.session.step, self.batches)
