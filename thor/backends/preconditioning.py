"""Multiplying a layer's gradient with its inverses: operators whose shapes are fixed before compilation."""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from mindspore import Parameter, nn, ops


@dataclass(frozen=True)
class Inverse:
    """Where the inverse of a factor is kept: ``count`` blocks from ``first`` on in a parameter of many.

    Args:
        parameter: ``(n_blocks, size, size)`` with the blocks of all factors of this block size.
    """

    parameter: Parameter
    first: int
    count: int

    @property
    def size(self) -> int:
        """Rows of a block."""
        return self.parameter.shape[-1]

    @property
    def blocks(self) -> tuple[int, int, int]:
        """``(first, count, size)``."""
        return self.first, self.count, self.size

    def asnumpy(self) -> np.ndarray:
        """A copy of the blocks, ``(count, size, size)``."""
        return self.parameter.asnumpy()[self.first:self.first + self.count].copy()


@dataclass(frozen=True)
class Product:
    """``G^-1 g A^-1`` for the gradients of one layer's parameters.

    Args:
        matrix: ``(groups, rows, columns)`` of the first gradient.
        shapes: of the gradients: one, or two of which the second is a further column of the matrix, a folded bias.
        inverse_g: None where there is no G.
        scales: ``(groups * rows,)``, what rows are multiplied with; a diagonal inverse where there are no blocks of G.
    """

    matrix: tuple[int, int, int]
    shapes: tuple[tuple[int, ...], ...]
    inverse_a: Inverse
    inverse_g: Inverse | None
    scales: Parameter | None = None

    @property
    def folded(self) -> bool:
        """Whether the second gradient is a column of the matrix."""
        return len(self.shapes) == 2

    @property
    def inverses(self) -> tuple[Inverse, ...]:
        """Those there are."""
        return (self.inverse_a,) if self.inverse_g is None else (self.inverse_a, self.inverse_g)


class PreconditionRowsOperator(nn.Cell):
    """``G^-1 g`` for gradients of one shape, with a layer's part of a batch of inverses.

    Everything a layer's shape decides is decided here: MindSpore takes twice as long to compile the same operators
    where it has to work out their shapes.

    Args:
        matrix: ``(groups, rows, columns)`` of the gradient.
        blocks: ``(first, count, size)`` of the layer's blocks in the inverses ``(n_blocks, size, size)``.
    """

    def __init__(self, backend, matrix: tuple[int, int, int], blocks: tuple[int, int, int]):
        super().__init__(auto_prefix=False)
        groups, rows, columns = matrix
        first, count, size = blocks
        self.begin, self.extent = (first, 0, 0), (count, size, size)
        self.padding = count // groups * size - rows
        self.blocks, self.padded = (count, size, columns), (groups, rows + self.padding, columns)
        self.matrix = matrix
        self.matmul, self.reshape, self.slice = backend.matmul, ops.Reshape(), ops.Slice()

    def construct(self, gradient, inverses):
        if self.padding > 0:
            gradient = ops.pad(gradient, (0, 0, 0, self.padding))
        inverse = self.slice(inverses, self.begin, self.extent)
        product = self.matmul(inverse, self.reshape(gradient, self.blocks))
        product = self.reshape(product, self.padded)
        return self.slice(product, (0, 0, 0), self.matrix) if self.padding > 0 else product


class PreconditionColumnsOperator(nn.Cell):
    """``g A^-1`` in the same way."""

    def __init__(self, backend, matrix: tuple[int, int, int], blocks: tuple[int, int, int]):
        super().__init__(auto_prefix=False)
        groups, rows, columns = matrix
        first, count, size = blocks
        self.begin, self.extent = (first, 0, 0), (count, size, size)
        self.whole = count == groups
        self.padding = count // groups * size - columns
        self.matrix = matrix
        self.to_blocks = backend.columns_to_blocks_operator(groups, rows, count // groups, size)
        self.to_columns = backend.blocks_to_columns_operator(groups, rows, count // groups, size)
        self.matmul, self.slice = backend.matmul, ops.Slice()

    def construct(self, gradient, inverses):
        inverse = self.slice(inverses, self.begin, self.extent)
        if self.whole:
            return self.matmul(gradient, inverse)
        if self.padding > 0:
            gradient = ops.pad(gradient, (0, self.padding))
        product = self.to_columns(self.matmul(self.to_blocks(gradient), inverse))
        return self.slice(product, (0, 0, 0), self.matrix) if self.padding > 0 else product


class PreconditionOperator(nn.Cell):
    """``G^-1 g A^-1``: rows, then columns."""

    def __init__(self, rows: nn.Cell, columns: nn.Cell):
        super().__init__(auto_prefix=False)
        self.rows, self.columns = rows, columns

    def construct(self, gradient, inverses_g, inverses_a):
        return self.columns(self.rows(gradient, inverses_g), inverses_a)


class ColumnsToBlocks(nn.Cell):
    """``(groups, rows, n_blocks * size)`` to ``(groups * n_blocks, rows, size)``."""

    def __init__(self, groups: int, rows: int, n_blocks: int, size: int):
        super().__init__(auto_prefix=False)
        self.apart, self.blocks = (groups, rows, n_blocks, size), (groups * n_blocks, rows, size)
        self.reshape, self.transpose = ops.Reshape(), ops.Transpose()

    def construct(self, matrices):
        return self.reshape(self.transpose(self.reshape(matrices, self.apart), (0, 2, 1, 3)), self.blocks)


class BlocksToColumns(nn.Cell):
    """The way back."""

    def __init__(self, groups: int, rows: int, n_blocks: int, size: int):
        super().__init__(auto_prefix=False)
        self.apart, self.joined = (groups, n_blocks, rows, size), (groups, rows, n_blocks * size)
        self.reshape, self.transpose = ops.Reshape(), ops.Transpose()

    def construct(self, blocks):
        return self.reshape(self.transpose(self.reshape(blocks, self.apart), (0, 2, 1, 3)), self.joined)
