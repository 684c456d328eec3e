"""Shapes: how a convolution walks over an image, how a matrix is split into blocks."""
from __future__ import annotations

from dataclasses import dataclass

from mindspore import Tensor
from mindspore.ops import constexpr


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
        return _conv_padding(size, self.pad_mode, self.pad, self.kernel, self.stride, self.dilation)


def factor_shape(groups: int, dim: int, split_dim: int) -> tuple[int, int, int]:
    """Shape ``(groups * n_blocks, size, size)`` of the factor of ``groups`` matrices of ``dim`` rows."""
    size = min(dim, split_dim)
    return groups * _block_count(dim, size), size, size


def _conv_padding(size: tuple, pad_mode: str, pad, kernel: tuple, stride: tuple, dilation: tuple) -> tuple:
    """Zeros added ``(top, bottom, left, right)`` by MindSpore's Conv2d to an image of ``size`` (height, width)."""
    if pad_mode == "valid":
        return 0, 0, 0, 0
    if pad_mode == "pad":
        return (pad, pad, pad, pad) if isinstance(pad, int) else tuple(pad)
    padding: tuple[int, ...] = ()
    for axis in (0, 1):
        outputs = -(-size[axis] // stride[axis])
        extent = dilation[axis] * (kernel[axis] - 1) + 1
        total = max((outputs - 1) * stride[axis] + extent - size[axis], 0)
        padding = padding + (total // 2, total - total // 2)
    return padding


def _block_count(dim: int, split_dim: int) -> int:
    """Diagonal blocks of a matrix of ``dim`` rows."""
    return -(-dim // split_dim)


@constexpr
def padding_in_graph(size: tuple, pad_mode: str, pad, kernel: tuple, stride: tuple, dilation: tuple) -> tuple:
    """:func:`_conv_padding`, worked out by Python while a graph is compiled; spelled out there it takes longer."""
    return _conv_padding(size, pad_mode, pad, kernel, stride, dilation)


@constexpr
def plan_columns(shape: tuple, groups: int, split_dim: int) -> tuple:
    """How rows of ``shape`` ``(n_rows, groups * dim)`` become columns of whole blocks.

    Returns:
        ``(padding, apart, joined, n_blocks)``: zeros to append to every group of rows of shape ``apart``
        ``(n_rows, groups, dim)``, and the shape ``joined`` ``(1, n_rows, n_blocks * size)`` with all groups' blocks.
    """
    n_rows, width = shape
    dim = width // groups
    n_blocks, size, _ = factor_shape(groups, dim, split_dim)
    return n_blocks // groups * size - dim, (n_rows, groups, dim), (1, n_rows, n_blocks * size), n_blocks


@constexpr
def plan_features(shape: tuple, groups: int, split_dim: int) -> tuple:
    """How maps of ``shape`` ``(n, groups * dim, positions)`` become blocks of features.

    Returns:
        ``(padding, apart, blocks)``: as of :func:`plan_columns`, ``apart`` ``(n, groups, dim, positions)`` and
        ``blocks`` ``(n, n_blocks, size, positions)``.
    """
    n, width, positions = shape
    dim = width // groups
    n_blocks, size, _ = factor_shape(groups, dim, split_dim)
    return n_blocks // groups * size - dim, (n, groups, dim, positions), (n, n_blocks, size, positions)


@constexpr
def plan_windows(shape: tuple, kernel: tuple, stride: tuple, dilation: tuple) -> tuple:
    """How padded images of ``shape`` ``(n, channels, height, width)`` are seen through a kernel.

    Returns:
        ``(windows, patches)``: for each place of the kernel ``(begin, end)`` of its slice of the images, and the shape
        ``(n, channels * kh * kw, positions)`` of all.
    """
    n, channels, *size = shape
    out = [(size[i] - dilation[i] * (kernel[i] - 1) - 1) // stride[i] + 1 for i in (0, 1)]
    windows = []
    for row in range(kernel[0]):
        for column in range(kernel[1]):
            first = row * dilation[0], column * dilation[1]
            last = [first[i] + (out[i] - 1) * stride[i] + 1 for i in (0, 1)]
            windows.append(((0, 0, *first), (n, channels, *last)))
    return tuple(windows), (n, channels * kernel[0] * kernel[1], out[0] * out[1])


def diagonals(blocks: Tensor) -> Tensor:
    """``(n_blocks, size)`` of blocks ``(n_blocks, size, size)``."""
    return blocks.reshape(blocks.shape[0], -1)[:, ::blocks.shape[-1] + 1]
