"""Shampoo: curvature of the gradients alone, in the same blocks and with the same operators as THOR's."""
from __future__ import annotations

from collections.abc import Sequence

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from thor.backends.inversion import add_damping
from thor.checks import IN_RANGE, checked, number
from thor.companions.blocks import BlockOptimizer, adam_step, averaged, moved
from thor.grafting import Grafting
from thor.groups import Decay, Rate


class InverseFourthRoot(nn.Cell):
    r"""``(M + \epsilon b I)^{-1/4}`` of symmetric positive semi-definite blocks, b bounding their eigenvalues.

    The coupled Newton iteration (Guo & Higham 2006; as in Anil et al. 2020): ``X_0 = z^{1/4} I``, ``M_0 = z M``,
    ``T = (5 I - M) / 4``, ``X <- X T``, ``M <- T^4 M``, with ``z = 5 / (2 |M|)``.
    """

    def __init__(self, epsilon: float, steps: int = 25):
        super().__init__(auto_prefix=False)
        self.epsilon, self.steps, self.matmul = epsilon, steps, ops.BatchMatMul()

    def construct(self, blocks):
        """``(n_blocks, size, size)``; the root of a block of zeros is the identity."""
        identity = ops.eye(blocks.shape[-1], blocks.shape[-1], ms.float32)
        bound = ops.abs(blocks).sum(axis=2, keepdims=True).max(axis=1, keepdims=True)  # (n_blocks, 1, 1)
        empty = bound == 0
        ones = ops.ones_like(bound)
        bound = ops.select(empty, ones, bound)
        matrix = add_damping(blocks / bound, ops.select(empty, ones, self.epsilon * ones))
        scale = 2.5 / ops.sqrt(ops.square(matrix).sum(axis=(1, 2), keepdims=True))
        matrix, root = matrix * scale, identity * ops.sqrt(ops.sqrt(scale))
        done = Tensor(0, ms.int32)
        while done < self.steps:
            step = 1.25 * identity - 0.25 * matrix
            root = self.matmul(root, step)
            square = self.matmul(step, step)
            matrix = self.matmul(self.matmul(square, square), matrix)
            done = done + 1
        return root / ops.sqrt(ops.sqrt(bound))


class Shampoo(BlockOptimizer):
    r"""Shampoo (Gupta et al. 2018, https://arxiv.org/abs/1802.09568) as it is used today: running means, roots every
    few steps, and the size of Adam's step (Anil et al. 2020, https://arxiv.org/abs/2002.09018; Shi et al. 2023,
    https://arxiv.org/abs/2309.06497).

    .. math::
        m &= \beta_1 m + (1 - \beta_1) g, \quad L = \beta_2 L + (1 - \beta_2) g g^T, \quad
        R = \beta_2 R + (1 - \beta_2) g^T g \\
        p &= L^{-1/4} m R^{-1/4}, \quad w \leftarrow w - lr \, (p \, |a| / |p| + wd \cdot w)

    with a the step of Adam, and all means unbiased. L and R keep their diagonal blocks. A convolution's kernel is the
    matrix (output channels, the rest). Parameters of one axis, and embeddings, are updated by AdamW.

    Args:
        params: parameters or groups of them, see :mod:`thor.groups`.
        learning_rate: float, list by step, Tensor or schedule; as of AdamW. Default: 0.001.
        beta1, beta2: [0, 1). Default: 0.9 and 0.99.
        frequency: steps from one computation of the roots to the next, >= 1. Default: 10.
        weight_decay: wd, given like ``learning_rate``, >= 0; not of parameters named ``beta`` or ``gamma``. Default: 0.
        split_dim: rows of a diagonal block; None for whole matrices. Default: 128.
        epsilon: ridge, as a share of the largest row sum of a block, > 0; of the moments of a few gradients, which have
            few directions, roots are no better than the rounding of float32 divided by it. Default: 1e-4.
        loss_scale: what gradients are divided by, > 0. Default: 1.
    """

    def __init__(self, params: Sequence, learning_rate: Rate = 1e-3, beta1: float = 0.9, beta2: float = 0.99,
                 frequency: int = 10, weight_decay: Decay = 0.0, split_dim: int | None = 128, epsilon: float = 1e-4,
                 loss_scale: float = 1.0):
        super().__init__(params, learning_rate, beta1, beta2, frequency, weight_decay, split_dim, loss_scale)
        epsilon = checked("epsilon", epsilon, number(above=0), IN_RANGE)
        if self.of_matrices:
            self.roots = self.by_block_size("roots", np.eye)
            self.precondition = self.create_preconditioner(self.roots, self.roots)
            self.root, self.graft = InverseFourthRoot(epsilon), Grafting([1] * len(self.of_matrices))

    def move_matrices(self, gradients, rates, decays):
        count = self.global_step.astype(ms.float32).reshape(())
        correction1, correction2 = 1.0 - ops.pow(self.beta1, count), 1.0 - ops.pow(self.beta2, count)
        average = ops.partial(averaged, self.beta2, correction2)
        means = self.map(ops.partial(averaged, self.beta1, correction1), self.means, gradients)
        squares = self.map(average, self.squares, self.map(ops.square, gradients))
        blocks = self.map(average, self.blocks, self.measured(gradients))
        if (self.global_step[0] - 1) % self.frequency == 0:
            self.renew(blocks)
        adams = self.map(ops.partial(adam_step, self.epsilon), means, squares)
        updates = self.graft(adams, self.precondition(means, correction1))
        return self.map(moved, rates, decays, self.matrices, updates)

    def renew(self, blocks):
        """Compute the roots anew."""
        for i in range(len(self.places)):
            ops.assign(self.roots[i], self.root(blocks[i]))
