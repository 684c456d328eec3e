"""Muon: momentum whose singular values are all made one, for the matrices of hidden layers; AdamW for all else."""
from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import mindspore as ms
from mindspore import Parameter, Tensor, ops

from thor.checks import IN_RANGE, checked, flag, number
from thor.companions.matrices import MatrixOptimizer
from thor.groups import Decay, Rate
from thor.orthogonal import RMS_OF_ADAM, orthogonalized

_orthogonal = ops.MultitypeFuncGraph("orthogonal")


def hidden_matrices(parameters: Sequence[Parameter]) -> list[bool]:
    """Which parameters Muon is for: those of two axes or more, but embeddings and the last of them, the classifier."""
    matrices = [parameter.ndim > 1 for parameter in parameters]
    last = max((i for i, is_matrix in enumerate(matrices) if is_matrix), default=-1)
    return [is_matrix and i != last and "embedding" not in parameter.name
            for i, (is_matrix, parameter) in enumerate(zip(matrices, parameters))]


@_orthogonal.register("Tensor", "Bool", "Tensor", "Tensor", "Tensor", "Tensor", "Tensor")
def _step_of_matrix(momentum, nesterov, rate, decay, weight, moment, gradient):
    rows = weight.shape[0]
    columns = weight.size // rows
    running = momentum * moment + gradient
    direction = gradient + momentum * running if nesterov else running
    step = orthogonalized(direction.reshape(rows, columns)) * (RMS_OF_ADAM * math.sqrt(max(rows, columns)))
    moved = weight - rate * (step.reshape(weight.shape) + decay * weight)
    return ops.depend(True, (ops.assign(moment, running), ops.assign(weight, moved)))


class Muon(MatrixOptimizer):
    r"""Momentum, orthogonalised (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon), with the scale of Liu
    et al. 2025 (https://arxiv.org/abs/2502.16982), by which matrices and all else share AdamW's rate.

    .. math::
        v &= \mu v + g, \quad u = g + \mu v \text{ (Nesterov) or } v, \\
        w &\leftarrow w - lr \, (0.2 \sqrt{\max(m, n)} \, UV' + wd \cdot w), \quad u = U S V' \in R^{m \times n}

    A convolution's kernel is the matrix (output channels, the rest). What ``matrices`` does not name is updated by
    AdamW (Loshchilov & Hutter 2019).

    Args:
        params: parameters or groups of them, see :mod:`thor.groups`.
        learning_rate: float, list by step, Tensor or schedule; as of AdamW. Default: 0.001.
        momentum: mu, [0, 1). Default: 0.95.
        weight_decay: wd, given like ``learning_rate``, >= 0; not of parameters named ``beta`` or ``gamma``. Default: 0.
        use_nesterov: Default: True.
        beta1, beta2: of AdamW, [0, 1). Default: 0.9 and 0.95.
        eps: of AdamW, > 0. Default: 1e-8.
        loss_scale: what gradients are divided by, > 0. Default: 1.
        matrices: function of the parameters that tells of each whether its momentum is orthogonalised.
            Default: :func:`hidden_matrices`.
    """

    def __init__(self, params: Sequence, learning_rate: Rate = 1e-3, momentum: float = 0.95,
                 weight_decay: Decay = 0.0, use_nesterov: bool = True, beta1: float = 0.9, beta2: float = 0.95,
                 eps: float = 1e-8, loss_scale: float = 1.0,
                 matrices: Callable[[Sequence[Parameter]], Sequence[bool]] = hidden_matrices):
        unit = number(minimum=0, below=1)
        momentum = checked("momentum", momentum, unit, IN_RANGE)
        super().__init__(params, learning_rate, weight_decay, loss_scale, matrices,
                         checked("beta1", beta1, unit, IN_RANGE), checked("beta2", beta2, unit, IN_RANGE),
                         checked("eps", eps, number(above=0), IN_RANGE))
        self.nesterov = checked("use_nesterov", use_nesterov, flag(), "give True or False")
        self.momentum = Parameter(Tensor(momentum, ms.float32), name="momentum", requires_grad=False)
        self.moments = self.matrices.clone("moments", "zeros")

    def move_matrices(self, gradients, rates, decays):
        step = ops.partial(_orthogonal, self.momentum, self.nesterov)
        return self.map(step, rates, decays, self.matrices, self.moments, gradients)
