"""Dense layers: any number of leading axes, any activation, any subclass that multiplies with ``self.matmul``."""
from __future__ import annotations

import mindspore as ms
from mindspore import nn, ops

from thor.backends.base import Backend
from thor.layers.base import (MEASUREMENT_SCALE, Measure, NotTapped, Tap, TapOptions, TappedLayer, create_factors,
                              install, shared_measure)


class DenseMeasure(Measure):
    """A = x'x / N and G = d'd / N over the N rows a Dense layer multiplies (batch x sequence for 3-D input)."""

    def __init__(self, backend: Backend, options: TapOptions, append_one: bool):
        super().__init__(options)
        self.covariance_a, self.covariance_g = (
            backend.covariance_operator(1, options.block_size, MEASUREMENT_SCALE, place)
            for place in options.gate_places)
        self.squares = backend.squares_operator()
        self.append_one = append_one

    def input_factor(self, x, told):
        rows = self.cast(x, ms.float32)  # (n_rows, in_channels)
        if self.append_one:
            rows = ops.concat((rows, ops.ones((rows.shape[0], 1), ms.float32)), axis=1)
        return self.covariance_a(rows, told)

    def output_factor(self, d, told):
        return self.covariance_g(d, told)

    def input_trace(self, x, d):
        return self.squares(self.cast(x, ms.float32)) / x.shape[0] + float(self.append_one)

    def output_trace(self, d):
        return self.squares(d) / d.shape[0]


def tap_dense(cell: nn.Cell, backend: Backend, options: TapOptions, shared: TappedLayer | None = None) -> TappedLayer:
    """Tap the matrix product of a Dense cell; ``shared`` is the layer that already owns the same weight."""
    operator = getattr(cell, "matmul", None)
    if operator is None:
        raise NotTapped(f"{type(cell).__name__} has no 'matmul' operator to tap")
    rows, columns = cell.weight.shape
    bias = cell.bias if options.fold_bias and cell.has_bias and cell.bias.requires_grad else None
    layer = shared or TappedLayer(
        "kronecker", cell.weight, bias,
        create_factors(cell.weight, a=options.block_shape(1, columns + (bias is not None)),
                       g=options.block_shape(1, rows)),
        (1, rows, columns))
    append_one = layer.bias is not None
    measure = shared_measure(backend, (DenseMeasure, options, append_one),
                             lambda: DenseMeasure(backend, options, append_one))
    layer.taps.append(install(cell, "matmul", Tap(operator, measure, layer.factors)))
    return layer
