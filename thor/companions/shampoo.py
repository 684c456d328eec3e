"""Shampoo: curvature of the gradients alone, in the same blocks and with the same operators as THOR's."""
from __future__ import annotations

from collections.abc import Sequence

import mindspore as ms
import numpy as np
from mindspore import Parameter, ParameterTuple, Tensor, nn, ops

from thor.adam import EPSILON, AdamWUpdate
from thor.backends import Backend, create_backend
from thor.backends.geometry import factor_shape
from thor.backends.inversion import add_damping
from thor.backends.preconditioning import Inverse, Product
from thor.checks import IN_RANGE, checked, integer, number, optional
from thor.grouped import GroupedOptimizer
from thor.groups import Decay, Rate, parameters_and_groups
from thor.maps import flatten, pick
from thor.preconditioning import NetworkPreconditioner

_moments = ops.MultitypeFuncGraph("moments")
_grafted_size = ops.MultitypeFuncGraph("grafted_size")
_averaged = ops.MultitypeFuncGraph("averaged")
_moved = ops.MultitypeFuncGraph("moved")


@_moments.register("Function", "Tensor")
def _moments_of_matrix(measure, gradient):
    return measure(gradient)


@_averaged.register("Tensor", "Tensor", "Tensor", "Tensor")
def _average(beta, correction, stored, new):
    """The running mean of ``new``, unbiased."""
    mean = beta * stored + (1.0 - beta) * new
    return ops.depend(mean, ops.assign(stored, mean)) / correction


@_grafted_size.register("Tensor", "Tensor")
def _size_of_adams_step(mean, square):
    """The norm of Adam's step, ``()``."""
    step = mean / (ops.sqrt(square) + EPSILON)
    return ops.sqrt(ops.square(step).sum())


@_moved.register("Tensor", "Tensor", "Tensor", "Tensor", "Tensor")
def _move(rate, decay, weight, size, update):
    norm = ops.sqrt(ops.square(update).sum())
    factor = ops.select(norm == 0, norm, size / norm)
    return ops.depend(True, ops.assign(weight, weight - rate * (factor * update + decay * weight)))


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


class Shampoo(GroupedOptimizer):
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
        parameters, groups = parameters_and_groups(params)
        super().__init__(learning_rate, parameters, weight_decay, loss_scale, groups)
        unit = number(minimum=0, below=1)
        beta1, beta2 = checked("beta1", beta1, unit, IN_RANGE), checked("beta2", beta2, unit, IN_RANGE)
        self.beta1, self.beta2 = Tensor(beta1, ms.float32), Tensor(beta2, ms.float32)
        self.frequency = checked("frequency", frequency, integer(1), "use 1 to compute roots every step")
        split_dim = checked("split_dim", split_dim, optional(integer(1), "whole matrices"), "use 128")
        epsilon = checked("epsilon", epsilon, number(above=0), IN_RANGE)
        chosen = [p.ndim > 1 and "embedding" not in p.name for p in parameters]
        self.of_matrices = tuple(i for i, is_matrix in enumerate(chosen) if is_matrix)
        self.of_others = tuple(i for i, is_matrix in enumerate(chosen) if not is_matrix)
        if self.of_matrices:
            self._create_blocks([parameters[i] for i in self.of_matrices], 2 ** 30 if split_dim is None else split_dim)
            self.root = InverseFourthRoot(epsilon)
        if self.of_others:
            self.adam = AdamWUpdate(ParameterTuple([parameters[i] for i in self.of_others]), beta1, beta2,
                                    tuple(self.decay_flags[i] for i in self.of_others))
        self.decays_of_matrices = tuple(Tensor(float(self.decay_flags[i]), ms.float32) for i in self.of_matrices)
        self.map, self.each, self.concat = ops.Map(), ops.HyperMap(), ops.Concat()

    def _create_blocks(self, matrices: list[Parameter], split_dim: int) -> None:
        """L and R of all matrices, those of one block size together; what makes them and what reads them."""
        backend = create_backend()
        self.matrices = ParameterTuple(matrices)
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

    def construct(self, gradients):
        gradients = self.scale_grad(gradients)
        rates, decays = self.get_lr(), self.get_weight_decay()
        due = self.global_step[0] % self.frequency == 0
        self.assignadd(self.global_step, self.global_step_increase_tensor)
        done = ()
        if len(self.of_matrices) > 0:
            decays_of_matrices = self.each(ops.mul, self.some(decays, self.of_matrices, self.is_group),
                                           self.decays_of_matrices)
            updates, sizes = self.updates(pick(gradients, self.of_matrices), due)
            done = self.map(_moved, self.some(rates, self.of_matrices, self.is_group_lr), decays_of_matrices,
                            self.matrices, sizes, updates)
        if len(self.of_others) > 0:
            done = done + self.adam(pick(gradients, self.of_others), self.some(rates, self.of_others, self.is_group_lr),
                                    self.some(decays, self.of_others, self.is_group))
        return done

    def updates(self, gradients, due):
        """Of the matrices: preconditioned means, and the norm each is to have."""
        count = self.global_step.astype(ms.float32).reshape(())
        correction1, correction2 = 1.0 - ops.pow(self.beta1, count), 1.0 - ops.pow(self.beta2, count)
        average = ops.partial(_averaged, self.beta2, correction2)
        means = self.map(ops.partial(_averaged, self.beta1, correction1), self.means, gradients)
        sizes = self.map(_grafted_size, means, self.map(average, self.squares, self.each(ops.square, gradients)))
        measured = self.map(_moments, self.each_measure, gradients)
        blocks = ()
        for places in self.places:
            blocks = blocks + (self.concat(flatten(measured, places)),)
        blocks = self.map(average, self.blocks, blocks)
        if due:
            self.renew(blocks)
        return self.precondition(means, correction1), sizes

    def renew(self, blocks):
        """Compute the roots anew."""
        for i in range(len(self.places)):
            ops.assign(self.roots[i], self.root(blocks[i]))

    def some(self, values, places, are_each: bool):
        """Those of the parameters at ``places``; ``values`` are a scalar, or one for each parameter."""
        return pick(values, places) if are_each else (values,) * len(places)
