"""Operators a layer holds, made before compilation, out of a backend's own."""
from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from thor.backends.geometry import ConvGeometry, factor_shape, padding_in_graph


class CovarianceOperator(nn.Cell):
    """``Backend.covariance`` times a constant, with its arguments bound."""

    def __init__(self, backend, groups: int, split_dim: int, scale: float):
        super().__init__(auto_prefix=False)
        self.backend, self.groups, self.split_dim, self.scale = backend, groups, split_dim, scale

    def shape(self, x_shape: tuple) -> tuple:
        """Shape of the blocks for rows or maps of ``x_shape``."""
        return factor_shape(self.groups, x_shape[1] // self.groups, self.split_dim)

    def construct(self, rows, told):
        return self.backend.covariance(rows, self.groups, self.split_dim, self.scale)


class CovarianceOfMapsOperator(CovarianceOperator):
    """``Backend.covariance_of_maps`` times a constant, with its arguments bound."""

    def construct(self, maps, told):
        return self.backend.covariance_of_maps(maps, self.groups, self.split_dim, self.scale)


class CovarianceOfPatchesOperator(CovarianceOperator):
    """Unfold images, append a row of ones per group where a bias is folded, and take the second moment."""

    def __init__(self, backend, geometry: ConvGeometry, groups: int, split_dim: int, append_one: bool,
                 scale: float):
        super().__init__(backend, groups, split_dim, scale)
        self.kernel, self.stride, self.dilation = geometry.kernel, geometry.stride, geometry.dilation
        self.pad_mode, self.pad, self.append_one = geometry.pad_mode, geometry.pad, append_one

    def shape(self, x_shape):
        dim = x_shape[1] // self.groups * self.kernel[0] * self.kernel[1] + int(self.append_one)
        return factor_shape(self.groups, dim, self.split_dim)

    def construct(self, images, told):
        padding = padding_in_graph(images.shape[2:], self.pad_mode, self.pad, self.kernel, self.stride, self.dilation)
        rows = self.backend.patches(images, self.kernel, self.stride, padding, self.dilation)
        if self.append_one:
            n, width, positions = rows.shape
            rows = rows.reshape(n, self.groups, width // self.groups, positions)
            rows = ops.concat((rows, ops.ones((n, self.groups, 1, positions), ms.float32)), axis=2)
            rows = rows.reshape(n, width + self.groups, positions)
        return self.backend.covariance_of_maps(rows, self.groups, self.split_dim, self.scale)


class SkippingOperator(nn.Cell):
    """A covariance that is computed only where ``told[place]`` says so."""

    def __init__(self, operator: CovarianceOperator, place: int):
        super().__init__(auto_prefix=False)
        self.operator, self.place = operator, place

    def construct(self, x, told):
        if told[self.place] > 0:
            return self.operator(x, told)
        return ops.zeros(self.operator.shape(x.shape), ms.float32)


class SquaresOperator(nn.Cell):
    """The sum of squares of a tensor, ``(1,)``."""

    def construct(self, x):
        return (x * x).sum().reshape(1)


class SquaresOfPatchesOperator(nn.Cell):
    """The sum of squares of the im2col rows of images, ``(1,)``: every pixel counts once for each patch it is in."""

    def __init__(self, geometry: ConvGeometry):
        super().__init__(auto_prefix=False)
        self.kernel, self.stride, self.dilation = geometry.kernel, geometry.stride, geometry.dilation
        self.pad_mode, self.pad = geometry.pad_mode, geometry.pad
        self.window = Tensor(np.ones((1, 1, *geometry.kernel)), ms.float32)
        self.convolve = ops.Conv2D(1, geometry.kernel, stride=geometry.stride, dilation=geometry.dilation)

    def construct(self, images):
        top, bottom, left, right = padding_in_graph(images.shape[2:], self.pad_mode, self.pad, self.kernel,
                                                    self.stride, self.dilation)
        squares = (images * images).sum(axis=1, keepdims=True)  # (n, 1, height, width)
        if top + bottom + left + right > 0:
            squares = ops.pad(squares, (left, right, top, bottom))
        return self.convolve(squares, self.window).sum().reshape(1)


def part(blocks: Tensor, span: tuple[int, int]) -> Tensor:
    """``count`` blocks from ``first`` on, for a span ``(first, count)``."""
    first, count = span
    if count == blocks.shape[0]:
        return blocks
    return ops.Slice()(blocks, (first, 0, 0), (count, blocks.shape[1], blocks.shape[2]))
