"""Dense layers: any number of leading axes, any activation, any subclass that multiplies with ``self.matmul``."""
from __future__ import annotations

from collections.abc import Sequence

import mindspore as ms
from mindspore import nn, ops

from thor.layers.base import LayerContext, NotTapped, register_layer, require_operator
from thor.layers.kronecker import KroneckerLayer
from thor.layers.tap import MEASUREMENT_SCALE, Measure, Tap


class DenseMeasure(Measure):
    """A = x'x / N and G = d'd / N over the N rows a Dense layer multiplies (batch x sequence for 3-D input).

    Source: Martens & Grosse 2015, section 3; the mean over positions is THOR's published convention.
    """

    def __init__(self, context: LayerContext, append_one: bool):
        super().__init__(context)
        self.covariance_a, self.covariance_g = (
            context.backend.covariance_operator(1, context.options.block_size, MEASUREMENT_SCALE, column)
            for column in context.measured_columns)
        self.squares = context.backend.squares_operator()
        self.append_one = append_one

    def input_factor(self, x, statistics):
        rows = self.rows_of(self.cast(x, ms.float32))
        if self.append_one:
            rows = ops.concat((rows, ops.ones((rows.shape[0], 1), ms.float32)), axis=1)
        return self.covariance_a(rows, statistics)

    def output_factor(self, d, statistics):
        return self.covariance_g(self.rows_of(d), statistics)

    def input_trace(self, x, d):
        return self.squares(self.cast(x, ms.float32)) * (x.shape[-1] / x.size) + float(self.append_one)

    def output_trace(self, d):
        return self.squares(d) * (d.shape[-1] / d.size)

    def rows_of(self, x):
        """``(n_rows, channels)`` of an operator that takes more axes than two."""
        return x if len(x.shape) == 2 else self.reshape(x, (-1, x.shape[-1]))


@register_layer(nn.Dense)
class DenseLayer(KroneckerLayer):
    """A Dense cell, or one like it: ``weight`` (out, in), ``has_bias``, ``bias`` and ``matmul``."""

    operators = ("matmul",)

    def __init__(self, cells: Sequence[nn.Cell], context: LayerContext):
        for cell in cells:
            operator = getattr(cell, require_operator(cell, "matmul"))
            if getattr(operator, "transpose_a", False) or not getattr(operator, "transpose_b", True):
                raise NotTapped(f"the matmul of {type(cell).__name__} does not multiply with weight (out, in) "
                                "transposed")
        super().__init__(cells, context, (1, *cells[0].weight.shape))

    def tapped(self, cell: nn.Cell) -> tuple[str, type[Tap], nn.Cell]:
        return "matmul", Tap, self.context.measure(DenseMeasure, self.bias is not None)
