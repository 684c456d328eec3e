"""The checkpoint with the best held-out accuracy, beside the newest ones."""
from __future__ import annotations

import logging
import math
import shutil
from pathlib import Path
from typing import Any

from mindspore.train import Callback

from models.callbacks.state import TrainingState
from models.checkpoint import write
from models.checkpoint_file import BATCHES, BEST, BEST_VALUE, read
from models.files import replacing

logger = logging.getLogger("models")


class KeepBest(Callback):
    """Writes ``best.ckpt`` at every evaluation that is better than all before it; of equal ones the first stays.

    The file says how good it is, so that a resumed run knows: an evaluation that is made again after a kill is no
    better than itself, and the file stays. ``models.checkpoint`` neither counts nor deletes it.

    Args:
        state: where training stands.
        folder: of the run; checkpoints, and start_from where a run of another number of devices goes on.

    Attributes:
        best: (accuracy, batches) of ``best.ckpt``, None while there is none.
    """

    def __init__(self, state: TrainingState, folder: Any) -> None:
        super().__init__()
        self.state = state
        self.path = Path(folder.checkpoints) / BEST
        self.best: tuple[float, int] | None = None
        self._before = getattr(folder, "start_from", None)

    def on_train_begin(self, run_context: Any) -> None:
        before = self._before and self._before / BEST
        if before and before.is_file() and not self.path.exists():
            with replacing(self.path) as part:
                shutil.copyfile(before, part)
        self.best = best_of(self.path)

    def on_train_epoch_end(self, run_context: Any) -> None:
        value = self.state.evaluation.get(self.state.session.task.accuracy, math.nan)
        if math.isnan(value) or self.best is not None and value <= self.best[0]:
            return
        write(self.state.session, self.path, self.state.batches, {BEST_VALUE: repr(value)})
        self.best = value, self.state.batches

    def results(self) -> dict[str, float]:
        """What results.json says of it, also of a run that was killed after its last step."""
        best = self.best or best_of(self.path)
        return {} if best is None else {"best_accuracy": best[0], "best_step": best[1]}


def best_of(path: Path) -> tuple[float, int] | None:
    """(accuracy, batches) of a ``best.ckpt``; None if it is not there, or cannot be read, which is warned of."""
    if not path.is_file():
        return None
    try:
        contents = read(path)
        return float(contents[BEST_VALUE]), contents[BATCHES]
    except (KeyError, TypeError, ValueError) as error:
        logger.warning("%s; it cannot be compared with, the next evaluation takes its place",
                       error if str(path) in str(error) else f"checkpoint={path}; does not say how good it is")
    return None
