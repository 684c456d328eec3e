"""Several devices: factors averaged before they are inverted, inverses shared by the ranks that own them.

The average of inverses is not the inverse of the average: what ranks exchange are the measured factors. Sums are
enough, because every factor is divided by its count of calls, which is summed with it. A symmetric block is sent as
its upper triangle, and the layers of a group (``split_indices``) go in one all-reduce.

In the hybrid mode each block has an owner that inverts it and gives the result to all (Osawa et al. 2020, SP-NGD;
Pauloski et al. 2021, KAISA). Who owns what is a pure function of the blocks' costs.
"""
from __future__ import annotations

from typing import Sequence

import mindspore as ms
import numpy as np
from mindspore import ParallelMode, ParameterTuple, Tensor, nn, ops

from thor.checks import ArgumentError
from thor.maps import cut, pick

DEFAULT_GROUP_BYTES = 32 * 2 ** 20


def world() -> tuple[int, int]:
    """This process's rank and the number of ranks that train together; ``(0, 1)`` outside data parallelism.

    Raises:
        ValueError: another parallel mode, under which a rank does not see whole layers.
    """
    mode = ms.get_auto_parallel_context("parallel_mode")
    if mode == ParallelMode.STAND_ALONE:
        return 0, 1
    if mode != ParallelMode.DATA_PARALLEL:
        raise ValueError(f"parallel_mode={mode}; must be {ParallelMode.STAND_ALONE} or {ParallelMode.DATA_PARALLEL} "
                         "with THOR; set it with mindspore.set_auto_parallel_context")
    from mindspore.communication import get_group_size, get_rank

    return get_rank(), get_group_size()


def inverse_cost(size: int) -> float:
    """Relative cost of inverting a block of ``size`` rows."""
    return float(size) ** 3


def assign_owners(costs: Sequence[float], ranks: int) -> list[int]:
    """The rank that inverts each block: dearest first, each to the rank with the least to do so far.

    Args:
        costs: of each block.
        ranks: number of ranks.

    Returns:
        An owner for each block, the same on every rank; the busiest rank has at most 4/3 of the optimum
        (Graham 1969), and hardly more than the mean when blocks are many.
    """
    owners, loads = [0] * len(costs), [0.0] * ranks
    for block in sorted(range(len(costs)), key=lambda i: (-costs[i], i)):
        owners[block] = loads.index(min(loads))
        loads[owners[block]] += costs[block]
    return owners


def assign_block_owners(sizes: Sequence[int], counts: Sequence[int]) -> list[list[int]] | None:
    """Owners of the blocks of each batch, ``counts[i]`` of ``sizes[i]`` rows; None where a rank trains alone."""
    ranks = world()[1]
    if ranks == 1:
        return None
    costs = [inverse_cost(size) for size, count in zip(sizes, counts) for _ in range(count)]
    owners, ends = assign_owners(costs, ranks), np.cumsum([0, *counts]).tolist()
    return [owners[first:last] for first, last in zip(ends, ends[1:])]


def check_split_indices(split_indices, n_layers: int) -> tuple[int, ...] | None:
    """Strictly ascending layer indices at which fused reductions of factors are cut.

    Raises:
        ArgumentError: they are not, or reach beyond the layers with factors.
    """
    if split_indices is None:
        return None
    values = list(split_indices) if isinstance(split_indices, (list, tuple)) else []
    if not values or any(isinstance(v, bool) or not isinstance(v, (int, np.integer)) for v in values):
        raise ArgumentError(f"split_indices={split_indices!r}; must be a non-empty list of ints or None; "
                            "use e.g. [26, 53] for ResNet-50")
    if values[0] < 0 or any(b <= a for a, b in zip(values, values[1:])):
        raise ArgumentError(f"split_indices={split_indices!r}; must ascend strictly from >= 0; sort it, "
                            "without repeats")
    if values[-1] >= n_layers:
        raise ArgumentError(f"split_indices={split_indices!r}; must be below the {n_layers} layers with factors; "
                            f"use {n_layers - 1} as the last index")
    return tuple(int(v) for v in values)


def default_split(layer_bytes: Sequence[int], group_bytes: int = DEFAULT_GROUP_BYTES) -> tuple[int, ...]:
    """Indices of the last layer of each group, so that no group but one of a single layer exceeds ``group_bytes``."""
    ends, size = [], 0
    for layer, count in enumerate(layer_bytes):
        if size and size + count > group_bytes:
            ends.append(layer - 1)
            size = 0
        size += count
    return (*ends, len(layer_bytes) - 1) if layer_bytes else ()


def groups_of(split_indices: Sequence[int], n_layers: int) -> list[range]:
    """The layers of each fused reduction; a group ends with the layer a split index names."""
    ends = [index + 1 for index in split_indices if index + 1 < n_layers] + [n_layers]
    return [range(first, end) for first, end in zip([0, *ends[:-1]], ends)]


def packed_count(shape: tuple) -> int:
    """Numbers sent for a measurement of ``shape``."""
    return shape[0] * (shape[1] * (shape[1] + 1) // 2) if len(shape) == 3 else int(np.prod(shape))


class Packing:
    """Measurements of one shape as vectors and back; symmetric blocks ``(n, size, size)`` as their upper triangles."""

    def __init__(self, shape: tuple):
        self.count = packed_count(shape)
        if len(shape) == 3:
            self.pack, self.unpack = PackTriangles(shape[-1]), UnpackTriangles(tuple(shape))
        else:
            self.pack, self.unpack = Flatten(), Unflatten(tuple(shape))


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
        vectors = self.map(_packed, self.packs, measurements)
        totals = self.map(ops.partial(_reduced, self.concat), self.all_reduces, cut(vectors, self.groups))
        return self.map(ops.partial(_unpacked, totals), self.unpacks, self.places)


_packed = ops.MultitypeFuncGraph("packed")
_reduced = ops.MultitypeFuncGraph("reduced")
_unpacked = ops.MultitypeFuncGraph("unpacked")


@_packed.register("Function", "Tensor")
def _pack(pack, measurement):
    return pack(measurement)


@_reduced.register("Function", "Function", "Tuple")
def _reduce(concat, all_reduce, vectors):
    """One vector with the sums of a group."""
    return all_reduce(concat(vectors))


@_unpacked.register("Tuple", "Function", "Tuple")
def _unpack(totals, unpack, place):
    """A measurement from the vector of its group."""
    group, first, count = place
    return unpack(totals[group][first:first + count])


class AllReduce(nn.Cell):
    """A sum over all ranks, fused with nothing else."""

    def __init__(self, group: int):
        super().__init__(auto_prefix=False)
        self.all_reduce = ops.AllReduce()
        self.all_reduce.add_prim_attr("fusion", 100 + group)

    def construct(self, vector):
        return self.all_reduce(vector)


class GradientReducer(nn.Cell):
    """Gradients averaged over ranks by MindSpore, THOR's measurements summed by :class:`FactorReducer`.

    In the stale graph nothing is measured, and nothing of it sent.

    Args:
        indices: of the parameters of ``optimizer`` that are differentiated.
    """

    def __init__(self, optimizer, indices: tuple[int, ...]):
        super().__init__(auto_prefix=False)
        self.optimizer = optimizer
        layers = optimizer.measurement_places() if hasattr(optimizer, "measurement_places") else []
        measured = [place for places in layers for place in places]
        plain = [place for place in indices if place not in set(measured)]
        self.plain = tuple(indices.index(place) for place in plain)
        self.measured = tuple(indices.index(place) for place in measured if place in set(indices))
        self.reduce_plain = nn.DistributedGradReducer(ParameterTuple([optimizer.parameters[i] for i in plain]),
                                                      ms.get_auto_parallel_context("gradients_mean"), world()[1])
        if self.measured:
            shapes = [[optimizer.parameters[i].shape for i in places] for places in layers]
            self.reduce_measured = FactorReducer(shapes, optimizer.split_indices)
        order = {position: place for place, position in enumerate(self.plain + self.measured)}
        self.order = tuple(order[position] for position in range(len(indices)))

    def construct(self, gradients):
        reduced = self.reduce_plain(pick(gradients, self.plain))
        if self.measured:
            measured = pick(gradients, self.measured)
            reduced = reduced + (self.reduce_measured(measured) if self.optimizer.measuring else measured)
        return pick(reduced, self.order)


class SharedUpdate(nn.Cell):
    """Every rank updates the inverses of the blocks it owns; all get all.

    Args:
        update: ``(blocks, scale, damping, divisor, wanted, old) -> (inverse, accepted, condition)``.
        owners: the owning rank of each block.
        rank, ranks: of this process.
    """

    def __init__(self, update: nn.Cell, owners: Sequence[int], rank: int, ranks: int):
        super().__init__(auto_prefix=False)
        owned = [[block for block, owner in enumerate(owners) if owner == r] for r in range(ranks)]
        most = max(len(blocks) for blocks in owned)
        mine = owned[rank] + [0] * (most - len(owned[rank]))
        self.update = update
        self.mine = Tensor(mine, ms.int32)
        self.valid = Tensor(np.arange(most) < len(owned[rank]), ms.float32).reshape(-1, 1, 1)
        place = np.zeros(len(owners), np.int32)
        for r, blocks in enumerate(owned):
            place[blocks] = r * most + np.arange(len(blocks))
        self.place = Tensor(place)
        self.all_gather, self.gather, self.concat = ops.AllGather(), ops.Gather(), ops.Concat(axis=1)

    def construct(self, blocks, scale, damping, divisor, wanted, old):
        columns = [self.gather(column, self.mine, 0) for column in (blocks, scale, damping, divisor, wanted, old)]
        inverse, accepted, condition = self.update(columns[0], columns[1], columns[2], columns[3],
                                                   columns[4] * self.valid, columns[5])
        told = self.gather(self.all_gather(self.concat((accepted, condition))), self.place, 0)  # (n_blocks, 2, 1)
        return self.gather(self.all_gather(inverse), self.place, 0), told[:, :1], told[:, 1:]
