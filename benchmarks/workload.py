"""Networks, batches and train steps by name, the same for every optimizer."""
from __future__ import annotations

import argparse
import math
import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.common import BenchmarkError, at_least
from benchmarks.floor import LayerWork

LEARNING_RATE, MOMENTUM, WEIGHT_DECAY, DAMPING = 0.01, 0.9, 5e-4, 0.03


@dataclass(frozen=True)
class Work:
    """What is trained.

    Args:
        model: a name of ``models.registry``.
        image_size: height and width in pixels.
        batch_size: images a step.
        classes: width of the logits.
        split_dim: rows of a block, None for whole matrices.
        frequency: steps from refresh to refresh.
        seed: of weights and data.
    """

    model: str = "resnet50"
    image_size: int = 64
    batch_size: int = 32
    classes: int = 1000
    split_dim: int | None = 128
    frequency: int = 100
    seed: int = 1


def add_work(made: argparse.ArgumentParser, timed: bool = True) -> None:
    """Options that choose a :class:`Work`; those of data only where something is ``timed``."""
    from models.registry import network_names

    made.add_argument("--model", choices=network_names(), default=Work.model, help="network")
    made.add_argument("--classes", type=at_least(2), default=Work.classes, help="width of the logits")
    made.add_argument("--image-size", type=at_least(8), default=Work.image_size, help="pixels a side")
    made.add_argument("--split-dim", type=at_least(1), default=Work.split_dim, help="rows of a block")
    if timed:
        made.add_argument("--batch-size", type=at_least(1), default=Work.batch_size, help="images a step")
        made.add_argument("--frequency", type=at_least(1), default=Work.frequency, help="steps a refresh")


def chosen_work(options: argparse.Namespace) -> Work:
    """The work that parsed options ask for."""
    names = Work.__dataclass_fields__
    return Work(**{name: value for name, value in vars(options).items() if name in names})


def create_network(work: Work) -> Any:
    """The network with weights drawn from the seed; sets oneDNN's instruction set for it."""
    os.environ.setdefault("GLOG_v", "4")
    import mindspore as ms

    from models import device
    from models.config.sections import DeviceConfig, ModelConfig
    from models.registry import create_network as build

    ms.set_context(mode=ms.GRAPH_MODE)
    ms.set_seed(work.seed)
    stem = "imagenet" if work.image_size >= 64 else "small"
    model = ModelConfig(name=work.model, num_classes=work.classes, in_channels=3, stem=stem)
    try:
        network = build(model, argparse.Namespace(image_size=work.image_size))
    except ValueError as error:
        raise BenchmarkError(str(error)) from error
    device.limit_isa(DeviceConfig(), network)
    return network


def copy_weights(source: Any, target: Any) -> None:
    """Give ``target`` the values of the parameters of ``source``, in order."""
    for old, new in zip(source.get_parameters(), target.get_parameters()):
        new.set_data(old.value().copy())


def create_batch(work: Work) -> tuple:
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


def compile_something() -> None:
    """Compile and run a trivial graph, so that what MindSpore does once a process counts for no side."""
    import mindspore as ms
    from mindspore import nn

    network = nn.Dense(2, 2)
    step = nn.TrainOneStepCell(nn.WithLossCell(network, nn.MSELoss()),
                                    nn.Momentum(network.trainable_params(), LEARNING_RATE, MOMENTUM))
    step(ms.ops.ones((1, 2)), ms.ops.ones((1, 2))).asnumpy()


def create_momentum_step(network: Any) -> Any:
    """The first-order train step: MindSpore's Momentum."""
    from mindspore import nn

    from thor.train import make_train_step

    optimizer = nn.Momentum(network.trainable_params(), LEARNING_RATE, MOMENTUM, WEIGHT_DECAY)
    return make_train_step(create_loss(network), optimizer)


def create_thor_step(network: Any, work: Work) -> Any:
    """The second-order train step with the same first-order update behind the preconditioner."""
    from thor import THOR
    from thor.train import make_train_step

    optimizer = THOR(network, LEARNING_RATE, DAMPING, MOMENTUM, WEIGHT_DECAY, batch_size=work.batch_size,
                     frequency=work.frequency, split_dim=work.split_dim)
    return make_train_step(create_loss(network), optimizer)


def output_positions(network: Any, work: Work) -> dict[int, int]:
    """Output positions of a sample by ``id`` of the weight, from one image sent through in PyNative mode."""
    import mindspore as ms
    from mindspore import nn

    from thor.layers.registry import weight_of

    found, hooks = {}, []
    for _, cell in network.cells_and_names():
        if isinstance(cell, (nn.Conv2d, nn.Dense)):
            hooks.append(cell.register_forward_hook(
                lambda cell, _, out: found.update({id(weight_of(cell)): math.prod(out.shape[2:])})))
    mode = ms.get_context("mode")
    try:
        ms.set_context(mode=ms.PYNATIVE_MODE)
        network.set_train(False)(create_batch(Work(batch_size=1, image_size=work.image_size))[0])
    finally:
        ms.set_context(mode=mode)
        for hook in hooks:
            hook.remove()
    return found


def layer_work(registration: Any, positions: dict[int, int], batch_size: int) -> list[LayerWork]:
    """The layers THOR preconditions with Kronecker factors, for the floor."""
    layers = []
    for layer in registration.layers:
        if layer.kind == "kronecker":
            kernel = math.prod(layer.weight.shape[2:])
            columns = layer.matrix[2] + (layer.bias is not None)
            samples = batch_size * positions[id(layer.weight)]
            layers.append(LayerWork(*layer.matrix[:2], columns, samples, kernel))
    return layers
