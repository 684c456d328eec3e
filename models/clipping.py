"""A limit on the length of the gradient for optimizers that have none of their own."""
from __future__ import annotations

from mindspore import nn

from thor.clipping import GlobalNormClip
from thor.grouped import WrappedOptimizer


class ClippedOptimizer(WrappedOptimizer):
    """An optimizer whose gradients are scaled down to an L2 norm over all of them, see thor.clipping.

    Args:
        base: an optimizer that is called with all its gradients.
        norm: the largest L2 norm of all gradients together, > 0.

    Inputs:
        gradients: gradients of ``parameters``, in order, not scaled.
    """

    def __init__(self, base: nn.Optimizer, norm: float) -> None:
        super().__init__(base)
        self.clip = GlobalNormClip(norm)

    def construct(self, gradients):
        return self.base(self.clip(gradients, gradients))
