"""The task of BERT: masked words and next sentences."""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import mindspore as ms
from mindspore import nn
from mindspore.dataset import Dataset

from models.bert.dataset import pretraining_dataset
from models.bert.loss import BertPretrainingLoss
from models.bert.scores import PretrainingScores, pretraining_metrics
from models.config import Config
from thor.convert import mixed_precision_network


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
        options = self.config.train
        mixed = mixed_precision_network(network, None, optimizer, options.amp_level, options.keep_batchnorm_fp32)
        if options.amp_level == "O2":
            for _, cell in network.cells_and_names():
                if isinstance(cell, nn.LayerNorm):
                    cell.to_float(ms.float32)  # its epsilon and its variance are too small for float16
        return BertPretrainingLoss(mixed)

    def evaluation(self, network: nn.Cell) -> dict[str, Any]:
        return {"eval_network": PretrainingScores(network), "metrics": pretraining_metrics()}

    def report(self, results: Mapping[str, float]) -> list[tuple[str, str]]:
        return [("masked words", f"{100 * results['mlm_accuracy']:.2f} % right"),
                ("next sentences", f"{100 * results['nsp_accuracy']:.2f} % right"),
                ("masked-LM loss", f"{results['mlm_loss']:.4f} (perplexity {results['mlm_perplexity']:.2f})")]
