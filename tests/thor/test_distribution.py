"""Who owns which block, where reductions are cut, and symmetric blocks as triangles."""
from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor

from thor import THOR
from thor.distribution import assign_owners, default_split, groups_of, inverse_cost, world
from thor.reduction import Packing, packed_count

# block sizes of ResNet-50 (A and G of 54 layers) and of BERT-large (24 encoder layers, hidden 1024, 4096 inside)
RESNET50 = [128] * 2 + [64] * 21 + [128] * 850 + [27] * 3
BERT_LARGE = [128] * (24 * (4 * 16 + 2 * (8 + 32)) + 40) + [2] * 1


@pytest.mark.parametrize("sizes", [RESNET50, BERT_LARGE], ids=["resnet50", "bert_large"])
@pytest.mark.parametrize("ranks", [1, 2, 8, 64])
def test_owners_balance_the_work_within_ten_percent(sizes, ranks):
    costs = [inverse_cost(size) for size in sizes]
    owners = assign_owners(costs, ranks)
    assert len(owners) == len(costs) and set(owners) <= set(range(ranks))
    loads = np.bincount(owners, weights=costs, minlength=ranks)
    optimum = max(sum(costs) / ranks, -(-len([s for s in sizes if s == 128]) // ranks) * inverse_cost(128))
    assert loads.max() <= 1.1 * optimum


def test_owners_of_few_blocks():
    assert assign_owners([1.0, 8.0, 1.0, 4.0], 2) == [1, 0, 1, 1]
    assert assign_owners([1.0], 3) == [0]
    assert assign_owners([], 2) == []


def test_default_split_fills_groups_up_to_the_limit():
    assert default_split([10, 10, 10, 10, 10], 25) == (1, 3, 4)
    assert default_split([100, 1, 1], 25) == (0, 2)
    assert default_split([1, 1], 25) == (1,)
    assert default_split([]) == ()


@pytest.mark.parametrize("split, expected", [((2,), [(0, 3), (3, 5)]), ((0, 4), [(0, 1), (1, 5)]), ((4,), [(0, 5)])])
def test_groups_cover_all_layers_in_order(split, expected):
    groups = groups_of(split, 5)
    assert [(group.start, group.stop) for group in groups] == expected
    assert [layer for group in groups for layer in group] == list(range(5))


@pytest.mark.usefixtures("pynative")
@pytest.mark.parametrize("size", [1, 2, 5])
def test_triangles_hold_symmetric_blocks(size):
    blocks = np.random.default_rng(0).standard_normal((3, size, size)).astype(np.float32)
    blocks = blocks + blocks.transpose(0, 2, 1)
    packing = Packing(blocks.shape)
    packed = packing.pack(Tensor(blocks))
    assert packed.size == packed_count(blocks.shape) == 3 * size * (size + 1) // 2
    np.testing.assert_array_equal(packing.unpack(packed).asnumpy(), blocks)


@pytest.mark.parametrize("mode", [ms.ParallelMode.SEMI_AUTO_PARALLEL, ms.ParallelMode.AUTO_PARALLEL,
                                  ms.ParallelMode.HYBRID_PARALLEL])
def test_other_parallel_modes_are_refused(mode):
    ms.set_auto_parallel_context(parallel_mode=mode)
    try:
        with pytest.raises(ValueError, match=f"parallel_mode={mode}; must be stand_alone or data_parallel with THOR"):
            THOR(ms.nn.Dense(3, 2), 0.1, 0.1, 0.9)
    finally:
        ms.reset_auto_parallel_context()


def test_one_process_is_rank_zero_of_one():
    assert world() == (0, 1)
    optimizer = THOR(ms.nn.Dense(3, 2), 0.1, 0.1, 0.9, share_inverses=True)
    assert type(optimizer.curvature.batches[0].update).__name__ == "BlockUpdate"


def test_share_inverses_must_be_a_bool():
    with pytest.raises(TypeError, match="share_inverses=1; must be a bool; use True or False"):
        THOR(ms.nn.Dense(3, 2), 0.1, 0.1, 0.9, share_inverses=1)
