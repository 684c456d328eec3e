"""The CPU backend's arithmetic: NumPy on the host's BLAS and LAPACK, block by block, without full matrices.

MindSpore's own CPU kernels for these shapes copy and transpose more than they multiply, and its inverse takes fifteen
times as long as LAPACK's.
Shapes are those of :class:`thor.backends.base.Backend`.
"""
from __future__ import annotations

import functools
from collections.abc import Iterator

import numpy as np

from thor.backends import blas
from thor.backends.threads import for_each, scratch

DIRECT_POSITIONS = 128  # from here on one BLAS call a sample is cheaper than a transposed copy


def covariance_of_maps(maps: np.ndarray, blocks: np.ndarray, groups: int, scale: float) -> np.ndarray:
    """Fill zeroed ``blocks`` with those of ``scale`` times the second moment of ``maps``' positions.

    Args:
        maps: ``(n, groups * dim, positions)``.
        blocks: ``(groups * n_blocks, size, size)``.
    """
    n, width, positions = maps.shape
    dim = width // groups

    def compute(block):
        out, group, first, last = block
        features = maps[:, group * dim + first:group * dim + last]  # (n, size, positions)
        if positions < DIRECT_POSITIONS:
            together = scratch("features", (last - first, n, positions))
            np.copyto(together, features.transpose(1, 0, 2))
            features = together.reshape(1, last - first, n * positions)
        for sample in features:
            blas.add_second_moment(sample, out, scale / (n * positions))
        _mirror(out)

    for_each(compute, list(_blocks_of(blocks, groups, dim)))
    return blocks


def covariance_of_patches(images: np.ndarray, blocks: np.ndarray, groups: int, geometry, append_one: bool,
                          scale: float) -> np.ndarray:
    """The same for the im2col rows of ``images``, unfolded one block at a time."""
    if geometry.kernel == geometry.stride == (1, 1) and not append_one and not any(geometry.padding(images.shape[2:])):
        return covariance_of_maps(images.reshape(*images.shape[:2], -1), blocks, groups, scale)
    windows = _sliding_windows(images, geometry)  # (channels, kh, kw, n, out_h, out_w), a view
    channels, kh, kw, n, out_h, out_w = windows.shape
    taps, count = kh * kw, n * out_h * out_w
    channels_per_group = channels // groups
    dim = channels_per_group * taps + append_one

    def compute(block):
        out, group, first, last = block
        own = windows[group * channels_per_group:(group + 1) * channels_per_group]
        features = _unfold_features(own, first, min(last, channels_per_group * taps), count)
        if append_one and last == dim:
            features = np.concatenate((features, np.ones((1, count), np.float32)))
        blas.add_second_moment(features, out, scale / count)
        _mirror(out)

    for_each(compute, list(_blocks_of(blocks, groups, dim)))
    return blocks


def _blocks_of(blocks: np.ndarray, groups: int, dim: int) -> Iterator[tuple[np.ndarray, int, int, int]]:
    """``(block, group, first, last + 1)`` of every diagonal block, without the padding of a group's last one."""
    size, per_group = blocks.shape[-1], blocks.shape[0] // groups
    for group in range(groups):
        for block, first in enumerate(range(0, dim, size)):
            last = min(first + size, dim)
            yield blocks[group * per_group + block, :last - first, :last - first], group, first, last


def _mirror(block: np.ndarray) -> None:
    """Copy the upper triangle of ``block`` ``(size, size)`` to the lower one."""
    np.copyto(block, block.T, where=_below_diagonal(block.shape[0]))


@functools.cache
def _below_diagonal(size: int) -> np.ndarray:
    """Where a matrix of ``size`` rows is below its diagonal."""
    return np.tri(size, k=-1, dtype=bool)


def squares(x: np.ndarray) -> float:
    """Sum of squares of a contiguous array."""
    flat = x.reshape(-1)
    return float(flat @ flat)


def squares_of_patches(images: np.ndarray, geometry) -> float:
    """Sum of squares of the im2col rows of ``images`` ``(n, channels, height, width)``."""
    top, bottom, left, right = geometry.padding(images.shape[2:])
    vertical = coverage(images.shape[2], top, bottom, *(pair[0] for pair in
                                                       (geometry.kernel, geometry.stride, geometry.dilation)))
    horizontal = coverage(images.shape[3], left, right, *(pair[1] for pair in
                                                         (geometry.kernel, geometry.stride, geometry.dilation)))
    maps = images.reshape(-1, images.shape[2] * images.shape[3])
    of_pixels = np.einsum("ij,ij->j", maps, maps)
    return float(of_pixels @ np.outer(vertical, horizontal).reshape(-1))


def coverage(size: int, before: int, after: int, kernel: int, stride: int, dilation: int) -> np.ndarray:
    """In how many windows each of ``size`` positions is, ``(size,)``."""
    outputs = (size + before + after - dilation * (kernel - 1) - 1) // stride + 1
    places = (np.arange(outputs)[:, None] * stride + np.arange(kernel) * dilation - before).reshape(-1)
    return np.bincount(places[(places >= 0) & (places < size)], minlength=size).astype(np.float32)


def _unfold_features(windows: np.ndarray, first: int, last: int, count: int) -> np.ndarray:
    """Rows ``first`` to ``last`` of the unfolded image, ``(last - first, count)``."""
    taps = windows.shape[1] * windows.shape[2]
    start, stop = first // taps, -(-last // taps)
    features = windows[start:stop].reshape((stop - start) * taps, count)
    return features[first - start * taps:last - start * taps]


def _sliding_windows(images: np.ndarray, geometry) -> np.ndarray:
    """A view ``(channels, kh, kw, n, out_h, out_w)`` of padded ``images``."""
    top, bottom, left, right = geometry.padding(images.shape[2:])
    if top or bottom or left or right:
        images = np.pad(images, ((0, 0), (0, 0), (top, bottom), (left, right)))
    (kh, kw), (sh, sw), (dh, dw) = geometry.kernel, geometry.stride, geometry.dilation
    n, channels, height, width = images.shape
    out_h, out_w = (height - dh * (kh - 1) - 1) // sh + 1, (width - dw * (kw - 1) - 1) // sw + 1
    of_n, of_c, of_h, of_w = images.strides
    return np.lib.stride_tricks.as_strided(
        images, (channels, kh, kw, n, out_h, out_w),
        (of_c, of_h * dh, of_w * dw, of_n, of_h * sh, of_w * sw))


def damped_inverse(blocks: np.ndarray, damping: np.ndarray,
                   out: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Invert damped symmetric blocks one by one with LAPACK's ``potrf`` and ``potri``, into ``out`` if given."""
    inverse = np.empty_like(blocks) if out is None else out
    accepted = np.zeros_like(damping)

    def compute(index):
        block = inverse[index]
        np.copyto(block, blocks[index])
        if _invert_damped(block, damping[index, 0, 0]) > 0:
            accepted[index] = 1.0
        else:
            block[:] = 0.0

    for_each(compute, range(len(inverse)))
    return inverse, accepted


def updated_inverse(blocks: np.ndarray, scale: np.ndarray, damping: np.ndarray, divisor: np.ndarray,
                    selected: np.ndarray, old: np.ndarray, out: np.ndarray | None = None) -> tuple:
    """See :meth:`thor.backends.base.Backend.updated_inverse`; a block that is not selected costs a copy."""
    inverse = np.empty_like(blocks) if out is None else out
    condition = np.zeros_like(damping)

    def compute(index):
        block = inverse[index]
        if selected[index, 0, 0] > 0:
            np.multiply(blocks[index], scale[index, 0, 0], out=block)
            condition[index] = _invert_damped(block, damping[index, 0, 0])
        if condition[index, 0, 0] > 0:
            block /= divisor[index, 0, 0]
        else:
            np.copyto(block, old[index])

    for_each(compute, range(len(inverse)))
    return inverse, (condition > 0).astype(np.float32), condition


def _invert_damped(block: np.ndarray, damping: float) -> float:
    """Replace ``block`` ``(size, size)`` by the inverse of ``block + damping I``.

    Returns:
        A lower bound of the condition number; 0 where the damped block is not finite or not positive definite, and
        then ``block`` is left in any state.
    """
    diagonal = block.reshape(-1)[::block.shape[0] + 1]
    diagonal += damping
    largest = float(diagonal.max())
    if not (np.isfinite(block).all() and blas.invert(block) and np.isfinite(diagonal).all()):
        return 0.0
    _mirror(block)
    return largest * float(diagonal.max())
