"""Logs of scalars that other programs show: TensorBoard's event files, and MindSpore's summaries for MindInsight.

Importing this module imports neither package.
"""
from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from models.config.errors import invalid


class Log(Protocol):
    """Where scalars go."""

    def add(self, scalars: Mapping[str, float], step: int) -> None:
        """Write ``scalars`` by tag, as of ``step``, to disk."""

    def close(self) -> None:
        """Nothing more is written."""


class TensorBoardLog:
    """Event files by tensorboardX.

    Args:
        folder: of the files; a resumed run adds one.
        start: the step a resumed run begins after; TensorBoard drops what earlier files hold of later ones.
    """

    def __init__(self, folder: Path, start: int) -> None:
        from tensorboardX import SummaryWriter

        self._writer = SummaryWriter(str(folder), purge_step=start + 1 if start else None, filename_suffix=f".{start}")

    def add(self, scalars: Mapping[str, float], step: int) -> None:
        for tag, value in scalars.items():
            self._writer.add_scalar(tag, value, step)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class SummaryLog:
    """MindSpore's own summaries, by the SummaryRecord that its SummaryCollector writes with.

    The collector itself counts steps from where the process began, so that those of a resumed run would come twice.
    """

    def __init__(self, folder: Path, start: int) -> None:
        from mindspore.train import SummaryRecord

        self._record = SummaryRecord(str(folder))

    def add(self, scalars: Mapping[str, float], step: int) -> None:
        import mindspore as ms

        for tag, value in scalars.items():
            self._record.add_value("scalar", tag, ms.Tensor(value, ms.float32))
        self._record.record(step)
        self._record.flush()

    def close(self) -> None:
        self._record.close()


WRITERS: dict[str, Callable[[Path, int], Log]] = {"tensorboard": TensorBoardLog, "summary": SummaryLog}
_PACKAGES = {"tensorboard": "tensorboardX"}


def check_installed(names: Sequence[str]) -> None:
    """ConfigError for the first log of ``train.log`` whose package is not installed."""
    for name in names:
        package = _PACKAGES.get(name)
        if package is not None and importlib.util.find_spec(package) is None:
            raise invalid("train.log", list(names), f"without {name} where {package} is not installed",
                          f"install it with pip install {package}, or leave {name} out")
