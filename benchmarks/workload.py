"""Networks, batches and train steps by name, the same for every optimizer."""
from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from benchmarks import images, text
from benchmarks.common import at_least

BERT = "bert"
LEARNING_RATE, MOMENTUM, WEIGHT_DECAY, DAMPING = 0.01, 0.9, 5e-4, 0.03


@dataclass(frozen=True)
class Work:
    """What is trained.

    Args:
        model: a name of ``models.registry``, or "bert".
        image_size: height and width of images in pixels.
        batch_size: images or sequences a step.
        classes: width of an image network's logits.
        layers: encoder layers of BERT.
        hidden: width of BERT; heads are 64 wide, the feed-forward part is 4 times as wide.
        vocab_size: words of BERT.
        sequence_length: tokens of a sequence; 15 % of them are masked.
        split_dim: rows of a block, None for whole matrices.
        precision: of preconditioning.
        frequency: steps from refresh to refresh.
        seed: of weights and data.
    """

    model: str = "resnet50"
    image_size: int = 64
    batch_size: int = 32
    classes: int = 1000
    layers: int = 4
    hidden: int = 256
    vocab_size: int = 8192
    sequence_length: int = 128
    split_dim: int | None = 128
    precision: str = "auto"
    frequency: int = 100
    seed: int = 1

    @property
    def kind(self) -> ModuleType:
        """Where network, batch and loss come from."""
        return text if self.model == BERT else images

    def describe(self) -> str:
        """The network and its input in a few words."""
        if self.model == BERT:
            return (f"bert, {self.layers} x {self.hidden}, {self.vocab_size} words, sequences of "
                    f"{self.sequence_length} ({text.masked_words(self.sequence_length)} masked)")
        return f"{self.model} {self.image_size}x{self.image_size}"


def add_work(made: argparse.ArgumentParser, timed: bool = True) -> None:
    """Options that choose a :class:`Work`; those of data only where something is ``timed``."""
    from models.registry import network_names

    made.add_argument("--model", choices=network_names(), default=Work.model, help="network")
    made.add_argument("--classes", type=at_least(2), default=Work.classes, help="width of an image network")
    made.add_argument("--image-size", type=at_least(8), default=Work.image_size, help="pixels a side")
    made.add_argument("--layers", type=at_least(1), default=Work.layers, help="encoder layers of bert")
    made.add_argument("--hidden", type=at_least(1), default=Work.hidden, help="width of bert")
    made.add_argument("--vocab-size", type=at_least(2), default=Work.vocab_size, help="words of bert")
    made.add_argument("--split-dim", type=at_least(1), default=Work.split_dim, help="rows of a block")
    made.add_argument("--precision", default=Work.precision, help="of preconditioning: auto, float32, bfloat16")
    if timed:
        made.add_argument("--batch-size", type=at_least(1), default=Work.batch_size, help="samples a step")
        made.add_argument("--sequence-length", type=at_least(2), default=Work.sequence_length,
                          help="tokens of a sequence of bert")
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
    from models.config.run import DeviceConfig

    ms.set_context(mode=ms.GRAPH_MODE)
    ms.set_seed(work.seed)
    network = work.kind.create_network(work)
    device.limit_isa(DeviceConfig(), network)
    return network


def copy_weights(source: Any, target: Any) -> None:
    """Give ``target`` the values of the parameters of ``source``, in order."""
    for old, new in zip(source.get_parameters(), target.get_parameters()):
        new.set_data(old.value().copy())


def compile_something() -> None:
    """Compile and run a trivial graph, so that what MindSpore does once a process counts for no side."""
    import mindspore as ms
    from mindspore import nn

    network = nn.Dense(2, 2)
    step = nn.TrainOneStepCell(nn.WithLossCell(network, nn.MSELoss()),
                               nn.Momentum(network.trainable_params(), LEARNING_RATE, MOMENTUM))
    step(ms.ops.ones((1, 2)), ms.ops.ones((1, 2))).asnumpy()


def create_momentum_step(network: Any, work: Work) -> Any:
    """The first-order train step: MindSpore's Momentum."""
    from mindspore import nn

    from thor.train import make_train_step

    optimizer = nn.Momentum(network.trainable_params(), LEARNING_RATE, MOMENTUM, WEIGHT_DECAY)
    return make_train_step(work.kind.create_loss(network), optimizer)


def create_thor_step(network: Any, work: Work, update: Any = None) -> Any:
    """The second-order train step with the same first-order update behind the preconditioner."""
    from thor import THOR
    from thor.train import make_train_step

    optimizer = THOR(network, LEARNING_RATE, DAMPING, MOMENTUM, WEIGHT_DECAY, batch_size=work.batch_size,
                     frequency=work.frequency, split_dim=work.split_dim, update=update, precision=work.precision)
    return make_train_step(work.kind.create_loss(network), optimizer)


def data_rows(network: Any, work: Work) -> dict[int, int]:
    """Rows of data behind a weight's factors by its ``id``, over all uses, from one batch in PyNative mode."""
    from models.planner.trace import trace

    batch = work.kind.create_batch(work)
    return trace(network, lambda: work.kind.create_loss(network)(*batch)).rows


def layer_work(registration: Any, rows: dict[int, int]) -> list[Any]:
    """The layers THOR preconditions with blocks, for the floor; see :mod:`models.planner.work`."""
    from models.planner.work import layer_work as counted

    return counted(registration, rows)
