"""RAdam, MindSpore's experimental one with the schedules and the interface of ``nn.Optimizer``; and Ranger."""
from __future__ import annotations

from collections.abc import Sequence

from mindspore import nn, ops
from mindspore.experimental import optim

from thor.checks import IN_RANGE, checked, number
from thor.companions.groups import Rate, refuse_own_rates
from thor.companions.lookahead import Lookahead


class RAdam(nn.Optimizer):
    r"""Adam whose step is rectified for the variance of its own denominator (Liu et al. 2020,
    https://arxiv.org/abs/1908.03265).

    .. math::
        m &= \beta_1 m + (1 - \beta_1) g, \quad v = \beta_2 v + (1 - \beta_2) g^2, \quad
        \hat m = m / (1 - \beta_1^t) \\
        \rho_\infty &= 2 / (1 - \beta_2) - 1, \quad \rho = \rho_\infty - 2 t \beta_2^t / (1 - \beta_2^t) \\
        w &\leftarrow w - lr \hat m \frac{\sqrt{1 - \beta_2^t}}{\sqrt v + \epsilon}
        \sqrt{\frac{(\rho - 4)(\rho - 2) \rho_\infty}{(\rho_\infty - 4)(\rho_\infty - 2) \rho}}
        \quad \text{if } \rho > 5, \text{ else } w \leftarrow w - lr \hat m

    The update is ``mindspore.experimental.optim.RAdam``; like it, 5 takes the place of the paper's 4, as in the
    authors' code, and weight decay is added to the gradient.

    Args:
        params: parameters or groups of them, as for ``nn.Optimizer``.
        learning_rate: float, list by step, Tensor or schedule.
        beta1: decay of the first moment, [0, 1). Default: 0.9.
        beta2: decay of the second moment, [0, 1). Default: 0.999.
        eps: added to the divisor, > 0. Default: 1e-8.
        weight_decay: >= 0. Default: 0.
        loss_scale: what gradients are divided by, > 0. Default: 1.
    """

    def __init__(self, params: Sequence, learning_rate: Rate = 1e-3, beta1: float = 0.9, beta2: float = 0.999,
                 eps: float = 1e-8, weight_decay: float = 0.0, loss_scale: float = 1.0):
        super().__init__(learning_rate, list(params), weight_decay, loss_scale)
        refuse_own_rates(self)
        # one group without decay and with a rate set at every step: both come from nn.Optimizer
        eps = checked("eps", eps, number(above=0), IN_RANGE)
        self.rule = optim.RAdam(list(self.parameters), 1.0, (beta1, beta2), eps)

    def construct(self, gradients):
        gradients = self.scale_grad(self.decay_weight(gradients))
        ops.assign(self.rule.lrs[0], self.get_lr())
        self.assignadd(self.global_step, self.global_step_increase_tensor)
        return self.rule(gradients)


def ranger(params: Sequence, learning_rate: Rate = 1e-3, beta1: float = 0.95, beta2: float = 0.999, eps: float = 1e-5,
           weight_decay: float = 0.0, loss_scale: float = 1.0, k: int = 6, alpha: float = 0.5) -> Lookahead:
    """RAdam inside Lookahead (Wright 2019, described in https://arxiv.org/abs/2106.13731), with its constants."""
    base = RAdam(params, learning_rate, beta1, beta2, eps, weight_decay, loss_scale)
    return Lookahead(base, k, alpha)
