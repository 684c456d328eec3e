"""Two-dimensional convolutions: every padding, stride, dilation and group."""
from __future__ import annotations

import mindspore as ms
from mindspore import nn

from thor.backends.base import Backend
from thor.backends.geometry import ConvGeometry
from thor.layers.base import (MEASUREMENT_SCALE, Measure, NotTapped, Tap, TapOptions, TappedLayer, create_factors,
                              install, shared_measure)


class ConvMeasure(Measure):
    """A = P'P / (N HW) over im2col rows P, and G = d'd / (N HW) (Grosse & Martens 2016), per group."""

    def __init__(self, backend: Backend, options: TapOptions, geometry: ConvGeometry, groups: int, append_one: bool):
        super().__init__(options)
        split_dim, (place_a, place_g) = options.block_size, options.gate_places
        self.covariance_a = backend.covariance_of_patches_operator(geometry, groups, split_dim, append_one,
                                                                   MEASUREMENT_SCALE, place_a)
        self.covariance_g = backend.covariance_of_maps_operator(groups, split_dim, MEASUREMENT_SCALE, place_g)
        self.squares_of_patches, self.squares = backend.squares_operator(geometry), backend.squares_operator()
        self.ones = float(groups * append_one)

    def input_factor(self, x, told):
        return self.covariance_a(self.cast(x, ms.float32), told)

    def output_factor(self, d, told):
        return self.covariance_g(self.reshape(d, (d.shape[0], d.shape[1], -1)), told)

    def input_trace(self, x, d):
        return self.squares_of_patches(self.cast(x, ms.float32)) / (d.shape[0] * d.shape[2] * d.shape[3]) + self.ones

    def output_trace(self, d):
        return self.squares(d) / (d.shape[0] * d.shape[2] * d.shape[3])

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
    padding = cell.padding if isinstance(cell.padding, int) else tuple(cell.padding)
    geometry = ConvGeometry(kernel, _pair(cell.stride), _pair(cell.dilation), cell.pad_mode, padding)
    kind = (geometry, groups, layer.bias is not None)
    measure = shared_measure(backend, (ConvMeasure, options, *kind), lambda: ConvMeasure(backend, options, *kind))
    layer.taps.append(install(cell, "conv2d", Tap(operator, measure, layer.factors)))
    return layer


def _pair(value) -> tuple:
    """``3`` or ``(3, 3)`` or ``(1, 1, 3, 3)`` to ``(3, 3)``."""
    return (value, value) if isinstance(value, int) else tuple(value[-2:])
