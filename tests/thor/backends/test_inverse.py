"""Damped inverses over condition numbers, sizes, batch sizes and broken blocks."""
from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import pytest
from mindspore import Tensor

from tests.helpers import emulated
from thor.backends.ascend import AscendBackend, CholeskyInverse
from thor.backends.cpu import CpuBackend
from thor.backends.gpu import GpuBackend
from thor.selfcheck.cases import spectrum_block

EPS = 2.0 ** -23
BACKENDS = {
    "cpu": CpuBackend,
    "gpu": lambda: GpuBackend(emulated.gpu()),
    "newton_schulz": lambda: AscendBackend("newton_schulz", primitives=emulated.ascend_a2()),
    "cholesky": lambda: AscendBackend("cholesky", primitives=emulated.ascend_910()),
}
SPECTRA = {
    "geometric": lambda size, condition: np.geomspace(1 / condition, 1, size),
    "three large": lambda size, condition: np.r_[np.full(size - 3, 1 / condition), np.ones(3)],
    "one small": lambda size, condition: np.r_[1 / condition, np.ones(size - 1)],
}


def invert(backend_name: str, blocks: np.ndarray, damping: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    inverse, accepted = BACKENDS[backend_name]().damped_inverse(Tensor(blocks), Tensor(damping))
    assert accepted.shape == damping.shape
    return inverse.asnumpy().astype(np.float64), accepted.asnumpy().reshape(-1)


def damped_spectra(size: int, condition: float, scale: float = 1.0) -> tuple:
    """Singular blocks of every spectrum, the damping that gives them this condition number, and their sum."""
    rng = np.random.default_rng(int(np.log10(condition)))
    damping = np.full((len(SPECTRA), 1, 1), scale / condition, np.float32)
    blocks = np.stack([spectrum_block(rng, scale * (spectrum(size, condition) - 1 / condition))
                       for spectrum in SPECTRA.values()])
    return blocks, damping, blocks.astype(np.float64) + damping.astype(np.float64) * np.eye(size)


CONDITIONS = (1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8)


@dataclass(frozen=True)
class Exact:
    """What is known of a matrix."""

    matrix: np.ndarray
    inverse: np.ndarray
    condition: float


@functools.cache
def exact_inverses(condition: float) -> list[Exact]:
    return [Exact(matrix, np.linalg.inv(matrix), np.linalg.cond(matrix))
            for matrix in damped_spectra(128, condition)[2]]


@functools.cache
def inverted(backend_name: str) -> dict[float, tuple[np.ndarray, np.ndarray]]:
    """Inverses and what was accepted, by condition number: all blocks of 128 in one batch."""
    blocks, damping, _ = (np.concatenate(parts) for parts in zip(*(damped_spectra(128, k) for k in CONDITIONS)))
    inverses, accepted = invert(backend_name, blocks, damping)
    starts = range(0, len(blocks), len(SPECTRA))
    return {k: (inverses[i:i + len(SPECTRA)], accepted[i:i + len(SPECTRA)]) for k, i in zip(CONDITIONS, starts)}


def norm(matrix: np.ndarray) -> float:
    return np.linalg.norm(matrix, 2)


@pytest.mark.parametrize("backend_name", BACKENDS)
@pytest.mark.parametrize("condition", CONDITIONS)
def test_error_grows_with_the_condition_number_at_most(backend_name, condition, pynative):
    """|X - M^-1| <= 4 k eps |M^-1|; |I - XM|, |I - MX| <= 32 k eps; eps = 2^-23; accepted up to k = 1e5."""
    inverses, accepted = inverted(backend_name)[condition]
    if condition <= 1e5:
        np.testing.assert_array_equal(accepted, 1.0)
    for known, inverse, good in zip(exact_inverses(condition), inverses, accepted):
        matrix, exact, identity = known.matrix, known.inverse, np.eye(128)
        if not good:
            np.testing.assert_array_equal(inverse, 0.0)
            continue
        assert norm(inverse - exact) <= 4 * known.condition * EPS * norm(exact)
        assert norm(identity - inverse @ matrix) <= 32 * known.condition * EPS
        assert norm(identity - matrix @ inverse) <= 32 * known.condition * EPS
        if backend_name != "cpu":
            assert norm(inverse - exact) <= 0.55 * norm(exact)  # what the residual check guarantees


@pytest.mark.parametrize("backend_name", BACKENDS)
@pytest.mark.parametrize("scale", [1e-12, 1e8])
def test_scale_of_the_blocks_does_not_matter(backend_name, scale, pynative):
    blocks, damping, matrices = damped_spectra(40, 1e3, scale)
    inverses, accepted = invert(backend_name, blocks, damping)
    np.testing.assert_array_equal(accepted, 1.0)
    for matrix, inverse in zip(matrices, inverses):
        exact = np.linalg.inv(matrix)
        assert norm(inverse - exact) <= 4 * 1e3 * EPS * norm(exact)


@pytest.mark.parametrize("backend_name", BACKENDS)
@pytest.mark.parametrize("n_blocks, size", [(1, 1), (3, 2), (1, 63), (2, 65), (5, 128), (1, 130)])
def test_shapes(backend_name, n_blocks, size, pynative):
    rng = np.random.default_rng(size)
    blocks = np.stack([spectrum_block(rng, rng.uniform(0, 1, size)) for _ in range(n_blocks)])
    damping = rng.uniform(0.05, 0.5, (n_blocks, 1, 1)).astype(np.float32)
    inverses, accepted = invert(backend_name, blocks, damping)
    np.testing.assert_array_equal(accepted, 1.0)
    exact = np.linalg.inv(blocks.astype(np.float64) + damping * np.eye(size))
    np.testing.assert_allclose(inverses, exact, rtol=0, atol=4 * 21 * EPS * 20)  # condition <= 21, norm <= 20


def broken_batch() -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Nine blocks of 50, of which those in the list are sound."""
    rng = np.random.default_rng(3)
    blocks = np.stack([spectrum_block(rng, rng.uniform(0.1, 1, 50)) for _ in range(9)])
    damping = np.full((9, 1, 1), 0.01, np.float32)
    blocks[0] = spectrum_block(rng, np.r_[-0.02, rng.uniform(0.1, 1, 49)])
    blocks[1] *= -1
    blocks[2, 49, 49] = np.nan
    blocks[3, :, 0] = blocks[3, 0, :] = np.inf
    blocks[4] = 0
    damping[4] = 0
    damping[5] = np.nan
    blocks[6] = 3e38
    return blocks, damping, [7, 8]


@pytest.mark.parametrize("backend_name", BACKENDS)
def test_broken_blocks_are_zero_and_leave_the_others_alone(backend_name, pynative):
    blocks, damping, sound = broken_batch()
    inverses, accepted = invert(backend_name, blocks, damping)
    np.testing.assert_array_equal(accepted, [0, 0, 0, 0, 0, 0, 0, 1, 1])
    np.testing.assert_array_equal(inverses[:7], 0.0)
    alone, _ = invert(backend_name, blocks[sound], damping[sound])
    np.testing.assert_array_equal(inverses[sound], alone)


@pytest.mark.parametrize("backend_name", BACKENDS)
def test_a_zero_block_with_damping_is_sound(backend_name, pynative):
    damping = np.full((2, 1, 1), 0.25, np.float32)
    inverses, accepted = invert(backend_name, np.zeros((2, 9, 9), np.float32), damping)
    np.testing.assert_array_equal(accepted, 1.0)
    np.testing.assert_allclose(inverses, np.stack([4 * np.eye(9)] * 2), rtol=1e-6)


@pytest.mark.parametrize("backend_name", BACKENDS)
def test_inputs_are_left_unchanged(backend_name, pynative):
    blocks, damping, _ = damped_spectra(20, 1e2)
    tensor = Tensor(blocks)
    BACKENDS[backend_name]().damped_inverse(tensor, Tensor(damping))
    np.testing.assert_array_equal(tensor.asnumpy(), blocks)


def test_gpu_kernel_returns_finite_numbers_for_an_indefinite_block(pynative):
    """Why the backend verifies: nothing in the kernel's output need show that it failed."""
    block = spectrum_block(np.random.default_rng(0), np.r_[-0.5, np.linspace(0.1, 1, 30)])
    assert np.isfinite(emulated.gpu_cholesky_trsm(block[None])).all()


def test_cholesky_route_inverts_large_blocks_by_newton_schulz(pynative):
    blocks, damping, _ = damped_spectra(150, 1e2)
    for one, other in zip(invert("cholesky", blocks, damping), invert("newton_schulz", blocks, damping)):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("n_blocks", [4, 6, 7, 9])
def test_cholesky_route_works_in_chunks(n_blocks, pynative):
    rng = np.random.default_rng(n_blocks)
    blocks = np.stack([spectrum_block(rng, rng.uniform(0.1, 1, 20)) for _ in range(n_blocks)])
    route = CholeskyInverse(emulated.TikCholeskyTrsm(), emulated.TikBatchMatMul(), blocks_per_call=4)
    inverses, accepted = route(Tensor(blocks), Tensor(np.zeros((n_blocks, 1, 1), np.float32)))
    np.testing.assert_array_equal(accepted.asnumpy(), np.ones((n_blocks, 1, 1)))
    exact = np.linalg.inv(blocks.astype(np.float64))
    np.testing.assert_allclose(inverses.asnumpy(), exact, rtol=0, atol=4 * 10 * EPS * 10)  # both <= 10
