"""The operator interface every device implements, with a reference in plain MindSpore operators."""
from __future__ import annotations

from collections.abc import Sequence

import mindspore as ms
from mindspore import Parameter, Tensor, nn, ops

from thor.backends.convolution import (
    CovarianceOfMapsOperator,
    CovarianceOfPatchesOperator,
    SquaresOfPatchesOperator,
    SquaresOperator,
    see,
)
from thor.backends.finite import AllFinite
from thor.backends.geometry import ConvGeometry, diagonals, factor_shape, plan_columns, plan_features, plan_windows
from thor.backends.inversion import BlockUpdate, BlockUpdateByFactor
from thor.backends.preconditioning import (
    BlocksToColumns,
    ColumnsToBlocks,
    PreconditionColumnsOperator,
    PreconditionOperator,
    PreconditionRowsOperator,
    Product,
)


class Backend(nn.Cell):
    """Operators on blocks, each with exact shapes; a device overrides those it does better.

    A matrix of ``dim`` rows is split into ``n_blocks = ceil(dim / size)`` diagonal blocks of
    ``size = min(dim, split_dim)``; the last block is padded with zeros. With ``groups`` (grouped
    convolutions) every group has blocks of its own, so factors have shape
    ``(groups * n_blocks, size, size)``. All tensors are float32 unless said otherwise.
    """

    name = "reference"
    joins_products = False  # whether joint_product_operator multiplies all layers' gradients at once
    columns_to_blocks_operator, blocks_to_columns_operator = ColumnsToBlocks, BlocksToColumns  # as it does them best

    def __init__(self):
        super().__init__(auto_prefix=False)
        self.matmul_tn = ops.BatchMatMul(transpose_a=True)
        self.matmul_nt = ops.BatchMatMul(transpose_b=True)
        self.matmul = ops.BatchMatMul()
        self.reshape, self.sum, self.stack = ops.Reshape(), ops.ReduceSum(), ops.Stack(2)

    def covariance(self, rows: Tensor, groups: int, split_dim: int, scale: float = 1.0) -> Tensor:
        """Block-diagonal second moment of rows.

        Args:
            rows: ``(n_rows, groups * dim)``.

        Returns:
            ``(groups * n_blocks, size, size)``, the diagonal blocks of ``scale rows' rows / n_rows``.
        """
        padding, apart, joined, n_blocks = plan_columns(rows.shape, groups, split_dim)
        if padding > 0:
            rows = ops.pad(self.reshape(rows, apart), (0, padding))
        blocks = self.columns_to_blocks(self.reshape(rows, joined), n_blocks)
        return self.matmul_tn(blocks, blocks) * (scale / rows.shape[0])

    def covariance_of_maps(self, maps: Tensor, groups: int, split_dim: int, scale: float = 1.0) -> Tensor:
        """Block-diagonal second moment of features-first maps, without transposing them.

        Args:
            maps: ``(n, groups * dim, positions)``; a row is one position of one sample.

        Returns:
            ``(groups * n_blocks, size, size)``, ``scale`` times the mean over samples and positions.
        """
        padding, apart, blocks = plan_features(maps.shape, groups, split_dim)
        if padding > 0:
            maps = ops.pad(self.reshape(maps, apart), (0, 0, 0, padding))
        maps = self.reshape(maps, blocks)  # (n, groups * n_blocks, size, positions)
        return self.sum(self.matmul_nt(maps, maps), 0) * (scale / (blocks[0] * blocks[3]))

    def patches(self, images: Tensor, kernel: tuple, stride: tuple, padding: tuple, dilation: tuple) -> Tensor:
        """Unfold images into the rows a convolution multiplies with its weight (im2col).

        Args:
            images: ``(n, channels, height, width)``.
            kernel: ``(kh, kw)``; stride and dilation likewise, padding ``(top, bottom, left, right)``.

        Returns:
            ``(n, channels * kh * kw, out_h * out_w)``; channel is the slowest feature, as in the
            flattened weight ``(out_channels, channels * kh * kw)``.
        """
        top, bottom, left, right = padding
        if top + bottom + left + right > 0:
            images = ops.pad(images, (left, right, top, bottom))
        windows, patches = plan_windows(images.shape, kernel, stride, dilation)
        seen = see(images, (1, 1, stride[0], stride[1]), windows)  # kh * kw of (n, channels, out_h, out_w)
        return self.reshape(seen[0] if len(windows) == 1 else self.stack(seen), patches)

    def damped_inverse(self, blocks: Tensor, damping: Tensor) -> tuple:
        """Invert a batch of damped symmetric blocks.

        Args:
            blocks: ``(n_blocks, size, size)``, symmetric positive semi-definite.
            damping: ``(n_blocks, 1, 1)``, added to the diagonal.

        Returns:
            ``(inverse, accepted)`` of shapes ``(n_blocks, size, size)`` and ``(n_blocks, 1, 1)``;
            accepted is 1.0 where the damped block was finite and positive definite, otherwise 0.0,
            and there the inverse is zero. Never raises.
        """
        raise NotImplementedError

    def covariance_operator(self, groups: int, split_dim: int, scale: float = 1.0, column: int | None = None):
        """``rows, statistics -> scale * blocks``, :meth:`covariance` as an operator made before compilation.

        Args:
            column: of a call's statistics; where it is 0 the blocks are zero and cost nothing. None computes always.
        """
        return self._skipping(CovarianceOperator(self, groups, split_dim, scale), column)

    def covariance_of_maps_operator(self, groups: int, split_dim: int, scale: float = 1.0, column: int | None = None):
        """``maps, statistics -> scale * blocks``, :meth:`covariance_of_maps` as an operator a layer holds."""
        return self._skipping(CovarianceOfMapsOperator(self, groups, split_dim, scale), column)

    def covariance_of_patches_operator(self, geometry: ConvGeometry, groups: int, split_dim: int,
                                       append_one: bool = False, scale: float = 1.0, column: int | None = None):
        """``images, statistics -> scale * blocks``: of the im2col rows of ``images`` ``(n, channels, h, w)``.

        With ``append_one`` every group's rows get one more feature, the constant 1 that a folded bias sees.
        """
        return self._skipping(CovarianceOfPatchesOperator(self, geometry, groups, split_dim, append_one, scale), column)

    def _skipping(self, operator, column: int | None):
        return operator if column is None else SkippingOperator(operator, column)

    def squares_operator(self, geometry: ConvGeometry | None = None):
        """``x -> (1,)``: the sum of squares of ``x``, or of its im2col rows where ``geometry`` is given."""
        return SquaresOperator() if geometry is None else SquaresOfPatchesOperator(geometry)

    def updated_inverse(self, blocks: Tensor, scale: Tensor, damping: Tensor, divisor: Tensor, selected: Tensor,
                        old: Tensor) -> tuple:
        """New inverses of the selected blocks, in one pass: ``(scale blocks + damping I)^-1 / divisor``.

        Args:
            blocks: ``(n_blocks, size, size)``; likewise ``old``, the inverses there are.
            scale, damping, divisor, selected: ``(n_blocks, 1, 1)``; ``selected`` is 1.0 where a new inverse is wanted.

        Returns:
            ``(inverse, accepted, condition)``: the new inverses where selected and good, elsewhere ``old``; 1.0 for
            selected and good; and a lower bound of the damped block's condition number, the product of the largest
            diagonal elements of block and inverse, 0 where there is no new inverse. The last two ``(n_blocks, 1, 1)``.
        """
        factors = blocks * scale
        inverse, accepted = self.damped_inverse(factors, damping)
        accepted = accepted * selected
        condition = (diagonals(factors).max(axis=1) + damping.reshape(-1)) * diagonals(inverse).max(axis=1)
        good = accepted > 0
        condition = ops.where(good, condition.reshape(-1, 1, 1), ops.zeros_like(accepted))
        return ops.where(good, inverse / divisor, old), accepted, condition

    def block_update_operator(self, spans: tuple, selective: bool):
        """:meth:`updated_inverse` of a batch of blocks, as an operator.

        Args:
            spans: ``(first, count)`` of each factor's blocks.
            selective: only some of the factors are refreshed at a time; the work of the others is saved.
        """
        return BlockUpdateByFactor(self, spans) if selective else BlockUpdate(self)

    def precondition_operator(self, matrix: tuple, blocks_g: tuple, blocks_a: tuple):
        """``gradient, inverses_g, inverses_a -> G^-1 g A^-1`` for block-diagonal inverses.

        Args:
            matrix: ``(groups, rows, columns)`` of the gradient, and of the result.
            blocks_g: ``(first, count, size)``: the layer's part of ``inverses_g`` ``(n_blocks, size, size)``, with
                ``count = groups * n_row_blocks``. ``blocks_a`` likewise for the columns.
        """
        return PreconditionOperator(self.precondition_rows_operator(matrix, blocks_g),
                                    self.precondition_columns_operator(matrix, blocks_a))

    def precondition_rows_operator(self, matrix: tuple, blocks: tuple):
        """``gradient, inverses -> G^-1 g`` in the same way."""
        return PreconditionRowsOperator(self, matrix, blocks)

    def precondition_columns_operator(self, matrix: tuple, blocks: tuple):
        """``gradient, inverses -> g A^-1`` in the same way."""
        return PreconditionColumnsOperator(self, matrix, blocks)

    def joint_product_operator(self, products: Sequence[Product]):
        """``gradients -> preconditioned gradients`` of all layers, tuples; where :attr:`joins_products`."""
        raise NotImplementedError

    def finite_operator(self, tensors: Sequence[Parameter]):
        """``tensors -> ()``: whether all numbers of a tuple shaped like these are finite, and their norm below 1e19."""
        return AllFinite([tensor.shape for tensor in tensors])

    def columns_to_blocks(self, matrices: Tensor, n_blocks: int) -> Tensor:
        """``(groups, rows, n_blocks * size)`` to ``(groups * n_blocks, rows, size)``."""
        groups, rows, columns = matrices.shape
        blocks = matrices.reshape(groups, rows, n_blocks, columns // n_blocks).transpose(0, 2, 1, 3)
        return blocks.reshape(groups * n_blocks, rows, columns // n_blocks)


class CovarianceOperator(nn.Cell):
    """``Backend.covariance`` times a constant, with its arguments bound."""

    def __init__(self, backend, groups: int, split_dim: int, scale: float):
        super().__init__(auto_prefix=False)
        self.backend, self.groups, self.split_dim, self.scale = backend, groups, split_dim, scale

    def shape(self, x_shape: tuple) -> tuple:
        """Shape of the blocks for rows or maps of ``x_shape``."""
        return factor_shape(self.groups, x_shape[1] // self.groups, self.split_dim)

    def construct(self, rows, statistics):
        return self.backend.covariance(rows, self.groups, self.split_dim, self.scale)


class SkippingOperator(nn.Cell):
    """A covariance that is computed only where ``statistics[column]`` says so."""

    def __init__(self, operator: CovarianceOperator, column: int):
        super().__init__(auto_prefix=False)
        self.operator, self.column = operator, column
        self.slice = ops.Slice()

    def construct(self, x, statistics):
        if self.slice(statistics, (self.column,), (1,)) > 0:  # an index fails in a second differentiation in PyNative
            return self.operator(x, statistics)
        return ops.zeros(self.operator.shape(x.shape), ms.float32)
