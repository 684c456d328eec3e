"""Calls the compiled kernels through ctypes, without MindSpore, on shapes at the edges of their memory.

``python -m tests.helpers.kernel_program LIBRARY``: for a library with sanitizers, which end the process at a fault.
Every array lies alone in memory of its own, so that a step beyond it is seen.
"""
from __future__ import annotations

import ctypes
import sys
from collections.abc import Sequence

import numpy as np


def bound(path: str) -> ctypes.CDLL:
    """The library with SciPy's routines."""
    from thor.backends import kernels

    library = ctypes.CDLL(path)
    kernels.bind(library)
    return library


def call(library: ctypes.CDLL, name: str, inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray]) -> int:
    """A kernel's status; it fills ``outputs``."""
    arrays = [np.ascontiguousarray(array) for array in inputs] + list(outputs)
    count = len(arrays)
    data = (ctypes.c_void_p * count)(*[array.ctypes.data for array in arrays])
    axes = (ctypes.c_int * count)(*[array.ndim for array in arrays])
    shapes = (ctypes.c_void_p * count)()
    kept = [(ctypes.c_int64 * max(array.ndim, 1))(*array.shape) for array in arrays]
    for i, shape in enumerate(kept):
        shapes[i] = ctypes.addressof(shape)
    dtypes = (ctypes.c_char_p * count)(*[str(array.dtype).encode() for array in arrays])
    return getattr(library, name)(count, data, axes, shapes, dtypes, None, None)


def covariance_plan(groups: int, split_dim: int, append_one: bool, geometry: Sequence[int], column: int = -1):
    """``struct plan`` of covariance.c; ``geometry`` is kernel, stride, dilation, same, padding, eleven numbers."""
    return np.array([1.0, groups, split_dim, column, append_one, *geometry], np.float64)


def main(path: str) -> None:
    """Call every kernel, values of some checked against float64."""
    library, rng = bound(path), np.random.default_rng(0)

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32)

    def covariance(x, groups, split_dim, append_one, geometry, dim):
        size = min(dim, split_dim)
        out = np.full((groups * -(-dim // size), size, size), np.nan, np.float32)
        plan = covariance_plan(groups, split_dim, append_one, geometry)
        assert call(library, "Covariance", [x, np.ones(7, np.float32), plan], [out]) == 0
        assert np.isfinite(out).all()
        return out

    pointwise = [1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0]
    for rows, dim, split in ((1, 1, 4), (5, 7, 3), (300, 130, 128), (9000, 6, 8)):
        x = normal(rows, dim)
        out = covariance(x, 1, split, False, pointwise, dim)
        first = x[:, :out.shape[-1]].astype(np.float64)
        np.testing.assert_allclose(out[0], first.T @ first / rows, rtol=1e-4, atol=1e-5)
    for n, channels, positions in ((3, 5, 1), (2, 130, 7), (3, 4, 129), (5, 6, 2000)):
        covariance(normal(n, channels, positions), 1, 128, False, pointwise, channels)
    for geometry in ([3, 3, 1, 1, 1, 1, 1, 0, 0, 0, 0], [3, 2, 2, 1, 2, 3, 0, 1, 0, 2, 4],
                     [1, 1, 2, 2, 1, 1, 0, 0, 0, 0, 0], [5, 1, 3, 1, 1, 1, 0, 0, 0, 0, 0],
                     [2, 7, 1, 5, 1, 1, 1, 0, 0, 0, 0]):
        for height, width in ((5, 8), (9, 7), (7, 700)):
            covariance(normal(2, 6, height, width), 2, 10, True, geometry, 3 * geometry[0] * geometry[1] + 1)
            plan = covariance_plan(1, 1, False, geometry)
            assert call(library, "SquaresOfPatches", [normal(2, 6, height, width), plan],
                        [np.zeros(1, np.float32)]) == 0
    reductions(library, normal)
    products(library, normal)


def reductions(library: ctypes.CDLL, normal) -> None:
    """Sums, and inverses."""
    for count in (1, 15, 70000):
        x, out = normal(count), np.zeros(1, np.float32)
        assert call(library, "Squares", [x], [out]) == 0
        np.testing.assert_allclose(out, np.square(x.astype(np.float64)).sum(), rtol=1e-5)
        finite = np.array(False)
        assert call(library, "AllFinite", [x, normal(3)], [finite]) == 0 and finite
    for blocks, size in ((1, 1), (5, 3), (4, 33)):
        root = normal(blocks, size, 2 * size)
        moment = root @ root.transpose(0, 2, 1)
        column = [np.ones((blocks, 1, 1), np.float32)] * 4
        out = [np.empty((blocks, size, size), np.float32), *np.empty((2, blocks, 1, 1), np.float32)]
        assert call(library, "UpdatedInverse", [moment, *column, moment], out) == 0
        np.testing.assert_allclose(out[0], np.linalg.inv(moment + np.eye(size)), rtol=1e-3, atol=1e-4)


def products(library: ctypes.CDLL, normal) -> None:
    """A grouped layer with a folded bias and blocks that do not come out even, and one without G."""
    plan = np.array([[1, 2, 5, 6, 0, 1, 3, 1, 0, 4, 0], [1, 3, 1, 1, 0, 0, 0, 2, 0, 2, 0]], np.float64)
    weight, bias, gamma, beta = normal(10, 3, 2, 1), normal(10), normal(3), normal(3)
    g, a, unit = normal(5, 3, 3), normal(4, 4, 4), normal(3, 2, 2)
    out = [np.empty_like(x) for x in (weight, bias, gamma, beta)]
    assert call(library, "Precondition", [weight, bias, gamma, beta, g, a, unit, plan], out) == 0
    np.testing.assert_allclose(out[2], gamma * unit[:, 0, 0] + beta * unit[:, 1, 0], rtol=1e-4, atol=1e-5)
    assert call(library, "Precondition", [weight, bias, gamma, beta, g[:4], a, unit, plan], out) == 2
    assert call(library, "Precondition", [weight, bias, gamma, beta, g, a, unit, plan], out[:3]) == 1
    assert call(library, "PreconditionInBfloat16", [weight, bias, gamma, beta, g, a, unit, plan], out) == 0
    np.testing.assert_allclose(out[2], gamma * unit[:, 0, 0] + beta * unit[:, 1, 0], rtol=2e-2, atol=1e-2)
    table, scales, whole = normal(131, 5), normal(131), [np.empty((131, 5), np.float32)]
    plan = np.array([[0, 1, 131, 5, 0, 0, 0, 0, 2, 3, 2]], np.float64)
    assert call(library, "Precondition", [table, a, scales, plan], whole) == 2
    plan[0, 9] = 4
    assert call(library, "Precondition", [table, a, scales, plan], whole) == 0
    wanted = scales[:, None] * np.concatenate((table[:, :4] @ a[2], table[:, 4:] @ a[3][:1, :1]), axis=1)
    np.testing.assert_allclose(whole[0], wanted, rtol=1e-4, atol=1e-5)
    assert call(library, "Precondition", [table, a, scales[:130], plan], whole) == 2
    for rows, inner, columns in ((1, 1, 1), (3, 5, 7), (4, 2, 64), (127, 65, 33), (130, 129, 200)):
        x, y = normal(rows, inner), normal(inner, columns)
        wanted = nearest_bfloat16(x).astype(np.float64) @ nearest_bfloat16(y)
        for name in ("thor_multiply_bfloat16", "thor_multiply_bfloat16_by_loops"):
            np.testing.assert_allclose(product_in_bfloat16(library, name, x, y), wanted, rtol=1e-5, atol=1e-5)
    infinite = product_in_bfloat16(library, "thor_multiply_bfloat16", np.float32([[np.nan], [np.inf], [3.4e38]]),
                                   np.float32([[1.0]]))
    np.testing.assert_array_equal(infinite, [[np.nan], [np.inf], [np.inf]])


def nearest_bfloat16(x: np.ndarray) -> np.ndarray:
    """The nearest float32 with 8 bits of significand, ties to even."""
    fraction, exponent = np.frexp(x.astype(np.float64))
    return np.ldexp(np.rint(fraction * 2 ** 8) / 2 ** 8, exponent).astype(np.float32)


def product_in_bfloat16(library: ctypes.CDLL, name: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """``x y`` by a function of native/bfloat16.c, into every row's first columns."""
    (rows, inner), columns = x.shape, y.shape[1]
    sizes = [ctypes.c_int64(size) for size in (rows, inner, columns)]
    library.thor_bfloat16_scratch.restype = ctypes.c_size_t
    scratch = np.empty(library.thor_bfloat16_scratch(*sizes), np.float32)
    out = np.full((rows, columns + 3), 7, np.float32)
    pointers = [ctypes.c_void_p(array.ctypes.data) for array in (x, y, out, scratch)]
    strides = [ctypes.c_int64(array.shape[1]) for array in (x, y, out)]
    getattr(library, name)(pointers[0], strides[0], pointers[1], strides[1], pointers[2], strides[2], *sizes,
                           pointers[3])
    assert (out[:, columns:] == 7).all()
    return out[:, :columns]


if __name__ == "__main__":
    main(sys.argv[1])
