"""Device-dependent operators: their names, and the versions and devices that have them.

================================  ===========  =====================================================
name                              MindSpore    device
================================  ===========  =====================================================
ops.operations.CholeskyTrsm       1.2 - 2.10   GPU (cuSOLVER, cuBLAS); ``nn.MatInverse`` is built on it
ops.unfold                        2.3 - 2.10   all; on Ascend's first generation by the AI CPU only
ops.operations.CusCholeskyTrsm    1.2 - 2.10   Ascend 910, first generation (TIK, profile "v100")
ops.operations.CusBatchMatMul     1.2 - 2.10   Ascend 910, first generation (TIK, profile "v100")
hal.get_device_name               2.3 - 2.10   all; announced as deprecated
================================  ===========  =====================================================

The kernel selection of MindSpore 2.10 refuses the two TIK operators on the device they are for.

Backends take their operators from here through the constructor, so that a test, or a later MindSpore, can
give them others.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mindspore import ops

# Second-generation names continue with a digit: Ascend910B1, Ascend910_9391.
FIRST_GENERATION = ("Ascend910", "Ascend910A", "Ascend910B",
                    "Ascend910ProA", "Ascend910ProB", "Ascend910PremiumA")


@dataclass(frozen=True)
class GpuPrimitives:
    """What :class:`thor.backends.gpu.GpuBackend` needs.

    Attributes:
        cholesky_trsm: ``(n_blocks, size, size)`` to the inverse lower Cholesky factors, of the same shape.
        unfold: ``ops.unfold``.
    """

    cholesky_trsm: Callable
    unfold: Callable


@dataclass(frozen=True)
class AscendPrimitives:
    """What :class:`thor.backends.ascend.AscendBackend` needs.

    Attributes:
        batch_matmul: makes a batched matrix product from ``transpose_a`` and ``transpose_b``.
        cholesky_trsm: ``(k * 128, k * 128)`` to the inverse upper Cholesky factors ``(k, 128, 128)`` of its
            diagonal blocks, or None where the device has no such kernel.
        vector_matmul_nt: float32 ``x y'`` for ``(k, 128, 128)`` on the vector unit, or None.
        float16_cube: whether the matrix unit takes float16 only.
    """

    batch_matmul: Callable[..., Any]
    cholesky_trsm: Callable | None
    vector_matmul_nt: Callable | None
    float16_cube: bool


def gpu_primitives() -> GpuPrimitives:
    """The operators of the installed MindSpore for a GPU."""
    return GpuPrimitives(ops.operations.CholeskyTrsm(), ops.unfold)


def ascend_primitives(with_cholesky: bool = False) -> AscendPrimitives:
    """The operators of the installed MindSpore for the Ascend device at hand, TIK's only where asked for."""
    first_generation = ascend_device_name() in FIRST_GENERATION
    cholesky_trsm = vector_matmul_nt = None
    if first_generation and with_cholesky:
        try:
            cholesky_trsm = ops.operations.CusCholeskyTrsm()
            vector_matmul_nt = ops.operations.CusBatchMatMul()
        except ImportError:  # both need the TIK compiler, which newer CANN releases leave out
            cholesky_trsm = vector_matmul_nt = None
    return AscendPrimitives(ops.BatchMatMul, cholesky_trsm, vector_matmul_nt, first_generation)


def ascend_device_name() -> str:
    """Name of the first Ascend device, such as ``Ascend910B4``; empty where there is none."""
    try:
        from mindspore import hal

        return hal.get_device_name(0, "Ascend")
    except (ImportError, AttributeError, RuntimeError, ValueError):
        return ""
