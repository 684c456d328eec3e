"""The mathematics of THOR in float64 NumPy, written from the equations and sharing nothing with the library.

Matrices are whole, never blocks: a split sets everything outside the diagonal blocks to zero, and an update
solves the explicit Kronecker system ``(G x A) vec(u) = vec(g)`` with row-major vec.
"""
from __future__ import annotations

import numpy as np


def block_mask(matrix: np.ndarray, split_dim: int | None) -> np.ndarray:
    """Zero what lies outside diagonal blocks of ``split_dim`` rows."""
    if split_dim is None:
        return matrix
    block = np.arange(matrix.shape[0]) // split_dim
    return np.where(block[:, None] == block[None, :], matrix, 0.0)


def second_moment(rows: np.ndarray) -> np.ndarray:
    """``rows' rows / n``, one outer product after the other."""
    total = np.zeros((rows.shape[1], rows.shape[1]))
    for row in np.asarray(rows, np.float64):
        total += np.outer(row, row)
    return total / rows.shape[0]


def pi_of(a: np.ndarray, g: np.ndarray) -> float:
    """Martens & Grosse 2015, section 6.3: root of the ratio of the mean eigenvalues."""
    return float(np.sqrt((np.trace(a) / a.shape[0]) / (np.trace(g) / g.shape[0])))


def kronecker_update(gradient, a, g, damping, positions=1.0, split_dim=None, pi=1.0) -> np.ndarray:
    """``G^-1 g A^-1 / HW`` of a gradient ``(rows, columns)`` with the Fisher block ``(HW A) x G``.

    Args:
        a, g: factors before damping, G after ``batch_size^2 / loss_scale^2``.
        positions: HW of a convolution.
        pi: share of the damping that goes to A.
    """
    root = np.sqrt(damping / positions)
    damped_a = block_mask(a, split_dim) + root * pi * np.eye(len(a))
    damped_g = block_mask(g, split_dim) + root / pi * np.eye(len(g))
    system = np.kron(damped_g, damped_a) * positions
    return np.linalg.solve(system, np.asarray(gradient, np.float64).reshape(-1)).reshape(gradient.shape)


def embedding_update(gradient, counts, g, damping, split_dim=None, added=None) -> np.ndarray:
    """Rows divided by their damped share of the batch, then ``G^-1``; ``added`` to A and to G, the root by default."""
    to_a, to_g = added or (np.sqrt(damping), np.sqrt(damping))
    damped = block_mask(g, split_dim) + to_g * np.eye(len(g))
    return np.linalg.solve(damped, (gradient / (counts + to_a)[:, None]).T).T


def layer_norm_update(gradient, damping, batch_size) -> np.ndarray:
    return gradient / (gradient ** 2 / batch_size + np.sqrt(damping))


def batch_norm_update(of_gamma, of_beta, d, normalised, damping, scale):
    """Unit-wise blocks; ``d`` and ``normalised`` are ``(n, channels, positions)``, scale is bs^2 / s^2."""
    gamma, beta = np.zeros(d.shape[1]), np.zeros(d.shape[1])
    for channel in range(d.shape[1]):
        rows = np.stack([(d[:, channel] * normalised[:, channel]).sum(1), d[:, channel].sum(1)], axis=1)
        block = second_moment(rows) * scale + damping * np.eye(2)
        gamma[channel], beta[channel] = np.linalg.solve(block, [of_gamma[channel], of_beta[channel]])
    return gamma, beta


def same_padding(size, kernel, stride, dilation):
    """``(top, bottom, left, right)`` so that every stride-th input position has an output."""
    padding = []
    for length, k, s, d in zip(size, kernel, stride, dilation):
        outputs = (length + s - 1) // s
        needed = max(0, (outputs - 1) * s + (k - 1) * d + 1 - length)
        padding += [needed // 2, needed - needed // 2]
    return tuple(padding)


def im2col(images, kernel, stride, padding, dilation) -> np.ndarray:
    """``(n, channels, h, w)`` to ``(n, out_h, out_w, channels * kh * kw)``, position by position."""
    top, bottom, left, right = padding
    padded = np.pad(np.asarray(images, np.float64), ((0, 0), (0, 0), (top, bottom), (left, right)))
    n, channels, height, width = padded.shape
    out_h = (height - dilation[0] * (kernel[0] - 1) - 1) // stride[0] + 1
    out_w = (width - dilation[1] * (kernel[1] - 1) - 1) // stride[1] + 1
    columns = np.zeros((n, out_h, out_w, channels, kernel[0], kernel[1]))
    for i in range(out_h):
        for j in range(out_w):
            for r in range(kernel[0]):
                for c in range(kernel[1]):
                    columns[:, i, j, :, r, c] = padded[:, :, i * stride[0] + r * dilation[0],
                                                       j * stride[1] + c * dilation[1]]
    return columns.reshape(n, out_h, out_w, -1)


def group_columns(columns, groups, group) -> np.ndarray:
    """The rows ``(n * positions, width)`` one group of a convolution sees."""
    width = columns.shape[-1] // groups
    return columns[..., group * width:(group + 1) * width].reshape(-1, width)


def group_maps(maps, groups, group) -> np.ndarray:
    """``(n, channels, h, w)`` to the rows ``(n * positions, channels / groups)`` of one group."""
    width = maps.shape[1] // groups
    return maps[:, group * width:(group + 1) * width].transpose(0, 2, 3, 1).reshape(-1, width)


def convolve(columns, weight, bias, groups) -> np.ndarray:
    """Output ``(n, out_channels, out_h, out_w)`` of a convolution from its im2col rows."""
    n, out_h, out_w, _ = columns.shape
    rows = weight.shape[0] // groups
    outputs = [group_columns(columns, groups, k) @ weight[k * rows:(k + 1) * rows].reshape(rows, -1).T
               for k in range(groups)]
    output = np.concatenate(outputs, axis=1).reshape(n, out_h, out_w, -1).transpose(0, 3, 1, 2)
    return output if bias is None else output + bias.reshape(1, -1, 1, 1)


def momentum_update(weight, moment, update, learning_rate, momentum, nesterov=False):
    """``v = mu v + u``; ``w -= lr v``, or ``lr (u + mu v)`` with Nesterov. Returns ``(w, v)``."""
    moment = momentum * moment + update
    step = update + momentum * moment if nesterov else moment
    return weight - learning_rate * step, moment
