"""Embedding tables: A is the diagonal of how often each id occurred, never a matrix."""
from __future__ import annotations

import mindspore as ms
from mindspore import Tensor, nn, ops

from thor.backends.base import Backend
from thor.layers.base import (MEASUREMENT_SCALE, Measure, NotTapped, Tap, TapOptions, TappedLayer, create_factors,
                              install)


class EmbeddingMeasure(Measure):
    """A = id counts (a vector; divided by the batch size later) and G = d'd / rows."""

    def __init__(self, backend: Backend, options: TapOptions, vocab_size: int):
        super().__init__(options)
        self.covariance = backend.covariance_operator(1, options.block_size, MEASUREMENT_SCALE, options.gate_places[1])
        self.squares = backend.squares_operator()
        self.vocab_size = vocab_size

    def input_factor(self, x, told):
        return count_ids(self.reshape(x, (-1,)), self.vocab_size) * (MEASUREMENT_SCALE * self.subsample)

    def output_factor(self, d, told):
        return self.covariance(self.reshape(d, (-1, d.shape[-1])), told)

    def input_trace(self, x, d):
        return Tensor([float(d.size // d.shape[-1] * self.subsample)], ms.float32)  # ids looked up

    def output_trace(self, d):
        return self.squares(d) * (d.shape[-1] / d.size)


class OneHotMeasure(EmbeddingMeasure):
    """The same factors from one-hot rows."""

    def input_factor(self, x, told):
        return self.cast(x, ms.float32).sum(axis=0) * (MEASUREMENT_SCALE * self.subsample)  # (vocab_size,)


class GatherTap(Tap):
    """``gather(table, ids, axis)`` with its factors."""

    def construct(self, table, ids, axis):
        return self.observe(ids, self.operator(table, ids, axis))


def count_ids(ids, vocab_size: int):
    """Occurrences ``(vocab_size,)`` of each id in ``ids`` (n,)."""
    return ops.unsorted_segment_sum(ops.ones(ids.shape, ms.float32), ids.astype(ms.int32), vocab_size)


def tap_embedding(cell: nn.Cell, backend: Backend, options: TapOptions,
                  shared: TappedLayer | None = None) -> TappedLayer:
    """Tap the table look-up of an Embedding cell, as a gather or as a product with one-hot rows."""
    attribute = "array_mul" if cell.use_one_hot else "gather"
    operator = getattr(cell, attribute, None)
    if operator is None:
        raise NotTapped(f"{type(cell).__name__} has no {attribute!r} operator to tap")
    rows, columns = cell.embedding_table.shape
    layer = shared or TappedLayer(
        "embedding", cell.embedding_table, None,
        create_factors(cell.embedding_table, a=(rows,), g=options.block_shape(1, columns)), (1, rows, columns))
    if cell.use_one_hot:
        tap = Tap(operator, OneHotMeasure(backend, options, rows), layer.factors)
    else:
        tap = GatherTap(operator, EmbeddingMeasure(backend, options, rows), layer.factors)
    layer.taps.append(install(cell, attribute, tap))
    return layer
