"""CPU operators: inverses and a convolution's covariances by the host's LAPACK and BLAS, called from inside the graph.

A host operator gets copies of its inputs. What MindSpore's own products do without transposing much, preconditioning
and the covariances of Dense layers, is left to them.
"""
from __future__ import annotations

import numpy as np
from mindspore import Tensor, ops

from thor.backends import host
from thor.backends.base import Backend
from thor.backends.geometry import ConvGeometry, factor_shape
from thor.backends.inversion import BlockUpdate
from thor.backends.preconditioning import BlocksToColumns, ColumnsToBlocks
from thor.backends.threads import scratch, zeros


class SplitColumns(ColumnsToBlocks):
    """Splits and stacks."""

    def __init__(self, groups: int, rows: int, n_blocks: int, size: int):
        super().__init__(groups, rows, n_blocks, size)
        self.split, self.stack = ops.Split(2, n_blocks), ops.Stack(1)

    def construct(self, matrices):
        return self.reshape(self.stack(self.split(matrices)), self.blocks)


class JoinColumns(BlocksToColumns):
    """Unstacks and concatenates."""

    def __init__(self, groups: int, rows: int, n_blocks: int, size: int):
        super().__init__(groups, rows, n_blocks, size)
        self.unstack, self.concat = ops.Unstack(1, n_blocks), ops.Concat(2)

    def construct(self, blocks):
        return self.concat(self.unstack(self.reshape(blocks, self.apart)))


class CpuBackend(Backend):
    """A convolution's covariances and all inverses are one node of the graph each."""

    name = "cpu"
    columns_to_blocks_operator, blocks_to_columns_operator = SplitColumns, JoinColumns

    def __init__(self):
        super().__init__()
        self.host_inverse = _host_operator(_damped_inverse, lambda blocks, damping: (blocks, damping), 2)
        self.host_update = _host_operator(_updated_inverse, lambda blocks, scale, *_: (blocks, scale, scale), 3)

    def damped_inverse(self, blocks: Tensor, damping: Tensor) -> tuple:
        result = self.host_inverse(blocks, damping)
        return result[0], result[1]

    def updated_inverse(self, blocks: Tensor, scale: Tensor, damping: Tensor, divisor: Tensor, selected: Tensor,
                        old: Tensor) -> tuple:
        result = self.host_update(blocks, scale, damping, divisor, selected, old)
        return result[0], result[1], result[2]

    def block_update_operator(self, spans: tuple, selective: bool):
        return BlockUpdate(self)  # saves the work of blocks that are not selected

    # MindSpore's Transpose on CPU keeps an index of eight bytes for every element and takes twice as long as these.
    def columns_to_blocks(self, matrices: Tensor, n_blocks: int) -> Tensor:
        groups, rows, columns = matrices.shape
        size = columns // n_blocks
        return ops.stack(ops.split(matrices, size, 2), 1).reshape(groups * n_blocks, rows, size)

    def covariance_of_maps_operator(self, groups: int, split_dim: int, scale: float = 1.0, column: int | None = None):
        def shape(maps):
            return factor_shape(groups, maps[1] // groups, split_dim)

        def compute(maps, blocks):
            host.covariance_of_maps(maps, blocks, groups, scale)

        return _covariance_node(compute, shape, column)

    def covariance_of_patches_operator(self, geometry: ConvGeometry, groups: int, split_dim: int,
                                       append_one: bool = False, scale: float = 1.0, column: int | None = None):
        def shape(images):
            dim = images[1] // groups * geometry.kernel[0] * geometry.kernel[1] + append_one
            return factor_shape(groups, dim, split_dim)

        def compute(images, blocks):
            host.covariance_of_patches(images, blocks, groups, geometry, append_one, scale)

        return _covariance_node(compute, shape, column)

    def squares_operator(self, geometry: ConvGeometry | None = None):
        def compute(x):
            return np.float32([host.squares(x) if geometry is None else host.squares_of_patches(x, geometry)])

        return _host_operator(compute, lambda x: (1,))


def _covariance_node(compute, shape, column: int | None):
    """A graph node ``(x, statistics)`` whose blocks ``compute`` fills; left zero where ``statistics[column]`` is 0."""
    def measure(x, statistics):
        if column is not None and statistics[column] == 0:
            return zeros(shape(x.shape))
        blocks = scratch("out", shape(x.shape))
        blocks.fill(0.0)
        compute(x, blocks)
        return blocks

    return _host_operator(measure, lambda x, statistics: shape(x))


# Custom counts a node's inputs in its function's signature: these have neither *arguments nor defaults.
def _damped_inverse(blocks, damping):
    return host.damped_inverse(blocks, damping, scratch("out", blocks.shape))


def _updated_inverse(blocks, scale, damping, divisor, selected, old):
    return host.updated_inverse(blocks, scale, damping, divisor, selected, old, scratch("out", blocks.shape))


def _host_operator(function, out_shape, outputs: int = 1):
    """A graph node that calls ``function`` on NumPy arrays; all tensors are float32."""
    def dtype(*inputs):
        return inputs[0] if outputs == 1 else (inputs[0],) * outputs

    return ops.Custom(function, out_shape=out_shape, out_dtype=dtype, func_type="pyfunc")
