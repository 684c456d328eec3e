"""Several devices: which layers go in one reduction (see :mod:`thor.reduction`), and who inverts which block.

In the hybrid mode each block has an owner that inverts it and gives the result to all (Osawa et al. 2020, SP-NGD;
Pauloski et al. 2021, KAISA). Who owns what is a pure function of the blocks' costs.
"""
from __future__ import annotations

import logging
from collections.abc import Sequence

import mindspore as ms
import numpy as np
from mindspore import ParallelMode, Tensor, nn, ops

from thor.checks import ArgumentError

logger = logging.getLogger("thor")

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

    None and an empty list cut by bytes. What lies beyond the layers with factors is dropped with a warning: published
    programs pass lists of other networks.

    Raises:
        ArgumentError: they are no ints, or do not ascend.
    """
    if split_indices is None or split_indices in ([], ()):
        return None
    values = list(split_indices) if isinstance(split_indices, (list, tuple)) else []
    if not values or any(isinstance(v, bool) or not isinstance(v, (int, np.integer)) for v in values):
        raise ArgumentError(f"split_indices={split_indices!r}; must be a list of ints or None; "
                            "use e.g. [26, 53] for ResNet-50")
    if values[0] < 0 or any(b <= a for a, b in zip(values, values[1:])):
        raise ArgumentError(f"split_indices={split_indices!r}; must ascend strictly from >= 0; sort it, "
                            "without repeats")
    kept = tuple(int(value) for value in values if value < n_layers)
    if len(kept) < len(values):
        logger.warning("split_indices=%s: %s beyond the %d layers with factors dropped", list(values),
                       ", ".join(map(str, values[len(kept):])), n_layers)
    return kept or None


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
        verdict = self.gather(self.all_gather(self.concat((accepted, condition))), self.place, 0)  # (n_blocks, 2, 1)
        return self.gather(self.all_gather(inverse), self.place, 0), verdict[:, :1], verdict[:, 1:]
