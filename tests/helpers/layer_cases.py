"""One tiny layer each with its float64 update: forward, backward and curvature worked out by hand.

Every layer has the loss ``sum((y - t)^2) / (2 bs)``, so the gradient at its output is ``(y - t) / bs``.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn

from tests.helpers import reference as ref

BATCH = 4
DAMPING = 0.05


@dataclass(frozen=True)
class Options:
    """The options of THOR an expected update depends on."""

    split_dim: int | None = None
    fold_bias: bool = False
    pi_correction: bool = False
    batchnorm_blocks: bool = False
    relative_damping: bool = False


@dataclass(frozen=True)
class Case:
    """A layer, its input, and ``expected(cell, x, t, options)``: updates by attribute name."""

    name: str
    build: Callable[[], nn.Cell]
    shape: tuple
    expected: Callable
    vocabulary: int | None = None

    def create(self) -> nn.Cell:
        """The cell with random weights, the same at every call."""
        cell, rng = self.build(), np.random.default_rng(7)
        for parameter in cell.trainable_params():
            parameter.set_data(Tensor(rng.normal(0, 0.5, parameter.shape).astype(np.float32)))
        return cell

    def batch(self) -> tuple[np.ndarray, np.ndarray]:
        """Input and target; the target has the shape of the output."""
        rng = np.random.default_rng(len(self.name))
        if self.vocabulary is not None:
            x = rng.integers(0, self.vocabulary, self.shape).astype(np.int32)
        else:
            x = rng.normal(0.3, 1.0, self.shape).astype(np.float32)
        shape = np.shape(self.output(self.create(), x))
        return x, rng.normal(0, 1.0, shape).astype(np.float32)

    def output(self, cell: nn.Cell, x: np.ndarray) -> np.ndarray:
        """What an untouched MindSpore cell answers in training, operator by operator."""
        mode = ms.get_context("mode")
        ms.set_context(mode=ms.PYNATIVE_MODE)
        try:
            return cell.set_train()(Tensor(x)).asnumpy()
        finally:
            ms.set_context(mode=mode)


def value(parameter: Parameter) -> np.ndarray:
    return parameter.asnumpy().astype(np.float64)


def matrix_updates(groups, has_bias, positions, options):
    """Updates of weights and biases of a layer's groups, each given as the rows ``(x, d)`` of its product.

    Groups share one pi, that of the layer's mean traces.
    """
    fold = options.fold_bias and has_bias
    groups = [(np.concatenate((x, np.ones((len(x), 1))), axis=1) if fold else x, d) for x, d in groups]
    factors = [(ref.second_moment(x), ref.second_moment(d) * BATCH ** 2) for x, d in groups]
    pi = ref.pi_of(sum(a for a, _ in factors), sum(g for _, g in factors)) if options.pi_correction else 1.0
    damping = DAMPING
    if options.relative_damping:
        share_a, share_g = (DAMPING * np.mean([np.diag(factor) for factor in side]) for side in zip(*factors))
        damping, pi = share_a * share_g * positions, np.sqrt(share_a / share_g)
    updates = []
    for (x, d), (a, g) in zip(groups, factors):
        update = ref.kronecker_update(d.T @ x, a, g, damping, positions, split_dim=options.split_dim, pi=pi)
        updates.append((update[:, :-1], update[:, -1]) if fold else (update, d.sum(0)))
    return {"weight": np.concatenate([weight for weight, _ in updates]),
            **({"bias": np.concatenate([bias for _, bias in updates])} if has_bias else {})}


def dense(activate=lambda z, cell: z, slope=lambda z, cell: np.ones_like(z), others=lambda z, dy, cell: {}):
    """Expected updates of a Dense layer with an activation and its derivative."""

    def expected(cell, x, t, options):
        rows, targets = x.reshape(-1, x.shape[-1]).astype(np.float64), t.reshape(-1, t.shape[-1])
        z = rows @ value(cell.weight).T + (value(cell.bias) if cell.has_bias else 0.0)
        dy = (activate(z, cell) - targets) / BATCH
        d = dy * slope(z, cell)
        return {**matrix_updates([(rows, d)], cell.has_bias, 1, options), **others(z, dy, cell)}

    return expected


def pair(number) -> tuple:
    return (number, number) if isinstance(number, int) else tuple(number)


def convolution(cell, x, t, options):
    """Expected updates of a Conv2d layer, group by group."""
    kernel, stride, dilation = pair(cell.kernel_size), pair(cell.stride), pair(cell.dilation)
    padding = {"same": ref.same_padding(x.shape[2:], kernel, stride, dilation), "valid": (0, 0, 0, 0),
               "pad": (cell.padding,) * 4 if isinstance(cell.padding, int) else cell.padding}[cell.pad_mode]
    columns, weight = ref.im2col(x, kernel, stride, padding, dilation), value(cell.weight)
    y = ref.convolve(columns, weight, value(cell.bias) if cell.has_bias else None, cell.group)
    d = (y - t) / BATCH
    groups = [(ref.group_columns(columns, cell.group, k), ref.group_maps(d, cell.group, k))
              for k in range(cell.group)]
    updates = matrix_updates(groups, cell.has_bias, y.shape[2] * y.shape[3], options)
    return {**updates, "weight": updates["weight"].reshape(weight.shape)}


def convolution_1d(cell, x, t, options):
    """Expected updates of a Conv1d layer: those of a convolution over images of height 1."""
    return convolution(cell, x[:, :, None], t[:, :, None], options)


def embedding(cell, x, t, options):
    """Expected update of an embedding table."""
    ids, table = x.reshape(-1), value(cell.embedding_table)
    d = (table[ids] - t.reshape(len(ids), -1)) / BATCH
    gradient, counts = np.zeros_like(table), np.zeros(len(table))
    for row, index in zip(d, ids):
        gradient[index] += row
        counts[index] += 1
    g = ref.second_moment(d) * BATCH ** 2
    added = (DAMPING * np.mean(counts / BATCH), DAMPING * np.mean(np.diag(g))) if options.relative_damping else None
    return {"embedding_table": ref.embedding_update(gradient, counts / BATCH, g, DAMPING, options.split_dim, added)}


def layer_norm(cell, x, t, options):
    """Expected updates of a LayerNorm over the last axis."""
    rows, targets = x.reshape(-1, x.shape[-1]).astype(np.float64), t.reshape(-1, t.shape[-1])
    normalised = (rows - rows.mean(1, keepdims=True)) / np.sqrt(rows.var(1, keepdims=True) + cell.epsilon)
    d = (value(cell.gamma) * normalised + value(cell.beta) - targets) / BATCH
    gradients = {"gamma": (d * normalised).sum(0), "beta": d.sum(0)}
    relative = options.relative_damping
    return {name: ref.layer_norm_update(g, (DAMPING * np.mean(g * g) / BATCH) ** 2 if relative else DAMPING, BATCH)
            for name, g in gradients.items()}


def batch_norm(cell, x, t, options):
    """Expected updates of a BatchNorm: raw gradients, or unit-wise blocks."""
    maps, targets = x.reshape(*x.shape[:2], -1).astype(np.float64), t.reshape(*t.shape[:2], -1)
    mean, variance = maps.mean((0, 2), keepdims=True), maps.var((0, 2), keepdims=True)
    normalised = (maps - mean) / np.sqrt(variance + cell.eps)
    d = (value(cell.gamma)[:, None] * normalised + value(cell.beta)[:, None] - targets) / BATCH
    of_gamma, of_beta = (d * normalised).sum((0, 2)), d.sum((0, 2))
    if options.batchnorm_blocks:
        squares = np.square((d * normalised).sum(2)) + np.square(d.sum(2))  # (n, channels)
        damping = DAMPING * BATCH ** 2 * np.mean(squares) / 2 if options.relative_damping else DAMPING
        of_gamma, of_beta = ref.batch_norm_update(of_gamma, of_beta, d, normalised, damping, BATCH ** 2)
    return {"gamma": of_gamma, "beta": of_beta}


def leaky(z, cell):
    return np.where(z > 0, z, 0.9 * z)


def leaky_slope(z, cell):
    return np.where(z > 0, 1.0, 0.9)


def prelu(z, cell):
    return np.where(z > 0, z, value(cell.activation.w) * z)


def prelu_slope(z, cell):
    return np.where(z > 0, 1.0, value(cell.activation.w))


def prelu_weight(z, dy, cell):
    return {"activation.w": np.atleast_1d(np.where(z > 0, 0.0, z * dy).sum())}


def conv(name, shape=(BATCH, 2, 5, 4), channels=(2, 3), **settings) -> Case:
    settings = {"kernel_size": 3, "pad_mode": "same", "has_bias": False, **settings}
    return Case(name, lambda: nn.Conv2d(*channels, **settings), shape, convolution)


def conv1d(name, **settings) -> Case:
    settings = {"kernel_size": 3, "has_bias": False, **settings}
    return Case(name, lambda: nn.Conv1d(4, 6, **settings), (BATCH, 4, 9), convolution_1d)


CASES = {case.name: case for case in (
    Case("dense", lambda: nn.Dense(5, 4), (BATCH, 5), dense()),
    Case("dense_no_bias", lambda: nn.Dense(4, 7, has_bias=False), (BATCH, 4), dense()),
    Case("dense_3d", lambda: nn.Dense(5, 4), (BATCH, 3, 5), dense()),
    Case("dense_4d", lambda: nn.Dense(4, 2), (BATCH, 2, 3, 4), dense()),
    Case("dense_relu", lambda: nn.Dense(5, 4, activation="relu"), (BATCH, 5),
         dense(lambda z, cell: np.maximum(z, 0), lambda z, cell: (z > 0) * 1.0)),
    Case("dense_leaky", lambda: nn.Dense(5, 4, activation=nn.LeakyReLU(0.9)), (BATCH, 5),
         dense(leaky, leaky_slope)),
    Case("dense_prelu", lambda: nn.Dense(5, 4, activation=nn.PReLU()), (BATCH, 5),
         dense(prelu, prelu_slope, prelu_weight)),
    conv("conv_same"),
    conv("conv_same_strided", shape=(BATCH, 2, 7, 6), kernel_size=(3, 2), stride=(2, 3)),
    conv("conv_same_dilated", shape=(BATCH, 2, 7, 6), dilation=(2, 1)),
    conv("conv_valid", pad_mode="valid", kernel_size=(2, 3)),
    conv("conv_pad", pad_mode="pad", padding=1, stride=2),
    conv("conv_pad_four", pad_mode="pad", padding=(1, 2, 0, 3), stride=(2, 1)),
    conv("conv_pad_dilated", shape=(BATCH, 2, 8, 7), pad_mode="pad", padding=2, dilation=2),
    conv("conv_bias", has_bias=True, kernel_size=2),
    conv("conv_pointwise", kernel_size=1, stride=2, has_bias=True),
    conv("conv_groups", shape=(BATCH, 4, 4, 4), channels=(4, 6), group=2, has_bias=True),
    conv("conv_depthwise", shape=(BATCH, 3, 5, 5), channels=(3, 3), group=3, stride=2),
    conv1d("conv1d_same", stride=2),
    conv1d("conv1d_pad_dilated", pad_mode="pad", padding=2, dilation=2, has_bias=True),
    conv1d("conv1d_groups", pad_mode="valid", group=2),
    Case("embedding", lambda: nn.Embedding(6, 5), (BATCH, 3), embedding, 6),
    Case("embedding_padding", lambda: nn.Embedding(5, 4, padding_idx=0), (BATCH, 4), embedding, 5),
    Case("embedding_one_hot", lambda: nn.Embedding(6, 4, use_one_hot=True), (BATCH, 2), embedding, 6),
    Case("layer_norm", lambda: nn.LayerNorm((6,)), (BATCH, 3, 6), layer_norm),
    Case("batch_norm_2d", lambda: nn.BatchNorm2d(3), (BATCH, 3, 2, 3), batch_norm),
    Case("batch_norm_1d", lambda: nn.BatchNorm1d(4), (BATCH, 4), batch_norm),
)}


class Branches(nn.Cell):
    """Independent layers in one network: their losses add up, so that one graph checks them all."""

    def __init__(self, cells):
        super().__init__()
        self.cells_ = nn.CellList(cells)

    def construct(self, *batches):
        total = 0.0
        for i in range(len(self.cells_)):
            difference = self.cells_[i](batches[2 * i]) - batches[2 * i + 1]
            total = total + (difference * difference).sum() / (2 * BATCH)
        return total
