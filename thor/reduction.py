"""Gradients averaged over ranks, and measurements with them.

The average of inverses is not the inverse of the average: what ranks exchange are the measured factors. Sums are
enough, because every factor is divided by its count of calls, which is summed with it. A symmetric block is sent as
its upper triangle, and the layers of a group (``split_indices``) go in one all-reduce.
"""
from __future__ import annotations

from collections.abc import Sequence

import mindspore as ms
import numpy as np
from mindspore import ParameterTuple, Tensor, nn, ops

from thor.distribution import default_split, groups_of, world
from thor.maps import call_each, cut, pick

_reduced = ops.MultitypeFuncGraph("reduced")
_unpacked = ops.MultitypeFuncGraph("unpacked")


@_reduced.register("Function", "Function", "Tuple")
def _reduce(concat, all_reduce, vectors):
    """One vector with the sums of a group."""
    return all_reduce(concat(vectors))


@_unpacked.register("Tuple", "Function", "Tuple")
def _unpack(totals, unpack, place):
    """A measurement from the vector of its group."""
    group, first, count = place
    return unpack(totals[group][first:first + count])


class GradientReducer(nn.Cell):
    """Gradients averaged over ranks by MindSpore, THOR's measurements summed by :class:`FactorReducer`.

    In the stale graph nothing is measured, and nothing of it sent.

    Args:
        indices: of the parameters of ``optimizer`` that are differentiated.
    """

    def __init__(self, optimizer, indices: tuple[int, ...]):
        super().__init__(auto_prefix=False)
        self.optimizer = optimizer
        layers = optimizer.factor_places() if hasattr(optimizer, "factor_places") else []
        factors = [place for places in layers for place in places]
        weights = [place for place in indices if place not in set(factors)]
        self.of_weights = tuple(indices.index(place) for place in weights)
        self.of_factors = tuple(indices.index(place) for place in factors if place in set(indices))
        self.reduce_weights = nn.DistributedGradReducer(ParameterTuple([optimizer.parameters[i] for i in weights]),
                                                      ms.get_auto_parallel_context("gradients_mean"), world()[1])
        if self.of_factors:
            shapes = [[optimizer.parameters[i].shape for i in places] for places in layers]
            self.reduce_factors = FactorReducer(shapes, optimizer.split_indices)
        order = {position: place for place, position in enumerate(self.of_weights + self.of_factors)}
        self.order = tuple(order[position] for position in range(len(indices)))

    def construct(self, gradients):
        reduced = self.reduce_weights(pick(gradients, self.of_weights))
        if self.of_factors:
            measurements = pick(gradients, self.of_factors)
            reduced = reduced + (self.reduce_factors(measurements) if self.optimizer.measuring else measurements)
        return pick(reduced, self.order)


class FactorReducer(nn.Cell):
    """Sums measurements over all ranks, one all-reduce for each group of layers.

    Args:
        shapes: shapes of the measurements of each layer; three axes are symmetric blocks.
        split_indices: last layer of each group; None cuts by bytes.
    """

    def __init__(self, shapes: Sequence[Sequence[tuple]], split_indices: Sequence[int] | None = None):
        super().__init__(auto_prefix=False)
        packing = {tuple(shape): Packing(shape) for layer in shapes for shape in layer}
        packed = [[packing[tuple(shape)] for shape in layer] for layer in shapes]
        if split_indices is None:
            split_indices = default_split([4 * sum(part.count for part in layer) for layer in packed])
        groups = groups_of(split_indices, len(shapes))
        firsts = np.cumsum([0] + [len(layer) for layer in shapes]).tolist()
        self.groups = tuple((firsts[group.start], firsts[group.stop]) for group in groups)
        self.all_reduces = tuple(AllReduce(i) for i in range(len(groups)))
        self.packs = tuple(part.pack for layer in packed for part in layer)
        self.unpacks = tuple(part.unpack for layer in packed for part in layer)
        places = []  # (group, first number, numbers) of each measurement
        for i, group in enumerate(groups):
            counts = [part.count for layer in group for part in packed[layer]]
            places += [(i, first, count) for first, count in zip(np.cumsum([0, *counts]).tolist(), counts)]
        self.places = tuple(places)
        self.counts = tuple(count for _, _, count in places)
        self.map, self.concat = ops.Map(), ops.Concat()

    def construct(self, measurements):
        """The sums of ``measurements``, all layers' one after the other, in the same order and shapes."""
        vectors = call_each(self.packs, measurements)
        totals = self.map(ops.partial(_reduced, self.concat), self.all_reduces, cut(vectors, self.groups))
        return self.map(ops.partial(_unpacked, totals), self.unpacks, self.places)


class AllReduce(nn.Cell):
    """A sum over all ranks, fused with nothing else."""

    def __init__(self, group: int):
        super().__init__(auto_prefix=False)
        self.all_reduce = ops.AllReduce()
        self.all_reduce.add_prim_attr("fusion", 100 + group)

    def construct(self, vector):
        return self.all_reduce(vector)


class Packing:
    """Measurements of one shape as vectors and back; symmetric blocks ``(n, size, size)`` as their upper triangles."""

    def __init__(self, shape: tuple):
        self.count = packed_count(shape)
        if len(shape) == 3:
            self.pack, self.unpack = PackTriangles(shape[-1]), UnpackTriangles(tuple(shape))
        else:
            self.pack, self.unpack = Flatten(), Unflatten(tuple(shape))


def packed_count(shape: tuple) -> int:
    """Numbers sent for a measurement of ``shape``."""
    return shape[0] * (shape[1] * (shape[1] + 1) // 2) if len(shape) == 3 else int(np.prod(shape))


class PackTriangles(nn.Cell):
    """Symmetric blocks ``(n, size, size)`` as the vector of their upper triangles, ``size (size + 1) / 2`` each."""

    def __init__(self, size: int):
        super().__init__(auto_prefix=False)
        rows, columns = np.triu_indices(size)
        self.size, self.upper = size, Tensor(rows * size + columns, ms.int32)

    def construct(self, blocks):
        return ops.gather(blocks.reshape(-1, self.size * self.size), self.upper, 1).reshape(-1)


class UnpackTriangles(nn.Cell):
    """Blocks of ``shape`` from the vector of their upper triangles."""

    def __init__(self, shape: tuple):
        super().__init__(auto_prefix=False)
        rows, columns = np.triu_indices(shape[-1])
        place = np.zeros(shape[1:], np.int32)
        place[rows, columns] = place[columns, rows] = np.arange(len(rows))
        self.shape, self.place = shape, Tensor(place.reshape(-1))

    def construct(self, vector):
        return ops.gather(vector.reshape(self.shape[0], -1), self.place, 1).reshape(self.shape)


class Flatten(nn.Cell):
    """A tensor as a vector."""

    def construct(self, measurement):
        return measurement.reshape(-1)


class Unflatten(nn.Cell):
    """A vector as a tensor of ``shape``."""

    def __init__(self, shape: tuple):
        super().__init__(auto_prefix=False)
        self.shape = shape

    def construct(self, vector):
        return vector.reshape(self.shape)
