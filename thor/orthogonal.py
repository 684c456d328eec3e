"""The nearest orthogonal matrix, roughly, by products alone; and the size that makes AdamW's learning rates serve."""
from __future__ import annotations

from mindspore import Tensor, ops

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of x, x^3, x^5: steep at 0, and not converging but near 1, on [0, 1]
NEWTON_SCHULZ_STEPS = 5
RMS_OF_ADAM = 0.2  # of its updates (Liu et al. 2025, https://arxiv.org/abs/2502.16982)


def orthogonalized(matrix: Tensor) -> Tensor:
    """``U V'`` of ``matrix = U S V'``, ``(rows, columns)``, roughly: singular values between 0.7 and 1.2.

    Source: the quintic Newton-Schulz iteration of Jordan et al. 2024, on the shorter side.
    """
    rows, columns = matrix.shape
    x = matrix.T if rows > columns else matrix
    x = x / (ops.sqrt(ops.square(x).sum()) + 1e-7)
    a, b, c = COEFFICIENTS
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = ops.matmul(x, x.T)
        x = a * x + ops.matmul(b * gram + c * ops.matmul(gram, gram), x)
    return x.T if rows > columns else x
