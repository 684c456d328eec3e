"""Image classification as a benchmark's work: the network, a batch of random images, the loss."""
from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from benchmarks.common import BenchmarkError


def create_network(work: Any) -> Any:
    """A network of ``models.registry``."""
    from models.config.run import ModelConfig
    from models.registry import create_network as build

    stem = "imagenet" if work.image_size >= 64 else "small"
    model = ModelConfig(name=work.model, num_classes=work.classes, in_channels=3, stem=stem)
    try:
        return build(model, argparse.Namespace(image_size=work.image_size))
    except ValueError as error:
        raise BenchmarkError(str(error)) from error


def create_batch(work: Any) -> tuple:
    """Standard normal images ``(batch, 3, size, size)`` and labels ``(batch,)``."""
    import mindspore as ms

    random = np.random.default_rng(work.seed)
    images = random.standard_normal((work.batch_size, 3, work.image_size, work.image_size), np.float32)
    return ms.Tensor(images), ms.Tensor(random.integers(0, work.classes, work.batch_size), ms.int32)


def create_loss(network: Any) -> Any:
    """Network with softmax cross entropy."""
    from mindspore import nn

    from models.losses import SmoothedCrossEntropy

    return nn.WithLossCell(network, SmoothedCrossEntropy())
