"""AdamW: behind the preconditioner where THOR is asked for it, and for what optimizers of matrices leave."""
from __future__ import annotations

import mindspore as ms
from mindspore import Parameter, ParameterTuple, Tensor, nn, ops

from thor.maps import each

EPSILON = 1e-8

_adam_step = ops.MultitypeFuncGraph("adam_step")


@_adam_step.register("Tensor", "Tensor", "Tensor", "Tensor", "Tensor", "Tensor", "Tensor", "Tensor", "Tensor",
                     "Tensor")
def _step(beta1, beta2, epsilon, count, rate, decay, weight, first, second, update):
    """Of one tensor; nothing of it leaves a branch of a graph."""
    mean = beta1 * first + (1.0 - beta1) * update
    square = beta2 * second + (1.0 - beta2) * ops.square(update)
    root = ops.sqrt(square / (1.0 - ops.pow(beta2, count))) + epsilon
    moved = weight - rate * (mean / (1.0 - ops.pow(beta1, count)) / root + decay * weight)
    return ops.depend(True, (ops.assign(first, mean), ops.assign(second, square), ops.assign(weight, moved)))


class AdamWUpdate(nn.Cell):
    r"""Adam with decoupled weight decay (Kingma & Ba 2015; Loshchilov & Hutter 2019) for updates u, at the t-th call

    .. math::
        m &= \beta_1 m + (1 - \beta_1) u, \quad v = \beta_2 v + (1 - \beta_2) u^2 \\
        w &\leftarrow w - lr \left(\frac{m / (1 - \beta_1^t)}{\sqrt{v / (1 - \beta_2^t)} + \epsilon} + wd \cdot w\right)

    Args:
        weights: what is updated.
        beta1, beta2: [0, 1).
        decays: for each weight whether it decays.
        epsilon: > 0.

    Attributes:
        moments, second_moments: m and v, of ``weights``.
        momentum: beta1, a Parameter.

    Inputs:
        updates: of ``weights``, in order.
        learning_rate, weight_decay: a scalar for all weights, or a tuple with one for each.
    """

    nesterov = False

    def __init__(self, weights: ParameterTuple, beta1: float, beta2: float, decays: tuple[bool, ...],
                 epsilon: float = EPSILON):
        super().__init__(auto_prefix=False)
        self.weights = weights
        self.moments, self.second_moments = weights.clone("moments", "zeros"), weights.clone("second_moments", "zeros")
        self.momentum = Parameter(Tensor(beta1, ms.float32), name="beta1", requires_grad=False)
        self.count = Parameter(Tensor(0, ms.float32), name="moves", requires_grad=False)
        self.beta2, self.epsilon = Tensor(beta2, ms.float32), Tensor(epsilon, ms.float32)
        self.decays = tuple(Tensor(float(flag), ms.float32) for flag in decays)
        self.map = ops.HyperMap()

    def construct(self, updates, learning_rate, weight_decay):
        rates = each(learning_rate, len(self.decays))
        if isinstance(weight_decay, tuple):
            decays = self.map(ops.mul, weight_decay, self.decays)
        else:
            decays = self.map(ops.partial(ops.mul, weight_decay), self.decays)
        count = self.count + 1.0
        count = ops.depend(count, ops.assign(self.count, count))
        step = ops.partial(_adam_step, self.momentum, self.beta2, self.epsilon, count)
        return self.map(step, rates, decays, self.weights, self.moments, self.second_moments, updates)
