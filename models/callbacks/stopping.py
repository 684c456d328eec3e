"""A run that is asked to end, by SIGINT, SIGTERM or SIGHUP: where it looks, what it saves, and what it says."""
from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from mindspore.train import Callback

from models.callbacks.state import TrainingState
from models.checkpoint import CheckpointCallback, save
from models.interruption import INTERRUPTION, NOTHING, Asked, Interrupted

FOLLOWS = 30.0  # seconds the other ranks stay: the first cannot end its step without them


class Stopping(Callback):
    """Looks after every step and epoch, as the last callback, whether the run is asked to end.

    Args:
        state: where training stands.
        saving: writes the checkpoints; None for ranks that write none. They follow the first.
        folder: of the run.

    Raises:
        models.interruption.Asked: it is; ``leave`` does the rest.
    """

    def __init__(self, state: TrainingState, saving: CheckpointCallback | None, folder: Any) -> None:
        super().__init__()
        self.state = state
        self.saving = saving
        self.folder = folder
        self._ended = 0  # batches at the last end of an epoch that all callbacks have seen

    def on_train_begin(self, run_context: Any) -> None:
        self._ended = self.state.start
        INTERRUPTION.describe = self.line
        INTERRUPTION.looks(FOLLOWS if self.saving is None else 0.0)  # before the first step nothing is lost

    def on_train_step_end(self, run_context: Any) -> None:
        self._look()

    def on_train_epoch_end(self, run_context: Any) -> None:
        self._ended = self.state.batches
        self._look()

    def _look(self) -> None:
        if self.saving is None:
            INTERRUPTION.looks(FOLLOWS)
        else:
            INTERRUPTION.check()

    def leave(self) -> Interrupted:
        """Save the last finished step and give what to end with."""
        state = self.state
        if self.saving is not None and state.batches > self.saving.saved:
            owes = state.ends_epoch and state.batches > self._ended
            save(state.session, self.saving.folder, state.batches, state.loss if owes else None)
            self.saving.saved = state.batches
        return Interrupted(self.line(), INTERRUPTION.status)

    def line(self) -> str:
        """How the run ends if it ends now; the first rank says so."""
        if self.saving is None:
            return ""
        start, batches, saved = self.state.start, self.state.batches, self.saving.saved
        resumes = getattr(self.folder, "resumes", False)
        if batches == start and not resumes:
            return NOTHING
        if saved == start and not resumes:
            return f"interrupted at step {batches}, before the first checkpoint; the same command starts again"
        behind = f" after step {saved}, its newest checkpoint" if saved < batches else ""
        again = resumes or self.state.session.config.train.resume == "auto"
        command = "the same command" if again else f"--train.resume {self.folder.path}"
        return f"interrupted at step {batches}; {command} goes on{behind}"


@contextlib.contextmanager
def stopping(callbacks: list[Callback]) -> Iterator[None]:
    """What runs with ``callbacks``, ``Stopping`` among them, ends saved where it is asked to."""
    try:
        yield
    except Asked:
        raise next(callback for callback in callbacks if isinstance(callback, Stopping)).leave() from None
