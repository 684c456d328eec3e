"""Two-dimensional convolutions: every padding, stride, dilation and group."""
from __future__ import annotations

import mindspore as ms
from mindspore import nn, ops

from thor.backends.base import Backend
from thor.layers.base import Measure, NotTapped, Tap, TapOptions, TappedLayer, create_factors, install


class ConvMeasure(Measure):
    """A = P'P / (N HW) over im2col rows P, and G = d'd / (N HW) (Grosse & Martens 2016), per group."""

    def __init__(self, backend: Backend, options: TapOptions, cell: nn.Conv2d):
        super().__init__(backend, options)
        self.groups = cell.group
        self.kernel, self.stride, self.dilation = _pair(cell.kernel_size), _pair(cell.stride), _pair(cell.dilation)
        self.pad_mode, self.pad = cell.pad_mode, cell.padding

    def input_factor(self, x):
        images = x.astype(ms.float32)
        padding = conv_padding(images.shape[2:], self.pad_mode, self.pad, self.kernel, self.stride, self.dilation)
        rows = self.backend.patches(images, self.kernel, self.stride, padding, self.dilation)
        if self.fold_bias:
            n, width, positions = rows.shape
            rows = rows.reshape(n, self.groups, width // self.groups, positions)
            rows = ops.concat((rows, ops.ones((n, self.groups, 1, positions), ms.float32)), axis=2)
            rows = rows.reshape(n, width + self.groups, positions)
        return self.backend.covariance_of_maps(rows, self.groups, self.split_dim)

    def output_factor(self, d):
        n, channels, height, width = d.shape
        return self.backend.covariance_of_maps(d.reshape(n, channels, height * width), self.groups, self.split_dim)

    def positions(self, y):
        return float(y.shape[2] * y.shape[3])


def tap_conv2d(cell: nn.Cell, backend: Backend, options: TapOptions, shared: TappedLayer | None = None) -> TappedLayer:
    """Tap the convolution of a Conv2d cell."""
    operator = getattr(cell, "conv2d", None)
    if operator is None:
        raise NotTapped(f"{type(cell).__name__} has no 'conv2d' operator to tap")
    if cell.data_format != "NCHW":
        raise NotTapped(f"data_format={cell.data_format}; only NCHW is preconditioned")
    groups, rows = cell.group, cell.out_channels // cell.group
    kernel = _pair(cell.kernel_size)
    columns = cell.in_channels // groups * kernel[0] * kernel[1]
    bias = cell.bias if options.fold_bias and cell.has_bias and cell.bias.requires_grad else None
    layer = shared or TappedLayer(
        "kronecker", cell.weight, bias,
        create_factors(cell.weight, a=options.block_shape(groups, columns + (bias is not None)),
                       g=options.block_shape(groups, rows)),
        (groups, rows, columns))
    measure = ConvMeasure(backend, options, cell)
    measure.fold_bias = layer.bias is not None
    layer.taps.append(install(cell, "conv2d", Tap(operator, measure, layer.factors)))
    return layer


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


def _pair(value) -> tuple:
    """``3`` or ``(3, 3)`` or ``(1, 1, 3, 3)`` to ``(3, 3)``."""
    return (value, value) if isinstance(value, int) else tuple(value[-2:])
