"""Training runs that are killed, and what a kill would leave of one that goes on."""
from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mindspore.train import Callback

from models import callbacks


class After(Callback):
    """Calls ``action()`` after a batch, of the first rank, after all other callbacks."""

    def __init__(self, state: callbacks.TrainingState, batch: int, action: Callable[[], None]) -> None:
        super().__init__()
        self.state, self.batch, self.action = state, batch, action

    def on_train_step_end(self, run_context: Any) -> None:
        if self.state.batches == self.batch and self.state.session.ranks.is_first:
            self.action()


def after_batch(batch: int, action: Callable[[Path], None]) -> Callable:
    """A ``models.callbacks.build_callbacks`` of runs in which ``action(run folder)`` is called after ``batch``."""
    build = callbacks.build_callbacks

    def with_action(session: Any, folder: Any) -> list[Callback]:
        made = build(session, folder)
        return [*made, After(made[0], batch, lambda: action(folder.path))]
    return with_action


def kill_after(batch: int) -> None:
    """From now on SIGKILL ends this process after ``batch``; 0 for never."""
    callbacks.build_callbacks = after_batch(batch, lambda folder: os.kill(os.getpid(), signal.SIGKILL))


def left_after(batch: int, target: Path) -> Callable:
    """A ``build_callbacks`` that copies what SIGKILL after ``batch`` would leave of the run folder to ``target``."""
    return after_batch(batch, lambda folder: shutil.copytree(folder, target))
