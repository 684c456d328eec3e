"""Shapes: how a convolution walks over an image, how a matrix is split into blocks."""
from __future__ import annotations

from dataclasses import dataclass

from mindspore import Tensor, ops


@dataclass(frozen=True)
class ConvGeometry:
    """How a two-dimensional convolution walks over an image; pairs are (height, width).

    Args:
        pad_mode: "same", "valid" or "pad", as in ``mindspore.nn.Conv2d``.
        pad: zeros on every side, or ``(top, bottom, left, right)``; read with pad_mode "pad".
    """

    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    pad_mode: str = "valid"
    pad: int | tuple[int, int, int, int] = 0

    def padding(self, size: tuple[int, int]) -> tuple[int, int, int, int]:
        """Zeros added ``(top, bottom, left, right)`` to an image of ``size``."""
        return conv_padding(size, self.pad_mode, self.pad, self.kernel, self.stride, self.dilation)


def factor_shape(groups: int, dim: int, split_dim: int) -> tuple[int, int, int]:
    """Shape ``(groups * n_blocks, size, size)`` of the factor of ``groups`` matrices of ``dim`` rows."""
    size = min(dim, split_dim)
    return groups * block_count(dim, size), size, size


def conv_padding(size: tuple, pad_mode: str, pad, kernel: tuple, stride: tuple, dilation: tuple) -> tuple:
    """Zeros added ``(top, bottom, left, right)`` by MindSpore's Conv2d to an image of ``size`` (height, width)."""
    if pad_mode == "valid":
        return 0, 0, 0, 0
    if pad_mode == "pad":
        return (pad, pad, pad, pad) if isinstance(pad, int) else tuple(pad)
    padding = ()
    for axis in (0, 1):
        outputs = -(-size[axis] // stride[axis])
        extent = dilation[axis] * (kernel[axis] - 1) + 1
        total = max((outputs - 1) * stride[axis] + extent - size[axis], 0)
        padding = padding + (total // 2, total - total // 2)
    return padding


def block_count(dim: int, split_dim: int) -> int:
    """Diagonal blocks of a matrix of ``dim`` rows."""
    return -(-dim // split_dim)


def split_columns(rows: Tensor, groups: int, split_dim: int) -> Tensor:
    """``(n_rows, groups * dim)`` to ``(n_rows, groups * n_blocks, size)``, zero-padded."""
    n_rows, width = rows.shape
    dim = width // groups
    size = min(dim, split_dim)
    n_blocks = block_count(dim, size)
    if n_blocks * size != dim:
        rows = ops.pad(rows.reshape(n_rows, groups, dim), (0, n_blocks * size - dim))
    return rows.reshape(n_rows, groups * n_blocks, size)


def split_features(maps: Tensor, groups: int, split_dim: int) -> Tensor:
    """``(n, groups * dim, positions)`` to ``(n, groups * n_blocks, size, positions)``, zero-padded."""
    n, width, positions = maps.shape
    dim = width // groups
    size = min(dim, split_dim)
    n_blocks = block_count(dim, size)
    if n_blocks * size != dim:
        maps = ops.pad(maps.reshape(n, groups, dim, positions), (0, 0, 0, n_blocks * size - dim))
    return maps.reshape(n, groups * n_blocks, size, positions)


def diagonals(blocks: Tensor) -> Tensor:
    """``(n_blocks, size)`` of blocks ``(n_blocks, size, size)``."""
    return blocks.reshape(blocks.shape[0], -1)[:, ::blocks.shape[-1] + 1]
