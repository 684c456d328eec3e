"""Inverses updated factor by factor, for devices that invert a batch as a whole."""
from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor

from thor.backends.cpu import CpuBackend
from thor.backends.inversion import BlockUpdateByFactor

SIZE, SPANS, WANTED = 4, ((0, 2), (2, 1), (3, 3), (6, 1), (7, 1)), (True, False, True, False, True)


@pytest.mark.parametrize("mode", [ms.PYNATIVE_MODE, ms.GRAPH_MODE], ids=["pynative", "graph"])
def test_wanted_factors_are_inverted_and_the_others_keep_theirs(mode):
    rng = np.random.default_rng(0)
    half = rng.standard_normal((8, SIZE, SIZE))
    blocks = half @ half.transpose(0, 2, 1)
    scale, damping, divisor = (rng.uniform(0.5, 2.0, (8, 1, 1)) for _ in range(3))
    old = rng.standard_normal((8, SIZE, SIZE))
    wanted = np.concatenate([np.full(count, flag, float) for (_, count), flag in zip(SPANS, WANTED)]).reshape(8, 1, 1)
    ms.set_context(mode=mode)
    columns = [Tensor(column, ms.float32) for column in (blocks, scale, damping, divisor, wanted, old)]
    inverses, accepted, conditions = BlockUpdateByFactor(CpuBackend(), SPANS)(*columns)
    np.testing.assert_array_equal(accepted.asnumpy(), wanted)
    np.testing.assert_array_equal(conditions.asnumpy() > 0, wanted > 0)
    expected = np.linalg.inv(scale * blocks + damping * np.eye(SIZE)) / divisor
    np.testing.assert_allclose(inverses.asnumpy(), np.where(wanted > 0, expected, old), rtol=2e-4, atol=1e-5)
