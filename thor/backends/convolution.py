"""What a convolution's factors need beyond products: patches of images, and operators bound to a geometry."""
from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from thor.backends.geometry import ConvGeometry, factor_shape, padding_in_graph

_strided_slice = ops.StridedSlice()
_seen = ops.MultitypeFuncGraph("seen")


@_seen.register("Tensor", "Tuple", "Tuple")
def _see(images, strides, window):
    """What one place of a kernel sees."""
    return _strided_slice(images, window[0], window[1], strides)


def see(images, strides: tuple, windows: tuple) -> tuple:
    """What every window of a kernel sees of padded images, one after the other."""
    if len(windows) == 1:
        return (_strided_slice(images, windows[0][0], windows[0][1], strides),)
    return ops.Map()(ops.partial(_seen, images, strides), windows)


class CovarianceOfMapsOperator(nn.Cell):
    """``Backend.covariance_of_maps`` times a constant, with its arguments bound."""

    def __init__(self, backend, groups: int, split_dim: int, scale: float):
        super().__init__(auto_prefix=False)
        self.backend, self.groups, self.split_dim, self.scale = backend, groups, split_dim, scale

    def shape(self, x_shape: tuple) -> tuple:
        """Shape of the blocks for maps of ``x_shape``."""
        return factor_shape(self.groups, x_shape[1] // self.groups, self.split_dim)

    def construct(self, maps, statistics):
        return self.backend.covariance_of_maps(maps, self.groups, self.split_dim, self.scale)


class CovarianceOfPatchesOperator(CovarianceOfMapsOperator):
    """Unfold images, append a row of ones per group where a bias is folded, and take the second moment."""

    def __init__(self, backend, geometry: ConvGeometry, groups: int, split_dim: int, append_one: bool,
                 scale: float):
        super().__init__(backend, groups, split_dim, scale)
        self.kernel, self.stride, self.dilation = geometry.kernel, geometry.stride, geometry.dilation
        self.pad_mode, self.pad, self.append_one = geometry.pad_mode, geometry.pad, append_one

    def shape(self, x_shape):
        dim = x_shape[1] // self.groups * self.kernel[0] * self.kernel[1] + int(self.append_one)
        return factor_shape(self.groups, dim, self.split_dim)

    def construct(self, images, statistics):
        padding = padding_in_graph(images.shape[2:], self.pad_mode, self.pad, self.kernel, self.stride, self.dilation)
        rows = self.backend.patches(images, self.kernel, self.stride, padding, self.dilation)
        if self.append_one:
            n, width, positions = rows.shape
            rows = rows.reshape(n, self.groups, width // self.groups, positions)
            rows = ops.concat((rows, ops.ones((n, self.groups, 1, positions), ms.float32)), axis=2)
            rows = rows.reshape(n, width + self.groups, positions)
        return self.backend.covariance_of_maps(rows, self.groups, self.split_dim, self.scale)


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
