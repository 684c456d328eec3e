"""Limiting the length of the gradient."""
from __future__ import annotations

from mindspore import nn, ops


class GlobalNormClip(nn.Cell):
    """An optimizer whose gradients are scaled down to an L2 norm over all of them (Pascanu et al. 2013).

    It stands for the optimizer: ``parameters``, ``global_step`` and ``loss_scale`` are the optimizer's own.

    Args:
        optimizer: any ``nn.Optimizer``.
        norm: the largest L2 norm of all gradients together, > 0.

    Inputs:
        gradients: gradients of ``parameters``, in order, not scaled.
    """

    def __init__(self, optimizer: nn.Optimizer, norm: float) -> None:
        super().__init__(auto_prefix=False)
        self.optimizer = optimizer
        self.parameters = optimizer.parameters
        self.global_step = optimizer.global_step
        self.loss_scale = optimizer.loss_scale
        self.norm = float(norm)

    def construct(self, gradients):
        return self.optimizer(ops.clip_by_global_norm(gradients, self.norm))
