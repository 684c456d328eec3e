"""Ascend operators: inverses by matrix products only, or by the 128-block Cholesky kernel; float16 products."""
from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from thor.backends.base import Backend
from thor.backends.inversion import add_damping, verify
from thor.backends.primitives import AscendPrimitives, ascend_primitives

KERNEL_SIZE = 128
FLOAT16_PRODUCT_LIMIT = 32768.0  # half of float16's largest number


class AscendBackend(Backend):
    """The reference operators on the matrix unit (cube).

    Args:
        inverse: ``"newton_schulz"`` (default): matrix products only (:class:`NewtonSchulzInverse`);
            ``"cholesky"``: the 128-block kernel of the first Ascend 910 (:class:`CholeskyInverse`), with
            Newton-Schulz for blocks larger than 128. MindSpore 2.10's kernel selection
            refuses it; earlier versions are untried.
        precision: of covariances and preconditioning: ``"float32"``; ``"float16"``: operands scaled by their
            abs-max (:class:`ScaledHalfMatMul`); ``"auto"`` (default): float16 where the cube takes nothing
            else, which is the first Ascend 910. Inverses are always computed in float32.
        primitives: the device's operators; default: those of the installed MindSpore.

    Raises:
        ValueError: if an argument is none of these, or ``"cholesky"`` is asked of a device without the
            kernel.

    THOR takes the backend a network was converted with:
    ``tap_network(net, backend=AscendBackend(inverse="cholesky"))`` before ``THOR(net, ...)``.

    Image patches are the reference's slices: ``Im2Col`` runs on the AI CPU of older devices, and
    ``NewIm2Col`` takes float16 and "same" padding only.
    """

    name = "ascend"

    def __init__(self, inverse: str = "newton_schulz", precision: str = "auto",
                 primitives: AscendPrimitives | None = None):
        super().__init__()
        _check_choice("inverse", inverse, ("newton_schulz", "cholesky"))
        _check_choice("precision", precision, ("auto", "float32", "float16"))
        primitives = primitives or ascend_primitives(with_cholesky=inverse == "cholesky")
        if inverse == "cholesky" and (primitives.cholesky_trsm is None or primitives.vector_matmul_nt is None):
            raise ValueError("inverse='cholesky'; must be 'newton_schulz' on a device without "
                             "CusCholeskyTrsm and CusBatchMatMul (only the first Ascend 910 has them); "
                             "use 'newton_schulz'")
        if precision == "auto":
            precision = "float16" if primitives.float16_cube else "float32"
        self.inverse, self.precision = inverse, precision
        self.newton_schulz = NewtonSchulzInverse(primitives.batch_matmul)
        if inverse == "cholesky":
            self.cholesky = CholeskyInverse(primitives.cholesky_trsm, primitives.vector_matmul_nt)
        if precision == "float16":
            self.matmul_tn = ScaledHalfMatMul(primitives.batch_matmul, transpose_a=True)
            self.matmul_nt = ScaledHalfMatMul(primitives.batch_matmul, transpose_b=True)
            self.matmul = ScaledHalfMatMul(primitives.batch_matmul)

    def damped_inverse(self, blocks: Tensor, damping: Tensor) -> tuple:
        """See :meth:`Backend.damped_inverse`; the routes are described at their classes."""
        if self.inverse == "cholesky" and blocks.shape[-1] <= KERNEL_SIZE:
            return self.cholesky(blocks, damping)
        return self.newton_schulz(blocks, damping)


class NewtonSchulzInverse(nn.Cell):
    """Inverses from matrix products: ``M^-1 = Z Z'`` with Z from the coupled iteration for ``M^(-1/2)``.

    ``P_0 = M / b`` and ``Z_0 = I / sqrt(b)``, b bounding the largest eigenvalue. Each step takes
    ``T = a (3 I - a^2 P) / 2``, ``Z <- Z T``, ``P <- T P T``, so that P goes to I and Z to ``M^(-1/2)``
    (Higham, Functions of Matrices, 2008, sections 6.3 and 7.3). The damping gives a lower bound of the
    spectrum, ``l^2 = damping / b``, and with it the scaling ``a^2 = 3 / (1 + l + l^2)`` (Chen & Chow, A
    stable scaling of Newton-Schulz, 2014), which makes a small eigenvalue of P grow 6.75-fold a step, not
    2.25-fold.

    Why the square root: iterating on the inverse itself (``X <- X (2 I - M X)``) puts all rounding on one
    side. At condition 1e4 in float32 it leaves ``|I - MX|`` of 2e-3 but ``|I - XM|`` of 0.2 to 3, and the
    gradient is multiplied from that side too. ``Z Z'`` is symmetric and positive semi-definite, both
    residuals are within about 10 times those of a Cholesky inverse, and the relative error stays below
    ``condition * 1.2e-7``.

    The 14 steps converge up to condition 1e6; a block beyond what float32 carries, an indefinite one, and one that
    is not finite fail the residual check. They are a loop inside the graph, whose body is compiled once for each
    block size.

    Args:
        batch_matmul: makes a batched product; float32 inputs must be multiplied in float32.
        steps: 3 products each.
    """

    SMALLEST = 1e-5  # a smaller lower bound would scale the largest eigenvalue to zero, within rounding

    def __init__(self, batch_matmul=ops.BatchMatMul, steps: int = 14):
        super().__init__(auto_prefix=False)
        self.matmul = batch_matmul()
        self.matmul_nt = batch_matmul(transpose_b=True)
        self.steps = steps

    def construct(self, blocks, damping):
        identity = ops.eye(blocks.shape[-1], blocks.shape[-1], ms.float32)
        matrix = add_damping(blocks, damping)
        bound = ops.abs(matrix).sum(axis=2, keepdims=True).max(axis=1, keepdims=True)  # (n_blocks, 1, 1)
        product = matrix / bound  # the row-sum norm first, or the squares of small entries would vanish
        frobenius = ops.sqrt((product * product).sum(axis=(1, 2), keepdims=True))
        tighter = ops.minimum(frobenius, ops.ones_like(frobenius))
        product, bound = product / tighter, bound * tighter
        root = identity / ops.sqrt(bound)
        low = ops.sqrt(ops.maximum(damping / bound, self.SMALLEST * ops.ones_like(bound)))
        done = Tensor(0, ms.int32)
        while done < self.steps:
            squared_gain = 3.0 / (1.0 + low + low * low)
            gain = ops.sqrt(squared_gain)
            step = 0.5 * gain * (3.0 * identity - squared_gain * product)
            root = self.matmul(root, step)
            product = self.matmul(self.matmul(step, product), step)
            low = 0.5 * gain * low * (3.0 - squared_gain * low * low)
            done = done + 1
        inverse = self.matmul_nt(root, root)
        return verify(inverse, identity - self.matmul(inverse, matrix))


class CholeskyInverse(nn.Cell):
    """Inverses of blocks up to 128 by the TIK kernels of the first Ascend 910.

    ``CusCholeskyTrsm`` takes one matrix ``(k * 128, k * 128)``, reads only its diagonal blocks, one a core,
    and returns ``W = U^-1`` with ``U'U`` the block; the inverse is therefore ``W W'`` (upstream's fallback
    for other shapes multiplies ``W'W``). Smaller blocks are padded to 128 by the identity. The kernel's form
    for a single block of 64 is not used: padding keeps every block in one batch.

    ``CusBatchMatMul`` multiplies ``x y'`` in float32 on the vector unit, since the cube has float16 only. Its
    indexing is right for 1, 2, 4, 8, 16 and 32 blocks (for 6 and 24 it pairs wrong blocks), so a chunk is
    filled up with identity blocks to the next of these.

    The kernel takes square roots as ``exp(ln(x) / 2)`` and says nothing of an indefinite block; the residual
    check decides.

    Args:
        cholesky_trsm: see :class:`thor.backends.primitives.AscendPrimitives`.
        vector_matmul_nt: likewise.
        blocks_per_call: a power of two up to 32, the number of cores; the kernel's input then takes 64 MiB.
    """

    def __init__(self, cholesky_trsm, vector_matmul_nt, blocks_per_call: int = 32):
        super().__init__(auto_prefix=False)
        self.cholesky_trsm = cholesky_trsm
        self.matmul_nt = vector_matmul_nt
        self.blocks_per_call = blocks_per_call

    def construct(self, blocks, damping):
        n_blocks, size, _ = blocks.shape
        identity = ops.eye(KERNEL_SIZE, KERNEL_SIZE, ms.float32)
        matrices = add_damping(blocks, damping)
        missing = KERNEL_SIZE - size
        if missing > 0:
            matrices = ops.pad(matrices, (0, missing, 0, missing)) + _padding_identity(size)
        inverses, residuals = (), ()
        for start in range(0, n_blocks, self.blocks_per_call):
            count = min(self.blocks_per_call, n_blocks - start)
            chunk = matrices[start:start + count]
            filled = power_of_two(count)
            if filled > count:
                chunk = ops.concat((chunk, ops.tile(identity, (filled - count, 1, 1))))
            factor = self.cholesky_trsm(block_diagonal(chunk))  # (filled, 128, 128)
            inverse = self.matmul_nt(factor, factor)
            residual = identity - self.matmul_nt(inverse, chunk)
            inverses, residuals = inverses + (inverse[:count],), residuals + (residual[:count],)
        inverse, accepted = verify(ops.concat(inverses), ops.concat(residuals))
        return inverse[:, :size, :size], accepted


class ScaledHalfMatMul(nn.Cell):
    """Batched product with float16 operands, the cube's native format; float32 in and out.

    Each matrix of the batch is divided by its own abs-max and multiplied so that a sum of ``terms`` products
    can reach 32768 but not float16's 65504: no overflow, and the smallest numbers stay as far above float16's
    underflow (6e-8) as they can. The scale is restored as the product of both operands' scales. The cube
    accumulates in float32 and rounds its result to float16 once: the relative error of a product is about
    5e-4 (Frobenius norm), and entries below about 1e-7 of their matrix's largest count as zero.
    """

    def __init__(self, batch_matmul=ops.BatchMatMul, transpose_a: bool = False, transpose_b: bool = False):
        super().__init__(auto_prefix=False)
        self.matmul = batch_matmul(transpose_a=transpose_a, transpose_b=transpose_b)
        self.contracted = -2 if transpose_a else -1

    def construct(self, left, right):
        peak = (FLOAT16_PRODUCT_LIMIT / left.shape[self.contracted]) ** 0.5
        left_half, left_scale = _to_half(left, peak)
        right_half, right_scale = _to_half(right, peak)
        return self.matmul(left_half, right_half).astype(ms.float32) * left_scale * right_scale


def _to_half(matrices: Tensor, peak: float) -> tuple[Tensor, Tensor]:
    """Float16 matrices ``(..., rows, columns)`` of abs-max ``peak``, and the scales that restore them."""
    scale = ops.abs(matrices).max(axis=(-2, -1), keepdims=True) / peak
    scale = ops.where(scale > 0, scale, ops.ones_like(scale))
    return (matrices / scale).astype(ms.float16), scale


def block_diagonal(blocks: Tensor) -> Tensor:
    """``(k, size, size)`` to ``(k * size, k * size)``.

    A block that is not finite leaves NaN beside the diagonal, which the kernel does not read.
    """
    k, size, _ = blocks.shape
    spread = blocks.reshape(k, size, 1, size) * ops.eye(k, k, ms.float32).reshape(k, 1, k, 1)
    return spread.reshape(k * size, k * size)


def _padding_identity(size: int) -> Tensor:
    """``(128, 128)`` with ones on the diagonal from row ``size`` on."""
    return Tensor(np.diag((np.arange(KERNEL_SIZE) >= size).astype(np.float32)))


def power_of_two(count: int) -> int:
    """The smallest power of two that is at least ``count``."""
    return 1 << (count - 1).bit_length()


def _check_choice(name: str, value: str, allowed: tuple) -> None:
    if value not in allowed:
        raise ValueError(f"{name}={value!r}; must be one of {', '.join(map(repr, allowed))}; use {allowed[0]!r}")
