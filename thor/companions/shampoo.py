"""Shampoo: curvature of the gradients alone, in the same blocks and with the same operators as THOR's."""
from __future__ import annotations

from collections.abc import Sequence

import mindspore as ms
import numpy as np
from mindspore import Parameter, ParameterTuple, Tensor, nn, ops

from thor.adam import EPSILON
from thor.backends import Backend, create_backend
from thor.backends.geometry import factor_shape
from thor.backends.inversion import add_damping
from thor.backends.preconditioning import Inverse, Product
from thor.checks import IN_RANGE, checked, integer, number, optional
from thor.companions.matrices import MatrixOptimizer
from thor.grafting import Grafting
from thor.groups import Decay, Rate
from thor.maps import call_each, flatten
from thor.preconditioning import NetworkPreconditioner

_adam = ops.MultitypeFuncGraph("adam")
_averaged = ops.MultitypeFuncGraph("averaged")
_moved = ops.MultitypeFuncGraph("moved")


@_averaged.register("Tensor", "Tensor", "Tensor", "Tensor")
def _average(beta, correction, stored, new):
    """The running mean of ``new``, unbiased."""
    mean = beta * stored + (1.0 - beta) * new
    return ops.depend(mean, ops.assign(stored, mean)) / correction


@_adam.register("Tensor", "Tensor")
def _adams_step(mean, square):
    return mean / (ops.sqrt(square) + EPSILON)


@_moved.register("Tensor", "Tensor", "Tensor", "Tensor")
def _move(rate, decay, weight, update):
    return ops.depend(True, ops.assign(weight, weight - rate * (update + decay * weight)))


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


class MatrixMoments(nn.Cell):
    """``g g'`` and ``g' g`` of a gradient of ``rows`` and ``columns``, as blocks."""

    def __init__(self, backend: Backend, rows: int, columns: int, split_dim: int):
        super().__init__(auto_prefix=False)
        self.shape = (rows, columns)
        self.of_rows = backend.covariance_operator(1, split_dim, float(columns))  # which divides by the rows it sees
        self.of_columns = backend.covariance_operator(1, split_dim, float(rows))
        self.reshape, self.transpose = ops.Reshape(), ops.Transpose()
        self.statistics = Tensor([1.0], ms.float32)  # asked by nobody

    def construct(self, gradient):
        matrix = self.reshape(gradient, self.shape)
        return (self.of_rows(self.transpose(matrix, (1, 0)), self.statistics),
                self.of_columns(matrix, self.statistics))


class RootPreconditioner(nn.Cell):
    """``L^{-1/4} g R^{-1/4}`` of one gradient."""

    def __init__(self, backend: Backend, weight: Parameter, rows: Inverse, columns: Inverse):
        super().__init__(auto_prefix=False)
        self.shape = weight.shape
        self.matrix = (1, weight.shape[0], weight.size // weight.shape[0])
        self.product_of_matrix = Product(self.matrix, (weight.shape,), columns, rows)
        self.roots_of_rows, self.roots_of_columns = rows.parameter, columns.parameter
        self.precondition = backend.precondition_operator(self.matrix, rows.blocks, columns.blocks)
        self.reshape = ops.Reshape()

    def product(self) -> Product:
        """What :meth:`construct` computes."""
        return self.product_of_matrix

    def construct(self, gradients, damping):
        product = self.precondition(self.reshape(gradients[0], self.matrix), self.roots_of_rows, self.roots_of_columns)
        return (self.reshape(product, self.shape),)


def preconditioned(parameters: Sequence[Parameter]) -> list[bool]:
    """Which parameters Shampoo is for: those of two axes or more, but embeddings."""
    return [parameter.ndim > 1 and "embedding" not in parameter.name for parameter in parameters]


class Shampoo(MatrixOptimizer):
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
        unit = number(minimum=0, below=1)
        beta1, beta2 = checked("beta1", beta1, unit, IN_RANGE), checked("beta2", beta2, unit, IN_RANGE)
        super().__init__(params, learning_rate, weight_decay, loss_scale, preconditioned, beta1, beta2)
        self.beta1, self.beta2 = Tensor(beta1, ms.float32), Tensor(beta2, ms.float32)
        self.frequency = checked("frequency", frequency, integer(1), "use 1 to compute roots every step")
        split_dim = checked("split_dim", split_dim, optional(integer(1), "whole matrices"), "use 128")
        epsilon = checked("epsilon", epsilon, number(above=0), IN_RANGE)
        if self.of_matrices:
            self._create_blocks(list(self.matrices), 2 ** 30 if split_dim is None else split_dim)
            self.root, self.graft = InverseFourthRoot(epsilon), Grafting([1] * len(self.of_matrices))
        self.concat = ops.Concat()

    def _create_blocks(self, matrices: list[Parameter], split_dim: int) -> None:
        """L and R of all matrices, those of one block size together; what makes them and what reads them."""
        backend = create_backend()
        self.means, self.squares = self.matrices.clone("moments", "zeros"), self.matrices.clone("squares", "zeros")
        shapes = [(p.shape[0], p.size // p.shape[0]) for p in matrices]
        self.measures = nn.CellList([MatrixMoments(backend, *shape, split_dim) for shape in shapes], auto_prefix=False)
        self.each_measure = tuple(self.measures)
        by_size: dict[int, list[tuple[int, int, int]]] = {}  # matrix, side, blocks
        for i, shape in enumerate(shapes):
            for side, dim in enumerate(shape):
                count, size, _ = factor_shape(1, dim, split_dim)
                by_size.setdefault(size, []).append((i, side, count))
        self.places = tuple(tuple((i, side) for i, side, _ in members) for members in by_size.values())

        def state(name: str, start) -> ParameterTuple:
            return ParameterTuple([Parameter(Tensor(np.tile(start(size), (sum(m[2] for m in members), 1, 1)),
                                                    ms.float32), name=f"{name}_{size}", requires_grad=False)
                                   for size, members in by_size.items()])

        self.blocks, self.roots = state("blocks", lambda n: np.zeros((n, n))), state("roots", np.eye)
        found = {}
        for roots, members in zip(self.roots, by_size.values()):
            firsts = np.cumsum([0] + [count for _, _, count in members]).tolist()
            found.update({(i, side): Inverse(roots, first, count) for (i, side, count), first in zip(members, firsts)})
        preconditioners = [RootPreconditioner(backend, p, found[i, 0], found[i, 1]) for i, p in enumerate(matrices)]
        self.precondition = NetworkPreconditioner(backend, preconditioners, [1] * len(matrices))

    def move_matrices(self, gradients, rates, decays):
        count = self.global_step.astype(ms.float32).reshape(())
        correction1, correction2 = 1.0 - ops.pow(self.beta1, count), 1.0 - ops.pow(self.beta2, count)
        average = ops.partial(_averaged, self.beta2, correction2)
        means = self.map(ops.partial(_averaged, self.beta1, correction1), self.means, gradients)
        adams = self.map(_adam, means, self.map(average, self.squares, self.map(ops.square, gradients)))
        measured, blocks = call_each(self.each_measure, gradients), ()
        for places in self.places:
            blocks = blocks + (self.concat(flatten(measured, places)),)
        blocks = self.map(average, self.blocks, blocks)
        if (self.global_step[0] - 1) % self.frequency == 0:
            self.renew(blocks)
        updates = self.graft(adams, self.precondition(means, correction1))
        return self.map(_moved, rates, decays, self.matrices, updates)

    def renew(self, blocks):
        """Compute the roots anew."""
        for i in range(len(self.places)):
            ops.assign(self.roots[i], self.root(blocks[i]))
