"""A limit on the length of the gradient for optimizers that have none of their own."""
from __future__ import annotations

from mindspore import nn

from thor.clipping import GlobalNormClip


class ClippedOptimizer(nn.Optimizer):
    """An optimizer whose gradients are scaled down to an L2 norm over all of them, see thor.clipping.

    It stands for the optimizer: parameters, step, learning rate and loss scale are the optimizer's own.

    Args:
        base: an optimizer that is called with all its gradients.
        norm: the largest L2 norm of all gradients together, > 0.

    Inputs:
        gradients: gradients of ``parameters``, in order, not scaled.
    """

    def __init__(self, base: nn.Optimizer, norm: float) -> None:
        super().__init__(0.0, list(base.parameters), loss_scale=base.loss_scale)
        for name in ("global_step", "learning_rate"):  # those of base, not a second set
            delattr(self, name)
            setattr(self, name, getattr(base, name))
        self.is_group, self.is_group_lr, self.dynamic_lr = base.is_group, base.is_group_lr, base.dynamic_lr
        self.base = base
        self.clip = GlobalNormClip(norm)

    def construct(self, gradients):
        return self.base(self.clip(gradients, gradients))

    def get_lr(self):
        """The learning rate of ``base``; where its groups have their own, one for each parameter."""
        return self.base.get_lr()

    def get_weight_decay(self):
        """The weight decay of ``base``."""
        return self.base.get_weight_decay()

    def get_lr_parameter(self, param):
        """What holds the learning rate of a parameter in ``base``."""
        return self.base.get_lr_parameter(param)
