"""Convolutions in two dimensions and one: every padding, stride, dilation and group."""
from __future__ import annotations

from collections.abc import Sequence

import mindspore as ms
from mindspore import nn

from thor.backends.geometry import ConvGeometry
from thor.layers.base import LayerContext, NotTapped, register_layer, require_operator
from thor.layers.kronecker import KroneckerLayer
from thor.layers.tap import MEASUREMENT_SCALE, Measure, Tap


class ConvMeasure(Measure):
    """A = P'P / (N HW) over im2col rows P, and G = d'd / (N HW), per group.

    Source: Grosse & Martens 2016, section 3, whose Omega is HW A.
    """

    def __init__(self, context: LayerContext, geometry: ConvGeometry, groups: int, append_one: bool):
        super().__init__(context)
        backend, block_size = context.backend, context.options.block_size
        column_a, column_g = context.measured_columns
        self.covariance_a = backend.covariance_of_patches_operator(geometry, groups, block_size, append_one,
                                                                   MEASUREMENT_SCALE, column_a)
        self.covariance_g = backend.covariance_of_maps_operator(groups, block_size, MEASUREMENT_SCALE, column_g)
        self.squares_of_patches, self.squares = backend.squares_operator(geometry), backend.squares_operator()
        self.ones = float(groups * append_one)

    def input_factor(self, x, statistics):
        return self.covariance_a(self.cast(x, ms.float32), statistics)

    def output_factor(self, d, statistics):
        return self.covariance_g(self.reshape(d, (d.shape[0], d.shape[1], -1)), statistics)

    def input_trace(self, x, d):
        return self.squares_of_patches(self.cast(x, ms.float32)) / (d.shape[0] * d.shape[2] * d.shape[3]) + self.ones

    def output_trace(self, d):
        return self.squares(d) / (d.shape[0] * d.shape[2] * d.shape[3])

    def positions(self, y):
        return float(y.shape[2] * y.shape[3])


@register_layer(nn.Conv1d)
@register_layer(nn.Conv2d)
class ConvLayer(KroneckerLayer):
    """A Conv2d or Conv1d cell; MindSpore's Conv1d is a Conv2d over images of height 1."""

    operators = ("conv2d",)

    def __init__(self, cells: Sequence[nn.Cell], context: LayerContext):
        for cell in cells:
            require_operator(cell, "conv2d")
            if getattr(cell, "data_format", "NCHW") != "NCHW":
                raise NotTapped(f"data_format={cell.data_format}; only NCHW is preconditioned")
            if _walk_of(cell.conv2d) != _walk_of(cell):
                raise NotTapped(f"the conv2d of {type(cell).__name__} has another kernel, stride, dilation, group or "
                                "padding than the cell")
            if (cell.group, cell.in_channels) != (cells[0].group, cells[0].in_channels):
                raise NotTapped("convolutions of other groups share the weight")
        cell, kernel = cells[0], pair(cells[0].kernel_size)
        groups = cell.group
        columns = cell.in_channels // groups * kernel[0] * kernel[1]
        super().__init__(cells, context, (groups, cell.out_channels // groups, columns))

    def tapped(self, cell: nn.Cell) -> tuple[str, type[Tap], nn.Cell]:
        padding = cell.padding if isinstance(cell.padding, int) else tuple(cell.padding)
        geometry = ConvGeometry(pair(cell.kernel_size), pair(cell.stride), pair(cell.dilation), cell.pad_mode, padding)
        return "conv2d", Tap, self.context.measure(ConvMeasure, geometry, cell.group, self.bias is not None)


def pair(value) -> tuple:
    """``3`` or ``(3, 3)`` or ``(1, 1, 3, 3)`` to ``(3, 3)``."""
    return (value, value) if isinstance(value, int) else tuple(value[-2:])


def _walk_of(convolution) -> list:
    """How a Conv2d cell or primitive goes over an image, as far as it says so."""
    values = [getattr(convolution, name, None) for name in ("kernel_size", "stride", "dilation")]
    mode = getattr(convolution, "pad_mode", None)
    zeros = getattr(convolution, "pad", getattr(convolution, "padding", 0))
    zeros = ((zeros,) * 4 if isinstance(zeros, int) else tuple(zeros)) if mode == "pad" else None
    return [*(value if value is None else pair(value) for value in values), getattr(convolution, "group", None), mode,
            zeros]
