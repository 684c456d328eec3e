"""A session without a train loop, for tests of checkpoints and callbacks."""
from __future__ import annotations

from types import SimpleNamespace

import mindspore as ms
import numpy as np
from mindspore import nn

from models.config import Config, OptimizerConfig, TrainConfig
from models.ranks import Ranks
from models.task import create_task


class FakeDataset:
    """Knows only where it begins."""

    def __init__(self) -> None:
        self.first = 0

    def start_at(self, step: int) -> None:
        self.first = step

    def get_init_step(self) -> int:
        return self.first


def fake_session(width: int = 3, optimizer: str = "momentum", per_epoch: int = 10,
                 **train) -> SimpleNamespace:
    """A Dense layer with Momentum, ten batches an epoch, whose evaluations count 0.5, 0.6, ..."""
    net = nn.Dense(2, width, weight_init="ones")
    momentum = nn.Momentum(net.trainable_params(), 0.1, 0.9)
    cell = nn.TrainOneStepCell(nn.WithLossCell(net, nn.MSELoss()), momentum)
    config = Config(train=TrainConfig(**{"epochs": 4, **train}), optimizer=OptimizerConfig(name=optimizer))
    evaluations = iter(np.arange(0.5, 1.0, 0.1))
    return SimpleNamespace(config=config, task=create_task(config), network=net, step=cell, optimizer=momentum,
                           train_set=FakeDataset(), batches_per_epoch=per_epoch, ranks=Ranks(), notes={},
                           evaluate=lambda: {"loss": 1.0, "top_1_accuracy": next(evaluations)})


class FakeContext:
    """What MindSpore hands to callbacks."""

    def __init__(self) -> None:
        self.parameters = SimpleNamespace(cur_step_num=0, net_outputs=ms.Tensor(0.0, ms.float32))
        self.stopped = False

    def original_args(self) -> SimpleNamespace:
        return self.parameters

    def request_stop(self) -> None:
        self.stopped = True


def drive(session, callbacks, batches: int, losses=lambda batch: 1 / batch) -> FakeContext:
    """Call ``callbacks`` as Model.train does for ``batches`` batches, without on_train_end."""
    context = FakeContext()
    for callback in callbacks:
        callback.on_train_begin(context)
    start = session.train_set.get_init_step()
    for batch in range(start + 1, start + batches + 1):
        context.parameters.cur_step_num = batch - start
        context.parameters.net_outputs = ms.Tensor(losses(batch), ms.float32)
        session.optimizer.global_step.set_data(ms.Tensor([batch], ms.int32))
        for callback in callbacks:
            callback.on_train_step_end(context)
        if batch % session.batches_per_epoch == 0:
            for callback in callbacks:
                callback.on_train_epoch_end(context)
    return context
