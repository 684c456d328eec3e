"""Inverses of a batch of blocks: of those that are wanted, and checked without asking the kernel that made them."""
from __future__ import annotations

import mindspore as ms
from mindspore import Tensor, nn, ops

RESIDUAL_LIMIT = 0.5

_slice = ops.Slice()
_kept = ops.MultitypeFuncGraph("kept")


@_kept.register("Tensor", "Tensor", "Tuple")
def _keep(blocks, stored, span):
    """Assign one member's part of ``blocks``."""
    return ops.depend(True, ops.assign(stored, part(blocks, span)))


class BlockUpdate(nn.Cell):
    """:meth:`thor.backends.base.Backend.updated_inverse` of all blocks."""

    def __init__(self, backend):
        super().__init__(auto_prefix=False)
        self.backend = backend

    def construct(self, blocks, scale, damping, divisor, wanted, old):
        return self.backend.updated_inverse(blocks, scale, damping, divisor, wanted, old)


class BlockUpdateIfWanted(BlockUpdate):
    """Nothing at all where none of the blocks is wanted."""

    def construct(self, blocks, scale, damping, divisor, wanted, old):
        if wanted.sum() > 0:
            return self.backend.updated_inverse(blocks, scale, damping, divisor, wanted, old)
        return old + 0.0, ops.zeros_like(wanted), ops.zeros_like(wanted)


class BlockUpdateByFactor(nn.Cell):
    """Factor by factor, for a device that inverts a batch as a whole.

    A tree over the factors: a loop would nest as deep as there are factors, and a map cannot hold the branch.

    Args:
        spans: ``(first, count)`` of each factor's blocks.
    """

    def __init__(self, backend, spans: tuple):
        super().__init__(auto_prefix=False)
        self.tree = FactorTree(backend, spans)
        self.concat = ops.Concat()

    def construct(self, blocks, scale, damping, divisor, wanted, old):
        inverses, accepted, conditions = self.tree(blocks, scale, damping, divisor, wanted, old)
        return self.concat(inverses), self.concat(accepted), self.concat(conditions)


class FactorTree(nn.Cell):
    """Updates of the factors at ``spans``: three tuples, of inverses, what was accepted, and conditions."""

    def __init__(self, backend, spans: tuple):
        super().__init__(auto_prefix=False)
        self.leaf = len(spans) == 1
        if self.leaf:
            self.span, self.update = spans[0], BlockUpdateIfWanted(backend)
        else:
            half = len(spans) // 2
            self.left, self.right = FactorTree(backend, spans[:half]), FactorTree(backend, spans[half:])

    def construct(self, blocks, scale, damping, divisor, wanted, old):
        if self.leaf:
            inverse, accepted, condition = self.update(
                part(blocks, self.span), part(scale, self.span), part(damping, self.span), part(divisor, self.span),
                part(wanted, self.span), part(old, self.span))
            return (inverse,), (accepted,), (condition,)
        left = self.left(blocks, scale, damping, divisor, wanted, old)
        right = self.right(blocks, scale, damping, divisor, wanted, old)
        return left[0] + right[0], left[1] + right[1], left[2] + right[2]


def keep_blocks(stored, spans, good, fresh):
    """Assign blocks of ``fresh`` to the parameters ``stored`` where ``good``; leave the rest as it was."""
    kept = ops.where(good, fresh, ops.Concat()(stored))
    return ops.Map()(ops.partial(_kept, kept), stored, spans)


def part(blocks: Tensor, span: tuple[int, int]) -> Tensor:
    """``count`` blocks from ``first`` on, for a span ``(first, count)``."""
    first, count = span
    if count == blocks.shape[0]:
        return blocks
    return _slice(blocks, (first, 0, 0), (count, blocks.shape[1], blocks.shape[2]))


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
