"""SOAP: Adam in the eigenbases of Shampoo's moments."""
from __future__ import annotations

from collections.abc import Sequence

import mindspore as ms
import numpy as np
from mindspore import nn, ops

from thor.companions.blocks import BlockOptimizer, adam_step, averaged, moved
from thor.groups import Decay, Rate

FIRST_ITERATIONS = 30  # from the identity to the first bases
SHARE_KEPT = 1e-12  # of the old bases, far below rounding


class PowerIteration(nn.Cell):
    """``Q <- QR(M Q)``, some times, for symmetric positive semi-definite blocks M; the columns of Q stay orthonormal.

    Householder's reflections complete a basis where M Q has fewer directions than columns. Zeros that pad a block are
    directions of their own: with Q from the identity on, no reflection mixes them with others.
    """

    def __init__(self):
        super().__init__(auto_prefix=False)
        self.matmul = ops.BatchMatMul()

    def construct(self, blocks, bases, iterations):
        """``(n_blocks, size, size)`` of blocks and bases; ``iterations`` is ``()``."""
        done = iterations * 0
        while done < iterations:
            product = self.matmul(blocks, bases)
            # squares in QR vanish below 1e-38: columns are scaled, which leaves Q as it is, and keep a trace of the old
            size = ops.abs(product).max(axis=1, keepdims=True)
            product = product / ops.select(size == 0, ops.ones_like(size), size)
            bases, _ = ops.qr(product + SHARE_KEPT * bases)
            done = done + 1
        return bases


class SOAP(BlockOptimizer):
    r"""SOAP (Vyas et al. 2024, https://arxiv.org/abs/2409.11321, algorithms 3 and 4): Adam in the bases that Shampoo's
    moments have nearly diagonal.

    .. math::
        m &= \beta_1 m + (1 - \beta_1) g, \quad v = \beta_2 v + (1 - \beta_2) (Q_L^T g Q_R)^2 \\
        w &\leftarrow w - lr \left(Q_L \frac{Q_L^T m Q_R}{\sqrt{v} + \epsilon} Q_R^T + wd \cdot w\right) \\
        L &= \beta_2 L + (1 - \beta_2) g g^T, \quad R = \beta_2 R + (1 - \beta_2) g^T g

    with unbiased means, and ``Q_L = QR(L Q_L)``, ``Q_R = QR(R Q_R)`` every few steps. L and R keep their diagonal
    blocks. The first gradient makes the first bases, by 30 such iterations from the identity instead of an eigenvalue
    decomposition, and nothing else of matrices: they do not move, and the means begin with the second. A convolution's
    kernel is the matrix (output channels, the rest). Of the directions that gradients lack, rounding chooses the basis.
    Parameters of one axis, and embeddings, are updated by AdamW, from the first step on.

    Args:
        params: parameters or groups of them, see :mod:`thor.groups`.
        learning_rate: float, list by step, Tensor or schedule; as of AdamW. Default: 0.003.
        beta1, beta2: [0, 1). Default: 0.95 and 0.95.
        frequency: steps from one iteration of the bases to the next, >= 1. Default: 10.
        weight_decay: wd, given like ``learning_rate``, >= 0; not of parameters named ``beta`` or ``gamma``.
            Default: 0.01.
        split_dim: rows of a diagonal block; None for whole matrices. Default: 128.
        eps: added to the root, > 0. Default: 1e-8.
        loss_scale: what gradients are divided by, > 0. Default: 1.
    """

    def __init__(self, params: Sequence, learning_rate: Rate = 3e-3, beta1: float = 0.95, beta2: float = 0.95,
                 frequency: int = 10, weight_decay: Decay = 0.01, split_dim: int | None = 128, eps: float = 1e-8,
                 loss_scale: float = 1.0):
        super().__init__(params, learning_rate, beta1, beta2, frequency, weight_decay, split_dim, loss_scale, eps)
        if self.of_matrices:
            self.bases, self.transposes = (self.by_block_size(name, np.eye) for name in ("bases", "transposes"))
            self.rotate = self.create_preconditioner(self.transposes, self.bases)
            self.rotate_back = self.create_preconditioner(self.bases, self.transposes)
            self.iterate = PowerIteration()
        self.transpose = ops.Transpose()

    def move_matrices(self, gradients, rates, decays):
        moves = self.global_step.astype(ms.float32).reshape(()) - 1.0
        moving = ops.minimum(moves, ops.ones_like(moves))  # 0 at the first step: means stay zeros, weights as they are
        count = ops.maximum(moves, ops.ones_like(moves))
        correction1, correction2 = 1.0 - ops.pow(self.beta1, count), 1.0 - ops.pow(self.beta2, count)
        beta1, beta2 = 1.0 - moving * (1.0 - self.beta1), 1.0 - moving * (1.0 - self.beta2)
        means = self.map(ops.partial(averaged, beta1, correction1), self.means, gradients)
        squares = self.map(ops.square, self.rotate(gradients, moving))
        squares = self.map(ops.partial(averaged, beta2, correction2), self.squares, squares)
        steps = self.map(ops.partial(adam_step, self.epsilon), self.rotate(means, moving), squares)
        updates = self.rotate_back(steps, moving)
        done = self.map(moved, self.map(ops.partial(ops.mul, moving), rates), decays, self.matrices, updates)
        average = ops.partial(averaged, self.beta2, ops.ones_like(moving))
        blocks = self.map(average, self.blocks, self.measured(gradients))
        if (self.global_step[0] - 1) % self.frequency == 0:
            self.renew(ops.depend(blocks, updates))
        return done

    def renew(self, blocks):
        """Iterate the bases; for the first time until they are close to eigenvectors."""
        first = self.global_step[0] == 1
        iterations = first.astype(ms.int32) * (FIRST_ITERATIONS - 1) + 1
        for i in range(len(self.places)):
            bases = self.iterate(blocks[i], self.bases[i], iterations)
            ops.assign(self.bases[i], bases)
            ops.assign(self.transposes[i], self.transpose(bases, (0, 2, 1)))
