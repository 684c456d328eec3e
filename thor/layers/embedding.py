"""Embedding tables, whose A is the diagonal of how often each id occurred, and decoders that share a table.

The gradient of the table ``(vocab_size, width)`` is a sum of row events. A look-up of id j adds d to row j, where d is
the gradient at its output; a decoded row h adds delta_j h to every row j, where delta is the gradient of the logits.
Each use is told as K-FAC tells it: how often a row is touched (a diagonal over the vocabulary) times the second moment
of what is added to it. For the decoder, with N rows and v the mean of delta^2 over them,

    A = N v / |v|_1,    G = |v|_1 h'h / N,

whose product is the K-FAC factor of the Dense layer with its vocabulary side cut to the diagonal. As for every shared
weight, the factors of the uses are averaged.
"""
from __future__ import annotations

from collections.abc import Sequence

import mindspore as ms
from mindspore import Parameter, Tensor, nn, ops
from mindspore.common.initializer import initializer

from thor.backends.preconditioning import Product
from thor.damping import damped_diagonal
from thor.layers.base import (
    Factor,
    Inverse,
    Layer,
    LayerContext,
    register_layer,
    require_operator,
    running_average,
)
from thor.layers.batch import BatchFacts
from thor.layers.dense import DenseLayer
from thor.layers.tap import MEASUREMENT_SCALE, Measure, Tap


class EmbeddingMeasure(Measure):
    """A = id counts (a vector; divided by the batch size later) and G = d'd / rows."""

    def __init__(self, context: LayerContext, vocab_size: int):
        super().__init__(context)
        self.covariance = context.backend.covariance_operator(1, context.options.block_size, MEASUREMENT_SCALE,
                                                              context.measured_columns[1])
        self.squares = context.backend.squares_operator()
        self.vocab_size = vocab_size

    def input_factor(self, x, statistics):
        ids = self.reshape(x, (-1,))
        counts = ops.unsorted_segment_sum(ops.ones(ids.shape, ms.float32), ids.astype(ms.int32), self.vocab_size)
        return counts * (MEASUREMENT_SCALE * self.subsample)

    def output_factor(self, d, statistics):
        return self.covariance(self.reshape(d, (-1, d.shape[-1])), statistics)

    def input_trace(self, x, d):
        return Tensor([float(d.size // d.shape[-1] * self.subsample)], ms.float32)  # ids looked up

    def output_trace(self, d):
        return self.squares(d) * (d.shape[-1] / d.size)


class OneHotMeasure(EmbeddingMeasure):
    """The same factors from one-hot rows."""

    def input_factor(self, x, statistics):
        return self.cast(x, ms.float32).sum(axis=0) * (MEASUREMENT_SCALE * self.subsample)  # (vocab_size,)


class DecoderMeasure(Measure):
    """Factors of a decoder in the shapes of the embedding's: A ``(vocab_size,)``, G blocks of ``width``."""

    def __init__(self, context: LayerContext):
        super().__init__(context)
        self.covariance = context.backend.covariance_operator(1, context.options.block_size, MEASUREMENT_SCALE,
                                                              context.measured_columns[1])
        self.squares = context.backend.squares_operator()

    def measured(self, x, y, d, factor_a, factor_g, gates):
        rows, d = (x, d) if self.subsample == 1 else (x[::self.subsample], d[::self.subsample])
        rows, d = self.cast(rows, ms.float32), self.cast(d, ms.float32)
        n = d.shape[0]  # (n, width), (n, vocab_size)
        squares = (d * d).sum(axis=0) / n  # (vocab_size,)
        total = squares.sum().reshape(1)
        share = squares / ops.maximum(total, Tensor(1e-38, ms.float32))
        trace_g = total * self.squares(rows) / n if self.traced else None
        decoded = n * self.subsample
        row = self.gate(gates, 1.0, float(x.shape[0]), Tensor([float(decoded)], ms.float32), trace_g)
        return (share * (decoded * MEASUREMENT_SCALE), self.covariance(rows, row) * total, row * MEASUREMENT_SCALE)


class GatherTap(Tap):
    """``gather(table, ids, axis)`` with its factors."""

    weight_argument = 0

    def construct(self, table, ids, axis):
        y = self.operator(table, ids, axis)
        return self.observe(ids, table, y) if axis == 0 else y


@register_layer(nn.Embedding)
class EmbeddingLayer(Layer):
    """An Embedding cell, as a gather or as a product with one-hot rows; Dense cells may decode with its table."""

    weight_name = "embedding_table"
    shares_with = (DenseLayer,)
    other_operators = {"gather": 0, "array_mul": 1}
    counts_samples = True
    # MindSpore's BERT reads the table of its look-up cell and decodes with it; published with the look-ups' factors
    measures_every_use = False

    def __init__(self, cells: Sequence[nn.Cell], context: LayerContext):
        rows, columns = cells[0].embedding_table.shape
        super().__init__(cells, context, (1, rows, columns))
        for cell in cells:
            require_operator(cell, self.attribute(cell))
        self.create_factor_parameters(a=(rows,), g=context.block_shape(1, columns))
        self.factors = (Factor("g", self.factor_parameters["g"], columns),)

    def attribute(self, cell: nn.Cell) -> str:
        """Where a cell keeps the operator that uses the table."""
        if not hasattr(cell, self.weight_name):
            return "matmul"
        return "array_mul" if cell.use_one_hot else "gather"

    def tapped(self, cell: nn.Cell) -> tuple[str, type[Tap], nn.Cell]:
        attribute, rows = self.attribute(cell), self.matrix[1]
        if attribute == "matmul":
            return attribute, Tap, self.context.measure(DecoderMeasure)
        if attribute == "array_mul":
            return attribute, Tap, self.context.measure(OneHotMeasure, rows)
        return attribute, GatherTap, self.context.measure(EmbeddingMeasure, rows)

    def create_preconditioner(self, batch: BatchFacts, *inverses: Inverse) -> nn.Cell:
        return EmbeddingPreconditioner(self, *inverses)


class EmbeddingPreconditioner(nn.Cell):
    """``g_row / (A_row + sqrt(lam))``, then ``G^-1``; it refreshes the diagonal A itself."""

    def __init__(self, layer: EmbeddingLayer, inverse_g: Inverse):
        super().__init__(auto_prefix=False)
        self.matrix = layer.matrix
        options = layer.context.options
        self.average, self.relative = options.running_average, options.relative_damping
        self.factor_a = layer.factor_parameters["a"]
        if self.average > 0:
            self.refreshes = Parameter(Tensor(0.0, ms.float32), name=f"refreshes_a.{layer.name}", requires_grad=False)
        self.inverse_a = Parameter(initializer("ones", self.factor_a.shape, ms.float32),
                                   name=f"inverse_a.{layer.name}", requires_grad=False)
        self.inverses_g = inverse_g.parameter
        self.precondition = layer.context.backend.precondition_columns_operator(self.matrix, inverse_g.blocks)
        self.product_of_layer = Product(self.matrix, (layer.weight.shape,), inverse_g, None, self.inverse_a)

    def product(self) -> Product:
        """What :meth:`construct` computes: the columns' factor is G here, and A a diagonal of the rows."""
        return self.product_of_layer

    def refresh(self, measurements, calls, samples, wanted, damping):
        """Refresh A, where ``wanted`` ``()`` is 1.0; it is kept as it was where not finite.

        Args:
            measurements: one tensor, id counts ``(vocab_size,)`` summed over ``calls`` ``()`` of ``samples`` ``()``.
        """
        a = measurements[0] / calls / samples
        if self.average > 0:
            a = running_average(self.factor_a, a, self.average, self.refreshes + 0.0)
            ops.assign(self.refreshes, self.refreshes + wanted)
        wanted = ops.logical_and(ops.isfinite(a), wanted > 0)
        if self.average > 0:
            ops.assign(self.factor_a, ops.where(wanted, a, self.factor_a))
        damped = damped_diagonal(a, damping, self.relative)
        return ops.assign(self.inverse_a, ops.where(wanted, 1.0 / damped, self.inverse_a))

    def construct(self, gradients, damping):
        # tiled: a broadcast product on CPU keeps two indices of eight bytes for every element of the result
        scales = ops.tile(self.inverse_a.reshape(-1, 1), (1, gradients[0].shape[1]))
        rows = gradients[0] * scales  # (vocab_size, embedding_size)
        product = self.precondition(rows.reshape(self.matrix), self.inverses_g)
        return (product.reshape(gradients[0].shape),)
