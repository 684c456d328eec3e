"""The end of an epoch that a run was interrupted in, made up for when it goes on."""
from __future__ import annotations

from types import SimpleNamespace

from mindspore.train import Callback

from models.callbacks.state import TrainingState


class Context:
    """What MindSpore hands to callbacks, of a training without a step."""

    def __init__(self) -> None:
        self.parameters = SimpleNamespace(cur_step_num=0)

    def original_args(self) -> SimpleNamespace:
        """As of ``mindspore.train.RunContext``."""
        return self.parameters

    def request_stop(self) -> None:
        """Nothing trains; the callback that asks knows by itself that it did."""


def end_epoch(state: TrainingState, callbacks: list[Callback], loss: float) -> None:
    """Have ``callbacks``, the first of which is ``state``, end the epoch whose last batch had ``loss``."""
    context = Context()
    for callback in callbacks:
        callback.on_train_begin(context)
    state.loss = loss
    for callback in callbacks:
        callback.on_train_epoch_end(context)
    for callback in callbacks:
        callback.on_train_end(context)
