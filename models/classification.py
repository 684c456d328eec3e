"""The task of image networks: images to classes."""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mindspore import nn
from mindspore.dataset import Dataset

from models.config import Config
from models.data import create_dataset
from models.losses import create_loss
from models.metrics import ImageScores, image_metrics
from thor.convert import mixed_precision_network


class Classification:
    """Top-1 and, from five classes on, top-5 accuracy; see models.task.Task."""

    accuracy = "top_1_accuracy"
    other_metrics = ()
    result_metrics = ("top_1_accuracy", "top_5_accuracy")

    def __init__(self, config: Config) -> None:
        self.config = config
        self.loss = create_loss(config.loss)

    def dataset(self, train: bool, num_shards: int | None = None, shard_id: int | None = None) -> Dataset:
        return create_dataset(self.config.data, train, self.config.seed, num_shards, shard_id)

    def training_network(self, network: nn.Cell, optimizer: nn.Optimizer) -> nn.Cell:
        options = self.config.train
        return mixed_precision_network(network, self.loss, optimizer, options.amp_level, options.keep_batchnorm_fp32)

    def evaluation(self, network: nn.Cell) -> dict[str, Any]:
        return {"eval_network": ImageScores(network, self.loss),
                "metrics": image_metrics(self.config.model.num_classes)}

    def report(self, results: Mapping[str, float]) -> list[tuple[str, str]]:
        rows = [("test accuracy", f"{100 * results['top_1_accuracy']:.2f} %"),
                ("test loss", f"{results['loss']:.4f}")]
        if "top_5_accuracy" in results:
            rows.insert(1, ("top-5 accuracy", f"{100 * results['top_5_accuracy']:.2f} %"))
        return rows
