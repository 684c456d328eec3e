"""A Dense layer that decodes with the table of an Embedding: both uses shape one pair of factors.

The gradient of the table ``(vocab_size, width)`` is a sum of row events. A look-up of id j adds d to row j, where d is
the gradient at its output; a decoded row h adds delta_j h to every row j, where delta is the gradient of the logits.
Each use is told as K-FAC tells it: how often a row is touched (a diagonal over the vocabulary) times the second moment
of what is added to it. For the decoder, with N rows and v the mean of delta^2 over them,

    A = N v / |v|_1,    G = |v|_1 h'h / N,

whose product is the K-FAC factor of the Dense layer with its vocabulary side cut to the diagonal. As for every shared
weight, the factors of the uses are averaged.
"""
from __future__ import annotations

import mindspore as ms
from mindspore import Tensor, nn, ops

from thor.backends.base import Backend
from thor.layers.base import MEASUREMENT_SCALE, Measure, NotTapped, Tap, TapOptions, TappedLayer, install


class TiedDenseMeasure(Measure):
    """Factors of the decoder in the shapes of the embedding's: A ``(vocab_size,)``, G blocks of ``width``."""

    def __init__(self, backend: Backend, options: TapOptions):
        super().__init__(options)
        self.covariance = backend.covariance_operator(1, options.block_size, MEASUREMENT_SCALE, options.gate_places[1])
        self.squares = backend.squares_operator()

    def bprop(self, x, y, factor_a, factor_g, statistics, gates, out, dout):
        rows, d = self.cast(self.sample(x), ms.float32), self.cast(self.sample(dout), ms.float32)
        n = d.shape[0]  # (n, width), (n, vocab_size)
        squares = (d * d).sum(axis=0) / n  # (vocab_size,)
        total = squares.sum().reshape(1)
        share = squares / ops.maximum(total, Tensor(1e-38, ms.float32))
        trace_g = total * self.squares(rows) / n if self.traced else None
        decoded = n * self.subsample
        told = self.gate(gates, 1.0, Tensor([float(decoded)], ms.float32), trace_g)
        return (self.zeros_like(x), dout, share * (decoded * MEASUREMENT_SCALE), self.covariance(rows, told) * total,
                told * MEASUREMENT_SCALE, self.zeros_like(gates))


def tap_tied_dense(cell: nn.Cell, backend: Backend, options: TapOptions, shared: TappedLayer) -> TappedLayer:
    """Tap the matrix product of a Dense cell whose weight is the table of ``shared``, an embedding's layer."""
    if getattr(cell, "matmul", None) is None:
        raise NotTapped(f"{type(cell).__name__} has no 'matmul' operator to tap")
    shared.taps.append(install(cell, "matmul", Tap(cell.matmul, TiedDenseMeasure(backend, options), shared.factors)))
    return shared
