"""The task of GPT: the next token."""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mindspore import nn
from mindspore.dataset import Dataset

from models.bert.precision import mixed_precision
from models.config import Config
from models.gpt.dataset import token_dataset
from models.gpt.loss import NextTokenLoss, NextTokenScores, next_token_metrics


class NextToken:
    """Accuracy of next tokens, and their perplexity; see models.task.Task."""

    accuracy = "next_token_accuracy"
    other_metrics = ("perplexity",)
    result_metrics = ("next_token_accuracy", "loss", "perplexity")

    def __init__(self, config: Config) -> None:
        self.config = config

    def dataset(self, train: bool, num_shards: int | None = None, shard_id: int | None = None) -> Dataset:
        return token_dataset(self.config.data, self.config.model.gpt, train, self.config.seed, num_shards, shard_id)

    def training_network(self, network: nn.Cell, optimizer: nn.Optimizer) -> nn.Cell:
        return NextTokenLoss(mixed_precision(network, optimizer, self.config.train))

    def evaluation(self, network: nn.Cell) -> dict[str, Any]:
        return {"eval_network": NextTokenScores(network), "metrics": next_token_metrics()}

    def report(self, results: Mapping[str, float]) -> list[tuple[str, str]]:
        return [("next tokens", f"{100 * results['next_token_accuracy']:.2f} % right"),
                ("held-out loss", f"{results['loss']:.4f} (perplexity {results['perplexity']:.2f})")]
