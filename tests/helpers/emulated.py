"""Stand-ins for device primitives, following the semantics their kernels document; they run on the CPU."""
from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import nn, ops
from scipy.linalg import solve_triangular
from scipy.linalg.lapack import spotrf

from thor.backends.primitives import AscendPrimitives, GpuPrimitives

KERNEL_SIZE = 128
VECTOR_MATMUL_BATCHES = (1, 2, 4, 8, 16, 32)
MAX_DIAGONAL_BLOCKS = 32


def gpu(**changed) -> GpuPrimitives:
    return GpuPrimitives(**{"cholesky_trsm": GpuCholeskyTrsm(), "unfold": ops.unfold, **changed})


def ascend_910(**changed) -> AscendPrimitives:
    """First generation: TIK kernels, a cube of float16."""
    return AscendPrimitives(**{"batch_matmul": CubeMatMul, "cholesky_trsm": TikCholeskyTrsm(),
                               "vector_matmul_nt": TikBatchMatMul(), "float16_cube": True, **changed})


def ascend_a2(**changed) -> AscendPrimitives:
    """Second generation: no TIK kernels, a cube that takes float32 too."""
    return AscendPrimitives(**{"batch_matmul": CubeMatMul, "cholesky_trsm": None, "vector_matmul_nt": None,
                               "float16_cube": False, **changed})


def host_function(function, out_shape) -> ops.Custom:
    return ops.Custom(function, out_shape=out_shape, out_dtype=lambda *types: types[0], func_type="pyfunc")


class GpuCholeskyTrsm(nn.Cell):
    """``CholeskyTrsm(split_dim=0)``: potrfBatched on the lower triangle, in place, then trsmBatched."""

    def __init__(self):
        super().__init__(auto_prefix=False)
        self.kernel = host_function(gpu_cholesky_trsm, lambda blocks: blocks)
        self.overwrite = ms.get_context("mode") == ms.PYNATIVE_MODE

    def construct(self, blocks):
        factor = self.kernel(blocks)
        if self.overwrite:  # the device kernel leaves the factor in its input
            blocks[...] = float("nan")
        return factor


def gpu_cholesky_trsm(blocks: np.ndarray) -> np.ndarray:
    """Inverse lower factors; a block that is not positive definite yields what is left, without a word."""
    assert blocks.ndim == 3 and blocks.shape[1] == blocks.shape[2] and blocks.dtype == np.float32
    size = blocks.shape[-1]
    result = np.empty_like(blocks)
    for i, block in enumerate(blocks):
        unread = np.where(np.tri(size, dtype=bool), block, np.float32(1e30))
        factor, _ = spotrf(unread, lower=1, clean=1)
        with np.errstate(all="ignore"):
            factor[np.arange(size), np.arange(size)] += np.where(np.diag(factor) == 0, np.float32(1e-30), 0)
            identity = np.eye(size, dtype=np.float32)
            result[i] = solve_triangular(factor, identity, lower=True, check_finite=False)
    return result


class TikCholeskyTrsm(nn.Cell):
    """``CusCholeskyTrsm``: ``(k * 128, k * 128)`` to the inverse upper factors of its diagonal blocks."""

    def __init__(self):
        super().__init__(auto_prefix=False)
        self.kernel = host_function(
            tik_cholesky_trsm, lambda matrix: (matrix[0] // KERNEL_SIZE, KERNEL_SIZE, KERNEL_SIZE))

    def construct(self, matrix):
        return self.kernel(matrix)


def tik_cholesky_trsm(matrix: np.ndarray) -> np.ndarray:
    dim = len(matrix)
    assert matrix.shape == (dim, dim) and dim % KERNEL_SIZE == 0 and matrix.dtype == np.float32
    assert dim // KERNEL_SIZE <= MAX_DIAGONAL_BLOCKS
    starts = range(0, dim, KERNEL_SIZE)
    return inverse_upper_factors(np.stack([matrix[s:s + KERNEL_SIZE, s:s + KERNEL_SIZE] for s in starts]))


def inverse_upper_factors(blocks: np.ndarray) -> np.ndarray:
    """Row by row in float32, roots as exp(-ln / 2), then back substitution; NaN for a negative pivot."""
    upper, size = blocks.copy(), blocks.shape[-1]
    with np.errstate(all="ignore"):
        for i in range(size):
            upper[:, i] *= np.exp(np.float32(-0.5) * np.log(upper[:, i, i, None]))
            upper[:, i + 1:] -= upper[:, i, i + 1:, None] * upper[:, i, None]
        result = np.tile(np.eye(size, dtype=np.float32), (len(blocks), 1, 1))
        for i in reversed(range(size)):
            known = upper[:, i, None, i + 1:] @ result[:, i + 1:]  # (n_blocks, 1, size)
            result[:, i] = (result[:, i] - known[:, 0]) / upper[:, i, i, None]
    return result


class TikBatchMatMul(nn.Cell):
    """``CusBatchMatMul``: ``x y'`` in float32, for the numbers of 128-blocks whose indexing is right."""

    def __init__(self):
        super().__init__(auto_prefix=False)
        self.product = ops.BatchMatMul(transpose_b=True)

    def construct(self, x, y):
        square = x.shape == y.shape and x.shape[1:] == (KERNEL_SIZE, KERNEL_SIZE)
        if not square or x.shape[0] not in VECTOR_MATMUL_BATCHES:
            raise ValueError("CusBatchMatMul does not support this shape")
        return self.product(x, y)


class CubeMatMul(nn.Cell):
    """The cube: float16 in, float32 accumulation, float16 out; float32 stays float32."""

    def __init__(self, transpose_a: bool = False, transpose_b: bool = False):
        super().__init__(auto_prefix=False)
        self.product = ops.BatchMatMul(transpose_a, transpose_b)

    def construct(self, x, y):
        if x.dtype == ms.float16:
            return self.product(x.astype(ms.float32), y.astype(ms.float32)).astype(ms.float16)
        return self.product(x, y)
