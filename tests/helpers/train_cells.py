"""Train cells as users write them."""
from __future__ import annotations

import mindspore as ms
from mindspore import Parameter, Tensor, nn, ops


class OwnScale(nn.TrainOneStepCell):
    """Multiplies the loss with a scale of its own, which it doubles after every step."""

    def __init__(self, network, optimizer):
        super().__init__(network, optimizer)
        self.loss_scale = Parameter(Tensor(64.0, ms.float32), name="own_loss_scale")
        self.divide = ops.HyperMap()

    def construct(self, *inputs):
        loss = self.network(*inputs)
        gradients = self.grad(self.network, self.weights)(*inputs, ops.ones_like(loss) * self.loss_scale)
        gradients = self.divide(ops.partial(divided, self.loss_scale), gradients)
        ops.assign(self.loss_scale, self.loss_scale * 2.0)
        return ops.depend(loss, self.optimizer(gradients))


divided = ops.MultitypeFuncGraph("divided")


@divided.register("Tensor", "Tensor")
def _divide(scale, gradient):
    return gradient / scale
