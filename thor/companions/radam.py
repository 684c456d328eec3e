"""RAdam, MindSpore's experimental one with the schedules and the interface of ``nn.Optimizer``; and Ranger."""
from __future__ import annotations

from collections.abc import Sequence

from mindspore import ops
from mindspore.experimental import optim

from thor.checks import IN_RANGE, checked, number
from thor.companions.lookahead import Lookahead
from thor.grouped import GroupedOptimizer
from thor.groups import Decay, Rate, parameters_and_groups
from thor.maps import pick


class RAdam(GroupedOptimizer):
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
        params: parameters or groups of them, see :mod:`thor.groups`.
        learning_rate: float, list by step, Tensor or schedule.
        beta1: decay of the first moment, [0, 1). Default: 0.9.
        beta2: decay of the second moment, [0, 1). Default: 0.999.
        eps: added to the divisor, > 0. Default: 1e-8.
        weight_decay: given like ``learning_rate``, >= 0. Default: 0.
        loss_scale: what gradients are divided by, > 0. Default: 1.
    """

    def __init__(self, params: Sequence, learning_rate: Rate = 1e-3, beta1: float = 0.9, beta2: float = 0.999,
                 eps: float = 1e-8, weight_decay: Decay = 0.0, loss_scale: float = 1.0):
        parameters, groups = parameters_and_groups(params)
        super().__init__(learning_rate, parameters, weight_decay, loss_scale, groups)
        eps = checked("eps", eps, number(above=0), IN_RANGE)
        # a group for each learning rate, which is set at every step, and without decay: both are decided above
        places = self.rates.places if self.is_group_lr else (0,) * len(parameters)
        self.used = tuple(sorted(set(places)))
        members = [[i for i, place in enumerate(places) if place == used] for used in self.used]
        self.order = tuple(i for indices in members for i in indices)
        self.rule = optim.RAdam([{"params": [parameters[i] for i in indices]} for indices in members], 1.0,
                                (beta1, beta2), eps)

    def construct(self, gradients):
        gradients = self.decay_weight(self.scale_grad(gradients))
        if self.is_group_lr:
            rates = self.distinct_lr()
            for group in range(len(self.used)):
                ops.assign(self.rule.lrs[group], rates[self.used[group]])
            gradients = pick(gradients, self.order)
        else:
            ops.assign(self.rule.lrs[0], self.get_lr())
        self.assignadd(self.global_step, self.global_step_increase_tensor)
        return self.rule(gradients)


def ranger(params: Sequence, learning_rate: Rate = 1e-3, beta1: float = 0.95, beta2: float = 0.999, eps: float = 1e-5,
           weight_decay: Decay = 0.0, loss_scale: float = 1.0, k: int = 6, alpha: float = 0.5) -> Lookahead:
    """RAdam inside Lookahead (Wright 2019, described in https://arxiv.org/abs/2106.13731), with its constants."""
    base = RAdam(params, learning_rate, beta1, beta2, eps, weight_decay, loss_scale)
    return Lookahead(base, k, alpha)
