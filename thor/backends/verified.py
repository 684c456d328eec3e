"""Damping, and the check that makes an inverse trustworthy without asking the kernel that computed it."""
from __future__ import annotations

import mindspore as ms
from mindspore import Tensor, ops

RESIDUAL_LIMIT = 0.5


def add_damping(blocks: Tensor, damping: Tensor) -> Tensor:
    """``blocks + damping I`` for blocks ``(n_blocks, size, size)`` and damping ``(n_blocks, 1, 1)``."""
    size = blocks.shape[-1]
    return blocks + damping * ops.eye(size, size, ms.float32)


def verify(inverse: Tensor, residual: Tensor) -> tuple[Tensor, Tensor]:
    """Accept the inverses whose residual is small, and zero the others.

    A computed inverse of the form ``X = W'W`` is positive semi-definite. If ``|I - XM| < 1`` in any operator
    norm, X is regular, ``X^(1/2) M X^(1/2)`` has the eigenvalues of XM, all positive, and M is positive
    definite: the residual proves what the kernel does not report. It also bounds the error,
    ``|X - M^-1| <= |I - XM| |M^-1|``. The Frobenius norm is the bound used, and one half, not one, the limit,
    for the residual is itself rounded. NaN fails the comparison. In float32 the limit is met up to condition
    numbers between 1e5 and 1e6; a worse block counts as singular.

    Args:
        inverse: ``(n_blocks, size, size)``, of the form ``W'W``.
        residual: ``I - XM`` or ``I - MX``, same shape.

    Returns:
        ``(inverse, accepted)`` as :meth:`thor.backends.base.Backend.damped_inverse` returns them.
    """
    squared_norm = (residual * residual).sum(axis=(1, 2), keepdims=True)
    accepted = squared_norm < RESIDUAL_LIMIT ** 2
    return ops.where(accepted, inverse, ops.zeros_like(inverse)), accepted.astype(ms.float32)
