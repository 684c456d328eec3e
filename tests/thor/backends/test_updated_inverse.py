"""``updated_inverse`` on every backend: selected good blocks change, all others stay to the bit."""
from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor

from tests.helpers import emulated
from thor.backends.ascend import AscendBackend
from thor.backends.cpu import CpuBackend
from thor.backends.gpu import GpuBackend
from thor.backends.native_cpu import NativeCpuBackend

BACKENDS = {"cpu": NativeCpuBackend, "numpy": CpuBackend, "gpu": lambda: GpuBackend(emulated.gpu()),
            "ascend": lambda: AscendBackend(primitives=emulated.ascend_a2())}
SIZE = 12


def problem():
    """Seven blocks: four good (one not selected), one indefinite, one not finite, one with a scale that is not."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((7, SIZE, 40))
    blocks = (rows @ rows.transpose(0, 2, 1) / 40).astype(np.float32)
    blocks[4] -= 5 * np.eye(SIZE, dtype=np.float32)
    blocks[5, 2, 3] = np.nan
    column = rng.uniform(0.5, 2.0, (3, 7, 1, 1)).astype(np.float32)
    scale, damping, divisor = column[0], 0.1 * column[1], column[2]
    scale[6] = np.inf
    selected = np.float32([1, 1, 0, 1, 1, 1, 1]).reshape(7, 1, 1)
    old = rng.standard_normal((7, SIZE, SIZE)).astype(np.float32)
    return blocks, scale, damping, divisor, selected, old


@pytest.mark.usefixtures("pynative")
@pytest.mark.parametrize("name", BACKENDS)
def test_new_where_selected_and_good_old_elsewhere(name):
    blocks, scale, damping, divisor, selected, old = problem()
    inverse, accepted, condition = [t.asnumpy() for t in BACKENDS[name]().updated_inverse(
        *[Tensor(array, ms.float32) for array in (blocks, scale, damping, divisor, selected, old)])]
    good = [0, 1, 3]
    np.testing.assert_array_equal(accepted.reshape(-1), [1, 1, 0, 1, 0, 0, 0])
    for i in range(7):
        if i not in good:
            np.testing.assert_array_equal(inverse[i], old[i])
            assert condition[i] == 0
            continue
        damped = scale[i].astype(np.float64) * blocks[i] + damping[i] * np.eye(SIZE)
        expected = np.linalg.inv(damped)
        np.testing.assert_allclose(inverse[i], expected / divisor[i], rtol=2e-4, atol=1e-5)
        bound = np.diagonal(damped).max() * np.diagonal(expected).max()
        assert condition[i] == pytest.approx(bound, rel=1e-4) and bound <= np.linalg.cond(damped)


@pytest.mark.usefixtures("pynative")
@pytest.mark.parametrize("name", BACKENDS)
def test_operators_take_their_part_of_larger_batches(name):
    rng = np.random.default_rng(1)
    backend = BACKENDS[name]()
    batch_g, batch_a = rng.standard_normal((5, 6, 6)), rng.standard_normal((7, 4, 4))
    gradient = rng.standard_normal((1, 12, 12))
    tensors = [Tensor(array, ms.float32) for array in (gradient, batch_g, batch_a)]
    got = backend.precondition_operator((1, 12, 12), (2, 2, 6), (3, 3, 4))(*tensors).asnumpy()
    part_g, part_a = Tensor(batch_g[2:4], ms.float32), Tensor(batch_a[3:6], ms.float32)
    expected = backend.precondition_operator((1, 12, 12), (0, 2, 6), (0, 3, 4))(tensors[0], part_g, part_a)
    np.testing.assert_array_equal(got, expected.asnumpy())
    got = backend.precondition_columns_operator((1, 12, 12), (3, 3, 4))(tensors[0], tensors[2]).asnumpy()
    expected = backend.precondition_columns_operator((1, 12, 12), (0, 3, 4))(tensors[0], part_a)
    np.testing.assert_array_equal(got, expected.asnumpy())
