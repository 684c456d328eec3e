"""From a configuration to the train step it runs and a batch of its shapes; no dataset is read."""
from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn

from models.bert.dataset import COLUMNS
from models.config import Config
from models.devicecheck.graphs import graphs_of
from models.optimizers import create_optimizer
from models.session import create_step, seeded_network, start

BATCHES = 1000  # of an epoch; only the length of schedules depends on it
SEQUENCE, MASKED = 128, 20  # of BERT's published records


def _step_of(config: Config) -> nn.Cell:
    """The train step of ``models.session.create_session``, on the configuration's device."""
    start(config)
    network, _ = seeded_network(config)
    return create_step(config, network, create_optimizer(config, network, BATCHES))


def create_batch(config: Config, sequence: int = SEQUENCE, masked: int = MASKED) -> tuple[Tensor, ...]:
    """A batch of zeros as the configuration's dataset gives it.

    Args:
        sequence: tokens of a sentence pair, or of a sequence whose next tokens are told.
        masked: of them to be predicted.
    """
    size = config.data.batch_size
    if not config.model.reads_text:
        side = config.data.image_size
        return (Tensor(np.zeros((size, config.model.in_channels, side, side)), ms.float32),
                Tensor(np.zeros(size), ms.int32))
    if config.model.tells_next:
        return (Tensor(np.zeros((size, sequence + 1)), ms.int32),)
    widths = {name: masked if name.startswith("masked") else sequence for name in COLUMNS} | {"next_sentence_labels": 1}
    return tuple(Tensor(np.zeros((size, widths[name]), kind)) for name, kind in COLUMNS.items())


def compile_config(config: Config, graph: str, sequence: int = SEQUENCE, masked: int = MASKED) -> int:
    """Compile one graph of ``models.devicecheck.graphs.GRAPHS``; the number of the device.

    A step of one graph stands for both of THOR's.
    """
    graphs = graphs_of(_step_of(config))
    graphs.get(graph, graphs.get("step"))(create_batch(config, sequence, masked))
    return ms.get_context("device_id")
