"""GPU operators: batched Cholesky by MindSpore's own kernel, im2col in one launch."""
from __future__ import annotations

import mindspore as ms
from mindspore import Tensor, ops

from thor.backends.base import Backend
from thor.backends.inversion import add_damping, verify
from thor.backends.primitives import GpuPrimitives, gpu_primitives


class GpuBackend(Backend):
    """The reference operators, with ``CholeskyTrsm`` for inverses and ``unfold`` for image patches.

    Args:
        primitives: the device's operators; default: those of the installed MindSpore.
    """

    name = "gpu"

    def __init__(self, primitives: GpuPrimitives | None = None):
        super().__init__()
        primitives = primitives or gpu_primitives()
        self.cholesky_trsm = primitives.cholesky_trsm
        self.unfold = primitives.unfold

    def damped_inverse(self, blocks: Tensor, damping: Tensor) -> tuple:
        """Invert by ``CholeskyTrsm``: ``W = L^-1``, inverse ``W'W``; see :meth:`Backend.damped_inverse`.

        With ``split_dim = 0`` the kernel takes the batch as it is, at every block size (``potrfBatched`` and
        ``trsmBatched``). Its other form splits one matrix ``(dim, dim)`` into 128-blocks: laying a batch on
        the diagonal of such a matrix would take ``n_blocks`` times the memory, for nothing.

        Three traits of the kernel shape the code. It reads only the lower triangle (of the row-major block).
        It factors in place, so the tensor it is given is not read again and never is ``blocks`` itself. It
        drops cuSOLVER's per-block status: for an indefinite block it returns whatever the factorization left
        there, often finite numbers; therefore every inverse is verified, at the price of one product.
        """
        factor = self.cholesky_trsm(add_damping(blocks, damping))
        inverse = self.matmul_tn(factor, factor)
        size = blocks.shape[-1]
        product = self.matmul(inverse, blocks) + damping * inverse
        return verify(inverse, ops.eye(size, size, ms.float32) - product)

    def patches(self, images: Tensor, kernel: tuple, stride: tuple, padding: tuple,
                dilation: tuple) -> Tensor:
        """Unfold by ``ops.unfold``; see :meth:`Backend.patches`.

        One kernel instead of ``kh * kw`` slices and a concatenation. Its feature order is the interface's.
        It pads both sides alike, so unequal padding ("same" with stride 2) is added beforehand. Upstream's
        ``ThorIm2Col`` puts features first and would need the transpose that this interface avoids.
        """
        top, bottom, left, right = padding
        n, channels, height, width = images.shape
        if kernel == (1, 1) and stride == (1, 1) and padding == (0, 0, 0, 0):
            return images.reshape(n, channels, height * width)
        if top == bottom and left == right:
            return self.unfold(images, kernel, dilation, (top, left), stride)
        return self.unfold(ops.pad(images, (left, right, top, bottom)), kernel, dilation, (0, 0), stride)
