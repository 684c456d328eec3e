"""The CPU backend's arithmetic: NumPy on the host's BLAS and LAPACK, block by block, without full matrices.

MindSpore's own CPU kernels for these shapes copy and transpose more than they multiply, and its matrix product
slows down with the instruction set its convolutions need (see ``models.device``); BLAS does neither.
Shapes are those of :class:`thor.backends.base.Backend`.
"""
from __future__ import annotations

from typing import Iterator

import numpy as np

# Blocks that are not finite are rejected at inversion, counted and reported once.
not_finite_is_fine = np.errstate(over="ignore", invalid="ignore")


def block_ranges(dim: int, size: int) -> Iterator[tuple[int, int, int]]:
    """``(block, first, last + 1)`` of each diagonal block of ``size`` rows; the last may be shorter."""
    for block, first in enumerate(range(0, dim, size)):
        yield block, first, min(first + size, dim)


@not_finite_is_fine
def covariance(rows: np.ndarray, blocks: np.ndarray, groups: int, scale: float) -> np.ndarray:
    """Fill ``blocks`` with those of ``scale * rows' rows / n_rows``; ``rows`` is ``(n_rows, groups * dim)``."""
    n_rows, width = rows.shape
    dim, size = width // groups, blocks.shape[-1]
    per_group = blocks.shape[0] // groups
    for group in range(groups):
        for block, first, last in block_ranges(dim, size):
            columns = rows[:, group * dim + first:group * dim + last]
            blocks[group * per_group + block, :last - first, :last - first] = columns.T @ columns * (scale / n_rows)
    return blocks


@not_finite_is_fine
def covariance_of_maps(maps: np.ndarray, blocks: np.ndarray, groups: int, scale: float) -> np.ndarray:
    """The same for ``maps`` ``(n, groups * dim, positions)``."""
    n, width, positions = maps.shape
    dim, size = width // groups, blocks.shape[-1]
    per_group = blocks.shape[0] // groups
    for group in range(groups):
        for block, first, last in block_ranges(dim, size):
            features = maps[:, group * dim + first:group * dim + last].transpose(1, 0, 2)
            features = features.reshape(last - first, n * positions)
            moment = features @ features.T * (scale / (n * positions))
            blocks[group * per_group + block, :last - first, :last - first] = moment
    return blocks


@not_finite_is_fine
def covariance_of_patches(images: np.ndarray, blocks: np.ndarray, groups: int, geometry, append_one: bool,
                          scale: float) -> np.ndarray:
    """The same for the im2col rows of ``images``, unfolded one block at a time."""
    windows = sliding_windows(images, geometry)  # (channels, kh, kw, n, out_h, out_w), a view
    channels, kh, kw, n, out_h, out_w = windows.shape
    taps, count = kh * kw, n * out_h * out_w
    channels_per_group = channels // groups
    dim = channels_per_group * taps + append_one
    size, per_group = blocks.shape[-1], blocks.shape[0] // groups
    for group in range(groups):
        own = windows[group * channels_per_group:(group + 1) * channels_per_group]
        for block, first, last in block_ranges(dim, size):
            features = unfold_features(own, first, min(last, channels_per_group * taps), count)
            if append_one and last == dim:
                features = np.concatenate((features, np.ones((1, count), np.float32)))
            blocks[group * per_group + block, :last - first, :last - first] = features @ features.T * (scale / count)
    return blocks


def unfold_features(windows: np.ndarray, first: int, last: int, count: int) -> np.ndarray:
    """Rows ``first`` to ``last`` of the unfolded image, ``(last - first, count)``."""
    taps = windows.shape[1] * windows.shape[2]
    start, stop = first // taps, -(-last // taps)
    features = windows[start:stop].reshape((stop - start) * taps, count)
    return features[first - start * taps:last - start * taps]


def sliding_windows(images: np.ndarray, geometry) -> np.ndarray:
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


def precondition(gradient: np.ndarray, inverse_g: np.ndarray, inverse_a: np.ndarray) -> np.ndarray:
    """``G^-1 g A^-1`` for ``gradient`` ``(groups, rows, columns)``."""
    return precondition_columns(precondition_rows(gradient, inverse_g), inverse_a)


def precondition_rows(gradient: np.ndarray, inverse_g: np.ndarray) -> np.ndarray:
    """``G^-1 g``."""
    groups, rows, _ = gradient.shape
    size = inverse_g.shape[-1]
    inverse_g = inverse_g.reshape(groups, -1, size, size)
    product = np.empty_like(gradient)
    for block, first, last in block_ranges(rows, size):
        width = last - first
        np.matmul(inverse_g[:, block, :width, :width], gradient[:, first:last], out=product[:, first:last])
    return product


def precondition_columns(gradient: np.ndarray, inverse_a: np.ndarray) -> np.ndarray:
    """``g A^-1``."""
    groups, _, columns = gradient.shape
    size = inverse_a.shape[-1]
    inverse_a = inverse_a.reshape(groups, -1, size, size)
    product = np.empty_like(gradient)
    for block, first, last in block_ranges(columns, size):
        width = last - first
        np.matmul(gradient[:, :, first:last], inverse_a[:, block, :width, :width], out=product[:, :, first:last])
    return product


def damped_inverse(blocks: np.ndarray, damping: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Invert damped symmetric blocks one by one with LAPACK's ``potrf`` and ``potri``."""
    from scipy.linalg.lapack import spotrf, spotri  # loaded at the first refresh: import thor stays light

    inverse = np.zeros_like(blocks)
    accepted = np.zeros_like(damping)
    size = blocks.shape[-1]
    diagonal = np.arange(size)
    upper = np.triu_indices(size, 1)
    for index in range(blocks.shape[0]):
        block = blocks[index].copy()
        block[diagonal, diagonal] += damping[index, 0, 0]
        if not np.isfinite(block).all():
            continue
        # The transposed view of a symmetric C-ordered block is Fortran-ordered: LAPACK works in place.
        factor, failed = spotrf(block.T, lower=1, overwrite_a=1)
        if failed:
            continue
        lower, failed = spotri(factor, lower=1, overwrite_c=1)
        if failed or not np.isfinite(lower[diagonal, diagonal]).all():
            continue
        lower[upper] = lower.T[upper]
        inverse[index] = lower
        accepted[index] = 1.0
    return inverse, accepted
