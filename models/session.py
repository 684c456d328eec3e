"""From a configuration to everything a run needs: data, network with loss, optimizer, train step, Model."""
from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import mindspore as ms
from mindspore import Model, nn
from mindspore.dataset import Dataset
from mindspore.train import Callback

from models import device
from models.averages import with_averages
from models.config import Config
from models.interruption import INTERRUPTION, MOST
from models.logs import check_installed
from models.metrics import EMA, Total, over_devices
from models.optimizers import create_loss_scale_manager, create_optimizer
from models.ranks import Ranks, check_started, join, started
from models.registry import create_network
from models.task import Task, create_task
from models.weights.beginning import begin_with_weights, reads_weights
from thor.companions import evaluation_weights
from thor.model import StepModel
from thor.train import make_train_step, record_gradient_norm


@dataclasses.dataclass
class Session:
    """A training run before its first step.

    Attributes:
        config: the resolved configuration.
        task: what the network is trained for.
        network: images, sentence pairs or tokens to logits.
        optimizer: over the trainable parameters of ``network``.
        step: ``loss = step(*batch)``; its parameters are the whole state of training.
        model: MindSpore's Model around ``step``, with evaluation.
        train_set: training batches.
        eval_set: held-out batches, of several processes this one's.
        metrics: of the evaluation.
        ranks: this process among those that train together.
        instruction_set: what was set or kept for oneDNN and why, "" if there is nothing to say.
        owed_loss: of the last batch before a resumed run, where an epoch ended with it that was not evaluated.
        begun_with: lines about the weights of train.init_from, none where it was not read.
        notes: texts by name that callbacks keep in every checkpoint, those of the checkpoint a resumed run begins with.
    """

    config: Config
    task: Task
    network: nn.Cell
    optimizer: nn.Optimizer
    step: nn.Cell
    model: Model
    train_set: Dataset
    eval_set: Dataset
    metrics: dict[str, Total]
    instruction_set: str
    ranks: Ranks = Ranks()
    owed_loss: float | None = None
    begun_with: list[str] = dataclasses.field(default_factory=list)
    notes: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def batches_per_epoch(self) -> int:
        """Training batches an epoch, see ``_epoch_length``."""
        return _epoch_length(self.config, self.train_set)

    def evaluate(self) -> dict[str, float]:
        """Loss and accuracies on the held-out data of all processes; those of averaged weights as ema_NAME."""
        with evaluation_weights(self.optimizer):
            results = evaluate(self.model, self.eval_set, self.metrics, self.ranks)
        if self.config.train.ema.decay is not None:
            with self.step.averages.in_network():
                of_averages = evaluate(self.model, self.eval_set, self.metrics, self.ranks)
            results = {**results, **{EMA + name: value for name, value in of_averages.items()}}
        return results


def create_session(config: Config) -> Session:
    """Set up device, data, network and optimizer for training.

    Raises:
        ConfigError: the configuration asks for another number of devices than there are processes, for one device
            of several processes, or for a log whose package is not installed.
        OSError, ValueError, RuntimeError: the dataset or the device cannot be used.
    """
    check_installed(config.train.log)
    ranks = start(config)
    network, instruction_set = seeded_network(config)
    begun_with = begin_with_weights(config, network) if reads_weights(config, ranks) else []
    task = create_task(config)
    train_set, eval_set = (task.dataset(train, **ranks.shards) for train in (True, False))
    optimizer = create_optimizer(config, network, _epoch_length(config, train_set))
    step = create_step(config, network, optimizer, task)
    evaluation = task.evaluation(network)
    return Session(config, task, network, optimizer, step, StepModel(step, **evaluation), train_set, eval_set,
                   evaluation["metrics"], instruction_set, ranks, begun_with=begun_with)


def create_step(config: Config, network: nn.Cell, optimizer: nn.Optimizer, task: Task | None = None) -> nn.Cell:
    """The train step of a configuration: its loss, precision, loss scale and micro-batches.

    Args:
        config: the run; its network and optimizer are not looked at.
        network: without its loss.
        optimizer: over the trainable parameters of ``network``.
        task: of the configuration; made where it is None.

    Returns:
        ``loss = step(*batch)``, whose parameters are the whole state of training.
    """
    training = (task or create_task(config)).training_network(network, optimizer)
    step = make_train_step(training, optimizer, create_loss_scale_manager(config), config.train.accumulate_steps)
    if config.train.record_gradient_norm:
        record_gradient_norm(step)
    decay = config.train.ema.decay
    return step if decay is None else with_averages(step, network, optimizer, decay)


def _epoch_length(config: Config, train_set: Dataset) -> int:
    """Batches an epoch: train.sink_size where a sink of that size makes the epochs, else one pass."""
    sinks = config.train.sink and config.train.sink_size > 0
    return config.train.sink_size if sinks else train_set.get_dataset_size()


def create_evaluation(config: Config) -> tuple[nn.Cell, Callable[[], dict[str, float]], Task]:
    """The network, what evaluates it on the held-out data, and its task; errors as for ``create_session``.

    One process evaluates whatever the number of devices the configuration is meant for.
    """
    ranks = start(config) if started() > 1 else _start_alone(config)
    network, _ = seeded_network(config)
    task = create_task(config)
    evaluation, eval_set = task.evaluation(network), task.dataset(train=False, **ranks.shards)
    model = Model(network, **evaluation)
    return network, lambda: evaluate(model, eval_set, evaluation["metrics"], ranks), task


def evaluate(model: Model, eval_set: Dataset, metrics: dict[str, Total], ranks: Ranks) -> dict[str, float]:
    """``metrics`` of ``model`` on ``eval_set``, over all processes."""
    INTERRUPTION.looks(MOST)  # the first batch may have to be compiled
    results = model.eval(eval_set, callbacks=[LooksForSignals()], dataset_sink_mode=False)
    return results if ranks.count == 1 else over_devices(metrics, ranks.sum)


class LooksForSignals(Callback):
    """Ends an evaluation when the process is asked to end."""

    def on_eval_step_end(self, run_context: Any) -> None:
        INTERRUPTION.check()


def start(config: Config) -> Ranks:
    """Take this process's device, then meet the other processes: MindSpore wants them in this order."""
    check_started(config.parallel)
    device.prepare(config.device, started())
    return join(config.parallel)


def _start_alone(config: Config) -> Ranks:
    """Take the configuration's device, whatever number of devices it is meant for."""
    device.prepare(config.device)
    return Ranks()


def prepare_network(config: Config) -> tuple[nn.Cell, str]:
    """Choose the device, seed everything, build the network, and choose oneDNN's instruction set for it.

    Returns:
        The network, and what ``device.limit_isa`` says; no operator has run yet.
    """
    device.prepare(config.device, started())
    return seeded_network(config)


def seeded_network(config: Config) -> tuple[nn.Cell, str]:
    """``prepare_network`` on the device that is chosen already."""
    ms.set_seed(config.seed)
    network = create_network(config.model, config.data)
    return network, device.limit_isa(config.device, network)
