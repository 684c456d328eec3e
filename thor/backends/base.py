"""The operator interface every device implements, with a reference in plain MindSpore operators."""
from __future__ import annotations

from dataclasses import dataclass

import mindspore as ms
from mindspore import Tensor, nn, ops


@dataclass(frozen=True)
class ConvGeometry:
    """How a two-dimensional convolution walks over an image; pairs are (height, width).

    Args:
        pad_mode: "same", "valid" or "pad", as in ``mindspore.nn.Conv2d``.
        pad: zeros on every side, or ``(top, bottom, left, right)``; read with pad_mode "pad".
    """

    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    pad_mode: str = "valid"
    pad: int | tuple[int, int, int, int] = 0

    def padding(self, size: tuple[int, int]) -> tuple[int, int, int, int]:
        """Zeros added ``(top, bottom, left, right)`` to an image of ``size``."""
        return conv_padding(size, self.pad_mode, self.pad, self.kernel, self.stride, self.dilation)


class Backend(nn.Cell):
    """Five operators on blocks, each with exact shapes; a device overrides those it does better.

    A matrix of ``dim`` rows is split into ``n_blocks = ceil(dim / size)`` diagonal blocks of
    ``size = min(dim, split_dim)``; the last block is padded with zeros. With ``groups`` (grouped
    convolutions) every group has blocks of its own, so factors have shape
    ``(groups * n_blocks, size, size)``. All tensors are float32 unless said otherwise.
    """

    name = "reference"

    def __init__(self):
        super().__init__(auto_prefix=False)
        self.matmul_tn = ops.BatchMatMul(transpose_a=True)
        self.matmul_nt = ops.BatchMatMul(transpose_b=True)
        self.matmul = ops.BatchMatMul()

    def covariance(self, rows: Tensor, groups: int, split_dim: int) -> Tensor:
        """Block-diagonal second moment of rows.

        Args:
            rows: ``(n_rows, groups * dim)``.

        Returns:
            ``(groups * n_blocks, size, size)``, the diagonal blocks of ``rows' rows / n_rows``.
        """
        n_rows = rows.shape[0]
        columns = split_columns(rows, groups, split_dim)  # (n_rows, groups * n_blocks, size)
        columns = columns.transpose(1, 0, 2)
        return self.matmul_tn(columns, columns) / n_rows

    def covariance_of_maps(self, maps: Tensor, groups: int, split_dim: int) -> Tensor:
        """Block-diagonal second moment of features-first maps, without transposing them.

        Args:
            maps: ``(n, groups * dim, positions)``; a row is one position of one sample.

        Returns:
            ``(groups * n_blocks, size, size)``, the mean over samples and positions.
        """
        n, _, positions = maps.shape
        blocks = split_features(maps, groups, split_dim)  # (n, groups * n_blocks, size, positions)
        products = self.matmul_nt(blocks, blocks)
        return products.sum(axis=0) / (n * positions)

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
        n, channels, height, width = images.shape
        out_h = (height - dilation[0] * (kernel[0] - 1) - 1) // stride[0] + 1
        out_w = (width - dilation[1] * (kernel[1] - 1) - 1) // stride[1] + 1
        windows = []
        for row in range(kernel[0]):
            for column in range(kernel[1]):
                i, j = row * dilation[0], column * dilation[1]
                window = ops.strided_slice(
                    images, (0, 0, i, j),
                    (n, channels, i + (out_h - 1) * stride[0] + 1, j + (out_w - 1) * stride[1] + 1),
                    (1, 1, stride[0], stride[1]))
                windows.append(window.reshape(n, channels, 1, out_h * out_w))
        if len(windows) == 1:
            return windows[0].reshape(n, channels, out_h * out_w)
        return ops.concat(windows, axis=2).reshape(n, channels * kernel[0] * kernel[1], out_h * out_w)

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

    def covariance_operator(self, groups: int, split_dim: int, scale: float = 1.0):
        """``rows -> scale * blocks``, :meth:`covariance` as an operator a layer holds; made before compilation."""
        return CovarianceOperator(self, groups, split_dim, scale)

    def covariance_of_maps_operator(self, groups: int, split_dim: int, scale: float = 1.0):
        """``maps -> scale * blocks``, :meth:`covariance_of_maps` as an operator a layer holds."""
        return CovarianceOfMapsOperator(self, groups, split_dim, scale)

    def covariance_of_patches_operator(self, geometry: ConvGeometry, groups: int, split_dim: int,
                                       append_one: bool = False, scale: float = 1.0):
        """``images -> scale * blocks``: the second moment of the im2col rows of ``images`` ``(n, channels, h, w)``.

        With ``append_one`` every group's rows get one more feature, the constant 1 that a folded bias sees.
        """
        return CovarianceOfPatchesOperator(self, geometry, groups, split_dim, append_one, scale)

    def precondition(self, gradient: Tensor, inverse_g: Tensor, inverse_a: Tensor) -> Tensor:
        """Multiply a gradient by block-diagonal inverses from both sides: ``G^-1 g A^-1``.

        Args:
            gradient: ``(groups, rows, columns)``.
            inverse_g: ``(groups * n_row_blocks, row_size, row_size)``.
            inverse_a: ``(groups * n_column_blocks, column_size, column_size)``.

        Returns:
            ``(groups, rows, columns)``.
        """
        return self.precondition_columns(self.precondition_rows(gradient, inverse_g), inverse_a)

    def precondition_rows(self, gradient: Tensor, inverse_g: Tensor) -> Tensor:
        """``G^-1 g`` for ``gradient`` (groups, rows, columns)."""
        groups, rows, columns = gradient.shape
        n_blocks, size, _ = inverse_g.shape
        padding = n_blocks // groups * size - rows
        if padding > 0:
            gradient = ops.pad(gradient, (0, 0, 0, padding))
        product = self.matmul(inverse_g, gradient.reshape(n_blocks, size, columns))
        product = product.reshape(groups, rows + padding, columns)
        return product[:, :rows] if padding > 0 else product

    def precondition_columns(self, gradient: Tensor, inverse_a: Tensor) -> Tensor:
        """``g A^-1`` for ``gradient`` (groups, rows, columns)."""
        groups, rows, columns = gradient.shape
        n_blocks, size, _ = inverse_a.shape
        per_group = n_blocks // groups
        padding = per_group * size - columns
        if padding > 0:
            gradient = ops.pad(gradient, (0, padding))
        if per_group == 1:
            product = self.matmul(gradient, inverse_a)
        else:
            blocks = gradient.reshape(groups, rows, per_group, size).transpose(0, 2, 1, 3)
            product = self.matmul(blocks.reshape(n_blocks, rows, size), inverse_a)
            product = product.reshape(groups, per_group, rows, size).transpose(0, 2, 1, 3)
            product = product.reshape(groups, rows, columns + padding)
        return product[:, :, :columns] if padding > 0 else product


class CovarianceOperator(nn.Cell):
    """``Backend.covariance`` times a constant, with its arguments bound."""

    def __init__(self, backend: Backend, groups: int, split_dim: int, scale: float):
        super().__init__(auto_prefix=False)
        self.backend, self.groups, self.split_dim, self.scale = backend, groups, split_dim, scale

    def construct(self, rows):
        return self.backend.covariance(rows, self.groups, self.split_dim) * self.scale


class CovarianceOfMapsOperator(CovarianceOperator):
    """``Backend.covariance_of_maps`` times a constant, with its arguments bound."""

    def construct(self, maps):
        return self.backend.covariance_of_maps(maps, self.groups, self.split_dim) * self.scale


class CovarianceOfPatchesOperator(CovarianceOperator):
    """Unfold images, append a row of ones per group where a bias is folded, and take the second moment."""

    def __init__(self, backend: Backend, geometry: ConvGeometry, groups: int, split_dim: int, append_one: bool,
                 scale: float):
        super().__init__(backend, groups, split_dim, scale)
        self.kernel, self.stride, self.dilation = geometry.kernel, geometry.stride, geometry.dilation
        self.pad_mode, self.pad, self.append_one = geometry.pad_mode, geometry.pad, append_one

    def construct(self, images):
        padding = conv_padding(images.shape[2:], self.pad_mode, self.pad, self.kernel, self.stride, self.dilation)
        rows = self.backend.patches(images, self.kernel, self.stride, padding, self.dilation)
        if self.append_one:
            n, width, positions = rows.shape
            rows = rows.reshape(n, self.groups, width // self.groups, positions)
            rows = ops.concat((rows, ops.ones((n, self.groups, 1, positions), ms.float32)), axis=2)
            rows = rows.reshape(n, width + self.groups, positions)
        return self.backend.covariance_of_maps(rows, self.groups, self.split_dim) * self.scale


def factor_shape(groups: int, dim: int, split_dim: int) -> tuple[int, int, int]:
    """Shape ``(groups * n_blocks, size, size)`` of the factor of ``groups`` matrices of ``dim`` rows."""
    size = min(dim, split_dim)
    return groups * block_count(dim, size), size, size


def conv_padding(size: tuple, pad_mode: str, pad, kernel: tuple, stride: tuple, dilation: tuple) -> tuple:
    """Zeros added ``(top, bottom, left, right)`` by MindSpore's Conv2d to an image of ``size`` (height, width)."""
    if pad_mode == "valid":
        return 0, 0, 0, 0
    if pad_mode == "pad":
        return (pad, pad, pad, pad) if isinstance(pad, int) else tuple(pad)
    padding = ()
    for axis in (0, 1):
        outputs = -(-size[axis] // stride[axis])
        extent = dilation[axis] * (kernel[axis] - 1) + 1
        total = max((outputs - 1) * stride[axis] + extent - size[axis], 0)
        padding = padding + (total // 2, total - total // 2)
    return padding


def block_count(dim: int, split_dim: int) -> int:
    """Diagonal blocks of a matrix of ``dim`` rows."""
    return -(-dim // split_dim)


def split_columns(rows: Tensor, groups: int, split_dim: int) -> Tensor:
    """``(n_rows, groups * dim)`` to ``(n_rows, groups * n_blocks, size)``, zero-padded."""
    n_rows, width = rows.shape
    dim = width // groups
    size = min(dim, split_dim)
    n_blocks = block_count(dim, size)
    if n_blocks * size != dim:
        rows = ops.pad(rows.reshape(n_rows, groups, dim), (0, n_blocks * size - dim))
    return rows.reshape(n_rows, groups * n_blocks, size)


def split_features(maps: Tensor, groups: int, split_dim: int) -> Tensor:
    """``(n, groups * dim, positions)`` to ``(n, groups * n_blocks, size, positions)``, zero-padded."""
    n, width, positions = maps.shape
    dim = width // groups
    size = min(dim, split_dim)
    n_blocks = block_count(dim, size)
    if n_blocks * size != dim:
        maps = ops.pad(maps.reshape(n, groups, dim, positions), (0, 0, 0, n_blocks * size - dim))
    return maps.reshape(n, groups * n_blocks, size, positions)
