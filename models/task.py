"""What a configuration asks for beside its network: data, loss, evaluation. Images and text share all the rest."""
from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from models.config import Config

if TYPE_CHECKING:
    from mindspore import nn
    from mindspore.dataset import Dataset


class Task(Protocol):
    """What a kind of network is trained for.

    Attributes:
        accuracy: the metric shown as the accuracy, in metrics.csv as eval_accuracy; the higher the better, for
            train.keep_best and train.early_stop.
        other_metrics: further metrics with a column of their own in metrics.csv.
        result_metrics: the metrics models.evaluate prints, if there are such.
    """

    accuracy: str
    other_metrics: tuple[str, ...]
    result_metrics: tuple[str, ...]

    def dataset(self, train: bool, num_shards: int | None = None, shard_id: int | None = None) -> Dataset:
        """Training batches, with ``start_at``, or the held-out ones; of several devices, one's part of them.

        Raises:
            OSError, ValueError: one line about what cannot be used.
        """

    def training_network(self, network: nn.Cell, optimizer: nn.Optimizer) -> nn.Cell:
        """``network`` with its loss, at the configured precision: a batch to the loss ``()``."""

    def evaluation(self, network: nn.Cell) -> dict[str, Any]:
        """The arguments of ``mindspore.Model`` that make it evaluate ``network``."""

    def report(self, results: Mapping[str, float]) -> list[tuple[str, str]]:
        """(label, value) of the results as shown at the end of a run."""


def create_task(config: Config) -> Task:
    """The task of ``config.model``. Importing this module does not import MindSpore, calling this does."""
    if config.model.tells_next:
        from models.gpt.task import NextToken

        return NextToken(config)
    if config.model.reads_text:
        from models.bert.task import Pretraining

        return Pretraining(config)
    from models.classification import Classification

    return Classification(config)
