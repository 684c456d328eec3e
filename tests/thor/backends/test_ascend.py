"""Choices of the Ascend backend, and its scaled float16 products."""
from __future__ import annotations

import numpy as np
import pytest
from mindspore import Tensor

from tests.helpers import emulated
from thor.backends import primitives
from thor.backends.ascend import AscendBackend, ScaledHalfMatMul, block_diagonal, power_of_two

PRODUCT_BOUND = 2.0 ** -9


def relative_error(computed: Tensor, expected: np.ndarray) -> float:
    return np.linalg.norm(computed.asnumpy() - expected) / np.linalg.norm(expected)


@pytest.mark.parametrize("device, precision", [(emulated.ascend_910, "float16"), (emulated.ascend_a2, "float32")])
def test_precision_follows_the_device_and_inverses_are_products(device, precision):
    backend = AscendBackend(primitives=device())
    assert (backend.inverse, backend.precision) == ("newton_schulz", precision)


def test_choices_override_the_device():
    backend = AscendBackend("cholesky", "float32", emulated.ascend_910())
    assert (backend.inverse, backend.precision) == ("cholesky", "float32")


@pytest.mark.parametrize("arguments, message", [
    ({"inverse": "lu"}, "inverse='lu'; must be one of 'newton_schulz', 'cholesky'; use 'newton_schulz'"),
    ({"precision": "bf16"}, "precision='bf16'; must be one of 'auto', 'float32', 'float16'; use 'auto'"),
    ({"inverse": "cholesky"}, "inverse='cholesky'; must be 'newton_schulz' on a device without Cus"),
])
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError) as error:
        AscendBackend(primitives=emulated.ascend_a2(), **arguments)
    assert str(error.value).startswith(message)


@pytest.mark.parametrize("name, first_generation", [
    ("Ascend910A", True), ("Ascend910B", True), ("Ascend910ProB", True),
    ("Ascend910B1", False), ("Ascend910_9391", False), ("", False),
])
def test_device_generations(name, first_generation, monkeypatch):
    """The TIK kernels are not made unless asked for, and without the TIK compiler not even then."""
    monkeypatch.setattr(primitives, "ascend_device_name", lambda: name)
    for with_cholesky in (False, True):
        found = primitives.ascend_primitives(with_cholesky)
        assert found.float16_cube is first_generation
        assert (found.cholesky_trsm, found.vector_matmul_nt) == (None, None)
    assert AscendBackend().inverse == "newton_schulz"


def test_installed_gpu_kernel_takes_a_batch():
    kernel = primitives.gpu_primitives().cholesky_trsm
    assert (kernel.name, kernel.split_dim) == ("CholeskyTrsm", 0)
    assert tuple(kernel.infer_shape([3, 50, 50])) == (3, 50, 50)


def test_precondition_restores_the_scale_of_each_operand(pynative):
    """Scales far apart, all outside float16: restoring one operand's scale twice would be off by 1e12."""
    rng = np.random.default_rng(0)
    gradient = 1e-11 * rng.standard_normal((1, 40, 30)).astype(np.float32)
    inverse_g = 1e6 * rng.standard_normal((1, 40, 40)).astype(np.float32)
    inverse_a = 1e-6 * rng.standard_normal((1, 30, 30)).astype(np.float32)
    backend = AscendBackend(precision="float16", primitives=emulated.ascend_a2())
    operator = backend.precondition_operator((1, 40, 30), (0, 1, 40), (0, 1, 30))
    computed = operator(Tensor(gradient), Tensor(inverse_g), Tensor(inverse_a))
    assert relative_error(computed, inverse_g.astype(np.float64) @ gradient @ inverse_a) < 2 * PRODUCT_BOUND


def test_blocks_of_different_scale_keep_their_accuracy(pynative):
    rng = np.random.default_rng(1)
    scales = np.array([1e-8, 1.0, 1e8], np.float32).reshape(3, 1, 1)
    left, right = (scales * rng.standard_normal((3, 20, 20)).astype(np.float32) for _ in range(2))
    computed = ScaledHalfMatMul(emulated.CubeMatMul)(Tensor(left), Tensor(right))
    for i in range(3):
        assert relative_error(computed[i], left[i].astype(np.float64) @ right[i]) < PRODUCT_BOUND


@pytest.mark.parametrize("n_rows", [1, 100_000])
def test_long_sums_neither_overflow_nor_vanish(n_rows, pynative):
    """With all rows equal a plain float16 sum of 100 000 squares exceeds 65504."""
    rows = np.tile(np.array([[3.0, -2.0, 1e-2]], np.float32), (n_rows, 1))
    backend = AscendBackend(precision="float16", primitives=emulated.ascend_a2())
    computed = backend.covariance(Tensor(rows), 1, 128).asnumpy()[0]
    np.testing.assert_allclose(computed, np.outer(rows[0], rows[0]), rtol=2e-3)


def test_zero_stays_zero_and_nan_stays_nan(pynative):
    left = np.zeros((2, 4, 4), np.float32)
    left[1, 0, 0] = np.nan
    right = np.ones((2, 4, 4), np.float32)
    computed = ScaledHalfMatMul(emulated.CubeMatMul)(Tensor(left), Tensor(right)).asnumpy()
    np.testing.assert_array_equal(computed[0], 0.0)
    assert np.isnan(computed[1]).any()


def test_block_diagonal(pynative):
    blocks = np.arange(12, dtype=np.float32).reshape(3, 2, 2)
    expected = np.zeros((6, 6), np.float32)
    for i in range(3):
        expected[2 * i:2 * i + 2, 2 * i:2 * i + 2] = blocks[i]
    np.testing.assert_array_equal(block_diagonal(Tensor(blocks)).asnumpy(), expected)


def test_power_of_two():
    assert [power_of_two(count) for count in (1, 2, 3, 5, 8, 9, 31, 32)] == [1, 2, 4, 8, 8, 16, 32, 32]
