"""Where training stands, for all other callbacks."""
from __future__ import annotations

import math
from typing import Any

import numpy as np
from mindspore import nn
from mindspore.train import Callback

from models.callbacks.skipped import Skipped
from models.checkpoint import check_finite
from models.checkpoint_file import OBSERVED
from models.command_line import CAUSES, DivergedError
from models.optimizers import damping_array, learning_rate_array
from thor.gradient_norm import UNKNOWN


class TrainingState(Callback):
    """Batches seen, loss, learning rate and damping; ends the run when it has diverged or is done.

    Args:
        session: models.session.Session.

    Attributes:
        batches: training batches seen since the first start of the run.
        before: the same at the report before; callbacks are called after every step, or once a sink (models.sinks).
        start: batches seen when this process began.
        total: batches of the whole run.
        loss: of the latest batch; those within a sink are not seen.
        refreshed: layers refreshed, and layers with curvature, at the latest refresh; None before it.
        evaluation: metrics of the latest evaluation if it belongs to the present batch, else {}.
        skipped: updates that were skipped.
        gradient_norm: of the latest update; None where it is not recorded, or not finite.

    Raises:
        DivergedError: the loss is not finite and no update was skipped for it; a parameter is not finite after an
            epoch; ``config.train.skipped_limit`` updates in a row were skipped.
    """

    def __init__(self, session: Any) -> None:
        super().__init__()
        config = session.config
        self.session = session
        self.per_epoch = session.batches_per_epoch
        self.total = config.train.epochs * self.per_epoch
        self.batches = self.before = self.start = 0
        self.loss = math.nan
        self.refreshed: tuple[int, int] | None = None
        self.evaluation: dict[str, float] = {}
        self._learning_rates = learning_rate_array(config, self.per_epoch)
        self._dampings = damping_array(config, self.per_epoch) if config.optimizer.second_order else None
        self.skipped = Skipped(session.step, config.train.skipped_limit, config.train.accumulate_steps)
        self._not_finite: float | None = None  # a loss whose update is still to come
        self._norm = next((p for p in session.step.get_parameters() if p.name.rpartition(".")[2] in OBSERVED), None)

    @property
    def gradient_norm(self) -> float | None:
        """See the class."""
        norm = UNKNOWN if self._norm is None else float(self._norm.asnumpy())
        return None if norm == UNKNOWN else norm

    @property
    def epoch(self) -> float:
        """Epochs passed, with fraction."""
        return self.batches / self.per_epoch

    @property
    def ends_epoch(self) -> bool:
        """Whether an epoch of the run ends here; MindSpore's own end with every sink."""
        return self.batches % self.per_epoch == 0

    @property
    def learning_rate(self) -> float:
        """Learning rate of the latest update."""
        return float(self._learning_rates[self._within(self._updates() - 1)])

    @property
    def damping(self) -> float | None:
        """Damping of the latest update, None if the optimizer is not THOR."""
        return self.damping_at(self._updates() - 1)

    def damping_at(self, step: int) -> float | None:
        """Damping of an optimizer step, from 0; None if the optimizer is not THOR."""
        return None if self._dampings is None else float(self._dampings[self._within(step)])

    def _within(self, step: int) -> int:
        return min(max(step, 0), len(self._learning_rates) - 1)

    def _updates(self) -> int:
        optimizer = self.session.optimizer
        if isinstance(optimizer, nn.LARS):
            optimizer = optimizer.opt
        return int(optimizer.global_step.asnumpy().reshape(()))

    def on_train_begin(self, run_context: Any) -> None:
        self.start = self.before = self.batches = self.session.train_set.get_init_step()
        self.skipped.begin()

    def on_train_step_end(self, run_context: Any) -> None:
        parameters = run_context.original_args()
        self.before, self.batches = self.batches, self.start + parameters.cur_step_num
        self.evaluation = {}
        self.loss = float(np.mean(parameters.net_outputs.asnumpy()))
        self._check_loss()
        if self.batches >= self.total:
            run_context.request_stop()  # epochs of a data sink need not end where the resumed run began

    def _check_loss(self) -> None:
        if not math.isfinite(self.loss):
            self._not_finite = self.loss
        due, skipped = self.skipped.look(self.before, self.batches)
        if due and self._not_finite is not None:
            loss, self._not_finite = self._not_finite, None
            if not skipped:
                raise DivergedError(f"loss is {loss} at batch {self.batches} (epoch {self.epoch:.2f}); {CAUSES} "
                                    "lower the learning rate or raise the damping")

    def on_train_epoch_end(self, run_context: Any) -> None:
        if self.ends_epoch:
            check_finite(self.session.step, self.batches)
