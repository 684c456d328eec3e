"""The task of BERT: masked words and next sentences."""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mindspore import nn
from mindspore.dataset import Dataset

from models.bert.dataset import pretraining_dataset
from models.bert.loss import BertPretrainingLoss
from models.bert.precision import mixed_precision
from models.bert.scores import PretrainingScores, pretraining_metrics
from models.config import Config


class Pretraining:
    """Accuracy of masked words and next sentences, and the perplexity of masked words; see models.task.Task."""

    accuracy = "mlm_accuracy"
    other_metrics = ("mlm_loss", "nsp_accuracy")
    result_metrics = ("mlm_accuracy", "nsp_accuracy", "mlm_loss", "mlm_perplexity")

    def __init__(self, config: Config) -> None:
        self.config = config

    def dataset(self, train: bool, num_shards: int | None = None, shard_id: int | None = None) -> Dataset:
        return pretraining_dataset(self.config.data, self.config.model.bert, train, self.config.seed, num_shards,
                                   shard_id)

    def training_network(self, network: nn.Cell, optimizer: nn.Optimizer) -> nn.Cell:
        return BertPretrainingLoss(mixed_precision(network, optimizer, self.config.train))

    def evaluation(self, network: nn.Cell) -> dict[str, Any]:
        return {"eval_network": PretrainingScores(network), "metrics": pretraining_metrics()}

    def report(self, results: Mapping[str, float]) -> list[tuple[str, str]]:
        return [("masked words", f"{100 * results['mlm_accuracy']:.2f} % right"),
                ("next sentences", f"{100 * results['nsp_accuracy']:.2f} % right"),
                ("masked-LM loss", f"{results['mlm_loss']:.4f} (perplexity {results['mlm_perplexity']:.2f})")]
