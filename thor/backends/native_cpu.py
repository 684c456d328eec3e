"""CPU operators by compiled kernels: a node of the graph for each measurement, and one for all layers' gradients."""
from __future__ import annotations

import logging
from collections.abc import Sequence

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn

from thor.backends.cpu import CpuBackend
from thor.backends.geometry import ConvGeometry, factor_shape
from thor.backends.joint_product import JointProductKernel
from thor.backends.kernels import has_bfloat16, kernel
from thor.backends.preconditioning import Product

logger = logging.getLogger("thor")

ONE_BY_ONE = ConvGeometry((1, 1))


class NativeCpuBackend(CpuBackend):
    """What is not overridden is left to NumPy and to MindSpore's own operators.

    Args:
        precision: of the operands of the joint product: ``"bfloat16"``; ``"float32"``, which ``"auto"`` (default) is.
    """

    joins_products = True

    def __init__(self, precision: str = "auto"):
        super().__init__()
        self.precision = "float32" if precision == "auto" else precision
        if self.precision == "bfloat16" and not has_bfloat16():
            logger.warning("precision=bfloat16: this processor has no AVX512-BF16; steps are slower than in float32")
        self.update_kernel = kernel("UpdatedInverse", lambda blocks, scale, damping, divisor, wanted, old:
                                    (blocks, scale, scale), (ms.float32, ms.float32, ms.float32))

    def updated_inverse(self, blocks: Tensor, scale: Tensor, damping: Tensor, divisor: Tensor, selected: Tensor,
                        old: Tensor) -> tuple:
        result = self.update_kernel(blocks, scale, damping, divisor, selected, old)
        return result[0], result[1], result[2]

    def covariance_operator(self, groups: int, split_dim: int, scale: float = 1.0, column: int | None = None):
        return CovarianceKernel(ONE_BY_ONE, groups, split_dim, False, scale, column)

    def covariance_of_maps_operator(self, groups: int, split_dim: int, scale: float = 1.0, column: int | None = None):
        return CovarianceKernel(ONE_BY_ONE, groups, split_dim, False, scale, column)

    def covariance_of_patches_operator(self, geometry: ConvGeometry, groups: int, split_dim: int,
                                       append_one: bool = False, scale: float = 1.0, column: int | None = None):
        return CovarianceKernel(geometry, groups, split_dim, append_one, scale, column)

    def squares_operator(self, geometry: ConvGeometry | None = None):
        return kernel("Squares", (1,), ms.float32) if geometry is None else SquaresOfPatchesKernel(geometry)

    def finite_operator(self, tensors: Sequence[Parameter]):
        if any(tensor.dtype != ms.float32 for tensor in tensors):
            return super().finite_operator(tensors)
        return FiniteKernel()

    def joint_product_operator(self, products: Sequence[Product]):
        return JointProductKernel(products, self.precision)


class CovarianceKernel(nn.Cell):
    """``x, statistics -> scale * blocks``, ``(groups * n_blocks, size, size)``; of rows, maps or images, by their axes.

    Args:
        column: of the statistics: where it is 0 the blocks are; None computes always.
    """

    def __init__(self, geometry: ConvGeometry, groups: int, split_dim: int, append_one: bool, scale: float,
                 column: int | None):
        super().__init__(auto_prefix=False)
        self.plan = _plan(geometry, groups, split_dim, append_one, scale, -1 if column is None else column)
        taps = geometry.kernel[0] * geometry.kernel[1]

        def shape(x, statistics, plan):
            return factor_shape(groups, x[1] // groups * taps + append_one, split_dim)

        self.kernel = kernel("Covariance", shape, ms.float32, f"{groups} {taps} {append_one} {split_dim}")

    def construct(self, x, statistics):
        return self.kernel(x, statistics, self.plan)


class SquaresOfPatchesKernel(nn.Cell):
    """``images -> (1,)``, the sum of squares of their im2col rows."""

    def __init__(self, geometry: ConvGeometry):
        super().__init__(auto_prefix=False)
        self.plan = _plan(geometry, 1, 1, False, 1.0, -1)
        self.kernel = kernel("SquaresOfPatches", (1,), ms.float32)

    def construct(self, images):
        return self.kernel(images, self.plan)


def _plan(geometry: ConvGeometry, groups: int, split_dim: int, append_one: bool, scale: float, column: int) -> Tensor:
    """``struct plan`` of native/covariance.c, ``(16,)``."""
    padding = geometry.padding((1, 1)) if geometry.pad_mode != "same" else (0, 0, 0, 0)
    return Tensor(np.array([scale, groups, split_dim, column, append_one, *geometry.kernel, *geometry.stride,
                            *geometry.dilation, geometry.pad_mode == "same", *padding], np.float64))


class FiniteKernel(nn.Cell):
    """``tensors -> ()``: whether all their numbers are finite and their norm is below 1e19."""

    def __init__(self):
        super().__init__(auto_prefix=False)
        self.kernel = kernel("AllFinite", (), ms.bool_)

    def construct(self, tensors):
        return self.kernel(*tensors)
