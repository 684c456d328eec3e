"""Mixed precision of networks that read text."""
from __future__ import annotations

import mindspore as ms
from mindspore import nn

from models.config import TrainConfig
from thor.convert import mixed_precision_network


def mixed_precision(network: nn.Cell, optimizer: nn.Optimizer, options: TrainConfig) -> nn.Cell:
    """``network`` at the configured level, LayerNorms in float32: epsilon and variance are too small for float16."""
    mixed = mixed_precision_network(network, None, optimizer, options.amp_level, options.keep_batchnorm_fp32)
    if options.amp_level == "O2":
        for _, cell in network.cells_and_names():
            if isinstance(cell, nn.LayerNorm):
                cell.to_float(ms.float32)
    return mixed
