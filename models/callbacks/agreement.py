"""Whether all ranks still have the same weights and the same state of the optimizer."""
from __future__ import annotations

import zlib
from typing import Any

import numpy as np
from mindspore.train import Callback

from models.callbacks.state import TrainingState
from models.command_line import LoadError
from models.sinks import passed


class RanksDifferError(LoadError):
    """Ranks that should be the same to the bit are not; told in one line, exit status 1."""


class Agreement(Callback):
    """Compares checksums over ranks every ``config.parallel.check_every`` batches, or when the sink ends they lie in.

    Every parameter of the optimizer is compared: weights, momentum, inverses. BatchNorm's running statistics are each
    rank's own.

    Raises:
        RanksDifferError: on all ranks, where one has other bits.
    """

    def __init__(self, state: TrainingState) -> None:
        super().__init__()
        self.state = state
        self._before = 0

    def on_train_begin(self, run_context: Any) -> None:
        self._before = self.state.batches

    def on_train_step_end(self, run_context: Any) -> None:
        session, before = self.state.session, self._before
        self._before = self.state.batches
        if passed(session.config.parallel.check_every, before, self.state.batches):
            parameters = list(session.optimizer.get_parameters())
            sums = session.ranks.gather(np.array([checksum(parameter.asnumpy()) for parameter in parameters]))
            check_agreement(sums, [parameter.name for parameter in parameters], self.state.batches)


def checksum(values: np.ndarray) -> int:
    """CRC-32 of the bits of an array."""
    return zlib.crc32(np.ascontiguousarray(values).reshape(-1).view(np.uint8))


def check_agreement(sums: np.ndarray, names: list[str], batches: int) -> None:
    """RanksDifferError if a column of ``sums`` ``(ranks, parameters)`` holds different checksums."""
    differs = (sums != sums[0]).any(axis=0)
    if differs.any():
        ranks = [rank for rank in range(len(sums)) if (sums[rank] != sums[0]).any()]
        raise RanksDifferError(f"ranks {ranks} differ from rank 0 after batch {batches} in {int(differs.sum())} of "
                               f"{len(names)} parameters, the first {names[int(differs.argmax())]}; go on from the "
                               "newest checkpoint, and look for a faulty device if it comes again")
