"""From a configuration to everything a run needs: data, network with loss, optimizer, train step, Model."""
from __future__ import annotations

import dataclasses

import mindspore as ms
from mindspore import Model, nn
from mindspore.dataset import Dataset

from models import device
from models.config import Config
from models.optimizers import create_loss_scale_manager, create_optimizer
from models.ranks import Ranks, join
from models.registry import create_network
from models.task import create_task
from thor.model import StepModel
from thor.optimizers import evaluation_weights
from thor.train import make_train_step


@dataclasses.dataclass
class Session:
    """A training run before its first step.

    Attributes:
        config: the resolved configuration.
        network: images, or sentence pairs, to logits.
        optimizer: over the trainable parameters of ``network``.
        step: ``loss = step(*batch)``; its parameters are the whole state of training.
        model: MindSpore's Model around ``step``, with evaluation.
        train_set: training batches.
        eval_set: held-out batches.
        ranks: this process among those that train together.
        instruction_set: what was set or kept for oneDNN and why, "" if there is nothing to say.
    """

    config: Config
    network: nn.Cell
    optimizer: nn.Optimizer
    step: nn.Cell
    model: Model
    train_set: Dataset
    eval_set: Dataset
    instruction_set: str
    ranks: Ranks = Ranks()

    @property
    def batches_per_epoch(self) -> int:
        """Training batches an epoch, see ``epoch_length``."""
        return epoch_length(self.config, self.train_set)

    def evaluate(self) -> dict[str, float]:
        """Loss and accuracies on the held-out data."""
        with evaluation_weights(self.optimizer):
            return self.model.eval(self.eval_set, dataset_sink_mode=False)


def create_session(config: Config) -> Session:
    """Set up device, data, network and optimizer for training.

    Raises:
        ConfigError: the configuration asks for another number of devices than there are processes.
        OSError, ValueError, RuntimeError: the dataset or the device cannot be used.
    """
    ranks = join(config.parallel)
    network, instruction_set = prepare_network(config)
    task = create_task(config)
    train_set, eval_set = task.dataset(train=True, **ranks.shards), task.dataset(train=False)
    optimizer = create_optimizer(config, network, epoch_length(config, train_set))
    step = make_train_step(task.training_network(network, optimizer), optimizer, create_loss_scale_manager(config),
                           config.train.accumulate_steps)
    model = StepModel(step, **task.evaluation(network))
    return Session(config, network, optimizer, step, model, train_set, eval_set, instruction_set, ranks)


def epoch_length(config: Config, train_set: Dataset) -> int:
    """Batches an epoch: train.sink_size where a sink of that size makes the epochs, else one pass."""
    sinks = config.train.sink and config.train.sink_size > 0
    return config.train.sink_size if sinks else train_set.get_dataset_size()


def create_evaluation(config: Config) -> tuple[nn.Cell, Model, Dataset]:
    """Network, Model and held-out data for evaluation alone; errors as for ``create_session``."""
    join(config.parallel)
    network, _ = prepare_network(config)
    task = create_task(config)
    return network, Model(network, **task.evaluation(network)), task.dataset(train=False)


def prepare_network(config: Config) -> tuple[nn.Cell, str]:
    """Choose the device, seed everything, build the network, and choose oneDNN's instruction set for it.

    Returns:
        The network, and what ``device.limit_isa`` says; no operator has run yet.
    """
    device.prepare(config.device)
    ms.set_seed(config.seed)
    network = create_network(config.model, config.data)
    return network, device.limit_isa(config.device, network)
