"""What Shampoo and SOAP share: moments of both sides of a gradient, in the same blocks and by the same operators as
THOR's."""
from __future__ import annotations

from collections.abc import Callable, Sequence

import mindspore as ms
import numpy as np
from mindspore import Parameter, ParameterTuple, Tensor, nn, ops

from thor.adam import EPSILON
from thor.backends import Backend, create_backend
from thor.backends.geometry import factor_shape
from thor.backends.preconditioning import Inverse, Product
from thor.checks import IN_RANGE, checked, integer, number, optional
from thor.companions.matrices import MatrixOptimizer
from thor.groups import Decay, Rate
from thor.maps import call_each, flatten
from thor.preconditioning import NetworkPreconditioner

adam_step = ops.MultitypeFuncGraph("adam_step")
averaged = ops.MultitypeFuncGraph("averaged")
moved = ops.MultitypeFuncGraph("moved")


@averaged.register("Tensor", "Tensor", "Tensor", "Tensor")
def _average(beta, correction, stored, new):
    """The running mean of ``new``, unbiased."""
    mean = beta * stored + (1.0 - beta) * new
    return ops.depend(mean, ops.assign(stored, mean)) / correction


@adam_step.register("Tensor", "Tensor", "Tensor")
def _adams_step(epsilon, mean, square):
    return mean / (ops.sqrt(square) + epsilon)


@moved.register("Tensor", "Tensor", "Tensor", "Tensor")
def _move(rate, decay, weight, update):
    return ops.depend(True, ops.assign(weight, weight - rate * (update + decay * weight)))


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


class MatrixPreconditioner(nn.Cell):
    """``A g B`` of one gradient, with A of its rows and B of its columns."""

    def __init__(self, backend: Backend, weight: Parameter, rows: Inverse, columns: Inverse):
        super().__init__(auto_prefix=False)
        self.shape = weight.shape
        self.matrix = (1, weight.shape[0], weight.size // weight.shape[0])
        self.product_of_matrix = Product(self.matrix, (weight.shape,), columns, rows)
        self.of_rows, self.of_columns = rows.parameter, columns.parameter
        self.precondition = backend.precondition_operator(self.matrix, rows.blocks, columns.blocks)
        self.reshape = ops.Reshape()

    def product(self) -> Product:
        """What :meth:`construct` computes."""
        return self.product_of_matrix

    def construct(self, gradients, damping):
        product = self.precondition(self.reshape(gradients[0], self.matrix), self.of_rows, self.of_columns)
        return (self.reshape(product, self.shape),)


def preconditioned(parameters: Sequence[Parameter]) -> list[bool]:
    """Which parameters Shampoo and SOAP are for: those of two axes or more, but embeddings."""
    return [parameter.ndim > 1 and "embedding" not in parameter.name for parameter in parameters]


class BlockOptimizer(MatrixOptimizer):
    """An optimizer with means of the gradients, of their squares, and of ``g g'`` and ``g' g``; AdamW for all else.

    Args:
        params, learning_rate, beta1, beta2, frequency, weight_decay, split_dim, loss_scale: see
            :class:`thor.companions.Shampoo`.
        eps: of AdamW, > 0.

    Attributes:
        means, squares: of ``matrices``.
        blocks: of all matrices, those of one block size together: a tuple of ``(n_blocks, size, size)``.
    """

    def __init__(self, params: Sequence, learning_rate: Rate, beta1: float, beta2: float, frequency: int,
                 weight_decay: Decay, split_dim: int | None, loss_scale: float, eps: float = EPSILON):
        unit = number(minimum=0, below=1)
        beta1, beta2 = checked("beta1", beta1, unit, IN_RANGE), checked("beta2", beta2, unit, IN_RANGE)
        eps = checked("eps", eps, number(above=0), IN_RANGE)
        super().__init__(params, learning_rate, weight_decay, loss_scale, preconditioned, beta1, beta2, eps)
        self.beta1, self.beta2, self.epsilon = (Tensor(value, ms.float32) for value in (beta1, beta2, eps))
        self.frequency = checked("frequency", frequency, integer(1), "use 1 to refresh every step")
        split_dim = checked("split_dim", split_dim, optional(integer(1), "whole matrices"), "use 128")
        if self.of_matrices:
            self._create_blocks(list(self.matrices), 2 ** 30 if split_dim is None else split_dim)
        self.concat = ops.Concat()

    def _create_blocks(self, matrices: list[Parameter], split_dim: int) -> None:
        """The means, what measures the blocks, and where each matrix has its own."""
        self.backend = create_backend()
        self.means, self.squares = self.matrices.clone("moments", "zeros"), self.matrices.clone("squares", "zeros")
        shapes = [(p.shape[0], p.size // p.shape[0]) for p in matrices]
        self.measures = nn.CellList([MatrixMoments(self.backend, *shape, split_dim) for shape in shapes],
                                    auto_prefix=False)
        self.each_measure = tuple(self.measures)
        by_size: dict[int, list[tuple[int, int, int]]] = {}  # matrix, side, blocks
        for i, shape in enumerate(shapes):
            for side, dim in enumerate(shape):
                count, size, _ = factor_shape(1, dim, split_dim)
                by_size.setdefault(size, []).append((i, side, count))
        self.places = tuple(tuple((i, side) for i, side, _ in members) for members in by_size.values())
        self.by_size = by_size
        self.blocks = self.by_block_size("blocks", lambda n: np.zeros((n, n)))

    def by_block_size(self, name: str, start: Callable[[int], np.ndarray]) -> ParameterTuple:
        """Parameters shaped like ``blocks``, each block of them ``start(size)``."""
        return ParameterTuple([Parameter(Tensor(np.tile(start(size), (sum(m[2] for m in members), 1, 1)), ms.float32),
                                         name=f"{name}_{size}", requires_grad=False)
                               for size, members in self.by_size.items()])

    def create_preconditioner(self, rows: ParameterTuple, columns: ParameterTuple) -> NetworkPreconditioner:
        """``A g B`` of the gradients of all matrices, A and B in parameters shaped like ``blocks``."""
        found = {}
        for place, members in enumerate(self.by_size.values()):
            firsts = np.cumsum([0] + [count for _, _, count in members]).tolist()
            found.update({(i, side): Inverse((rows, columns)[side][place], first, count)
                          for (i, side, count), first in zip(members, firsts)})
        return NetworkPreconditioner(self.backend, [MatrixPreconditioner(self.backend, p, found[i, 0], found[i, 1])
                                                    for i, p in enumerate(self.matrices)], [1] * len(self.matrices))

    def measured(self, gradients):
        """``g g'`` and ``g' g`` of all gradients, a tuple shaped like ``blocks``."""
        measured, blocks = call_each(self.each_measure, gradients), ()
        for places in self.places:
            blocks = blocks + (self.concat(flatten(measured, places)),)
        return blocks
