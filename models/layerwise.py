"""LAMB and LARS made of plain operators, for devices on which MindSpore has no kernel for its own two.

That is the CPU for both, and the GPU for LARS, whose LARSUpdate is Ascend's alone.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence

import mindspore as ms
from mindspore import Parameter, Tensor, nn, ops


class Lamb(nn.Optimizer):
    r"""LAMB (You et al. 2020, https://arxiv.org/abs/1904.00962, algorithm 2), as in ``mindspore.nn.Lamb``.

    .. math::
        m &= \beta_1 m + (1 - \beta_1) g, \quad v = \beta_2 v + (1 - \beta_2) g^2 \\
        r &= \frac{m / (1 - \beta_1^t)}{\sqrt{v / (1 - \beta_2^t)} + \epsilon} + wd \cdot w, \quad
        w \leftarrow w - lr \frac{\|w\|}{\|r\|} r

    The ratio of norms is 1 where one of them is 0.

    Args:
        params: parameters to train.
        learning_rate: float or list by step.
        beta1: decay of the first moment.
        beta2: decay of the second moment.
        eps: added to the divisor.
        weight_decay: wd.
        decay_filter: True for parameters that decay.
    """

    def __init__(self, params: Sequence[Parameter], learning_rate: float | list[float], beta1: float = 0.9,
                 beta2: float = 0.999, eps: float = 1e-6, weight_decay: float = 0.0,
                 decay_filter: Callable[[Parameter], bool] = lambda parameter: True) -> None:
        super().__init__(learning_rate, list(params))
        self.weights = self.parameters
        self.beta1, self.beta2, self.eps = beta1, beta2, eps
        self.decays = tuple(weight_decay if decay_filter(p) else 0.0 for p in self.weights)
        self.moments1 = self.weights.clone(prefix="lamb_m", init="zeros")
        self.moments2 = self.weights.clone(prefix="lamb_v", init="zeros")
        self.divide = ops.RealDiv()  # what "/" stands for keeps two indices of eight bytes for every element on CPU

    def construct(self, gradients):
        rate = self.get_lr()
        self.assignadd(self.global_step, self.global_step_increase_tensor)
        step = self.global_step.astype(ms.float32).reshape(())
        correction1 = 1.0 / (1.0 - ops.pow(Tensor(self.beta1, ms.float32), step))
        correction2 = 1.0 / (1.0 - ops.pow(Tensor(self.beta2, ms.float32), step))
        success = True
        for i in range(len(self.weights)):
            weight = self.weights[i]
            first = self.beta1 * self.moments1[i] + (1.0 - self.beta1) * gradients[i]
            second = self.beta2 * self.moments2[i] + (1.0 - self.beta2) * gradients[i] * gradients[i]
            update = self.divide(first * correction1, ops.sqrt(second * correction2) + self.eps)
            update = update + self.decays[i] * weight
            new = weight - rate * _norm_ratio(norm(weight), norm(update)) * update
            success = ops.depend(success, (ops.assign(self.moments1[i], first),
                                           ops.assign(self.moments2[i], second), ops.assign(weight, new)))
        return success


class Lars(nn.Optimizer):
    r"""LARS (You et al. 2017, https://arxiv.org/abs/1708.03888), as in ``mindspore.nn.LARS`` around Momentum.

    .. math::
        u = \eta \frac{\|w\|}{\|g\| + wd \|w\| + \epsilon} (g + wd \cdot w), \quad
        v \leftarrow \mu v + u, \quad w \leftarrow w - lr \cdot v, \quad
        \text{Nesterov: } w \leftarrow w - lr (u + \mu v)

    Parameters of rank 1 (biases, normalisation) take u = g. The trust ratio is 1 where a norm is 0.

    Args:
        params: parameters to train.
        learning_rate: float or list by step.
        momentum: mu.
        weight_decay: wd.
        coefficient: eta, the trust coefficient.
        epsilon: added to the divisor.
        use_nesterov: Nesterov momentum.
    """

    def __init__(self, params: Sequence[Parameter], learning_rate: float | list[float], momentum: float = 0.9,
                 weight_decay: float = 0.0, coefficient: float = 0.001, epsilon: float = 1e-5,
                 use_nesterov: bool = False) -> None:
        super().__init__(learning_rate, list(params))
        self.weights = self.parameters
        self.momentum = Parameter(Tensor(momentum, ms.float32), name="momentum", requires_grad=False)
        self.decay, self.coefficient, self.epsilon = weight_decay, coefficient, epsilon
        self.moments = self.weights.clone(prefix="moments", init="zeros")
        self.use_nesterov = use_nesterov

    def construct(self, gradients):
        rate = self.get_lr()
        self.assignadd(self.global_step, self.global_step_increase_tensor)
        success = True
        for i in range(len(self.weights)):
            update = gradients[i]
            if len(self.weights[i].shape) > 1:
                update = self.trust(self.weights[i], update) * (update + self.decay * self.weights[i])
            velocity = self.momentum * self.moments[i] + update
            step = update + self.momentum * velocity if self.use_nesterov else velocity
            new = self.weights[i] - rate * step
            success = ops.depend(success, (ops.assign(self.moments[i], velocity), ops.assign(self.weights[i], new)))
        return success

    def trust(self, weight, gradient):
        """The local learning rate of one layer, shape ()."""
        size, slope = norm(weight), norm(gradient)
        ratio = self.coefficient * size / (slope + self.decay * size + self.epsilon)
        return ops.select(ops.logical_and(size > 0, slope > 0), ratio, ops.ones_like(ratio))


def norm(tensor):
    """L2 norm over all elements, shape ()."""
    return ops.sqrt(ops.square(tensor).sum())


def _norm_ratio(above, below):
    """above / below, and 1 where one of them is 0."""
    usable = ops.logical_and(above > 0, below > 0)
    return ops.select(usable, above / ops.select(usable, below, ops.ones_like(below)), ops.ones_like(above))
