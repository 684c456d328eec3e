"""How one layer's gradient is multiplied with its inverses; cells hold the inverses.

The convention is the one THOR's published constants were tuned to. With bs the batch size, s the loss scale,
N the rows, HW the output positions of a convolution and lam the damping, a layer's Fisher block is
``(HW A) x G`` with HW = 1 for a Dense layer (Grosse & Martens 2016), and its update is
``(G + sqrt(lam / HW) I)^-1 g (A + sqrt(lam / HW) I)^-1 / HW``; the last 1 / HW is stored with A's inverse.
"""
from __future__ import annotations

from dataclasses import dataclass

import mindspore as ms
import numpy as np
from mindspore import Parameter, nn, ops
from mindspore.common.initializer import initializer

from thor.backends.base import Backend
from thor.layers.base import TappedLayer


@dataclass(frozen=True)
class BlockFactor:
    """A factor whose blocks a refresh inverts.

    Args:
        role: "a" (inputs), "g" (output gradients) or "unit" (2x2 Fisher blocks of BatchNorm).
        factor: parameter ``(n_blocks, size, size)`` whose gradient is the measurement.
        dim: rows of the matrix without padding, over all groups.
    """

    role: str
    factor: Parameter
    dim: int


@dataclass(frozen=True)
class InverseSpan:
    """Where the inverse of a factor is kept: ``count`` blocks from ``first`` on in a parameter of many.

    Args:
        inverses: parameter ``(n_blocks, size, size)`` with the blocks of all factors of this block size.
    """

    inverses: Parameter
    first: int
    count: int

    @property
    def blocks(self) -> tuple[int, int, int]:
        """``(first, count, size)``."""
        return self.first, self.count, self.inverses.shape[-1]

    def asnumpy(self) -> np.ndarray:
        """A copy of the blocks, ``(count, size, size)``."""
        return self.inverses.asnumpy()[self.first:self.first + self.count].copy()


class Preconditioner(nn.Cell):
    """Base class: called with a layer's gradients and the damping, returns its preconditioned gradients.

    ``block_factors`` lists what :class:`thor.curvature.refresh.Refresh` inverts for the layer; ``bind`` tells where it
    keeps the inverses.
    """

    def __init__(self, layer: TappedLayer, backend: Backend, batch_size: int, *block_factors: BlockFactor):
        super().__init__(auto_prefix=False)
        self.backend = backend
        self.batch_size = batch_size
        self.matrix = layer.matrix
        object.__setattr__(self, "block_factors", block_factors)

    def bind(self, spans: list[InverseSpan]) -> None:
        """Learn where the inverses of ``block_factors`` are, in their order."""


class KroneckerPreconditioner(Preconditioner):
    """Dense and Conv2d: two block-diagonal factors; a folded bias is the last column of the gradient."""

    def __init__(self, layer, backend, batch_size):
        groups, rows, columns = layer.matrix
        super().__init__(layer, backend, batch_size,
                         BlockFactor("a", layer.factors["a"], groups * (columns + (layer.bias is not None))),
                         BlockFactor("g", layer.factors["g"], groups * rows))
        self.reshape = ops.Reshape()
        self.weight_shape = layer.weight.shape
        self.joint = (groups, rows, columns + (layer.bias is not None))

    def bind(self, spans):
        a, g = spans
        self.inverses_a, self.inverses_g = a.inverses, g.inverses
        self.precondition = self.backend.precondition_operator(self.joint, g.blocks, a.blocks)

    def construct(self, gradients, damping):
        weight = self.reshape(gradients[0], self.matrix)
        if len(gradients) == 1:
            weight = self.precondition(weight, self.inverses_g, self.inverses_a)
            return (self.reshape(weight, self.weight_shape),)
        groups, rows, columns = self.matrix
        joint = ops.concat((weight, gradients[1].reshape(groups, rows, 1)), axis=2)
        joint = self.precondition(joint, self.inverses_g, self.inverses_a)
        return joint[:, :, :columns].reshape(self.weight_shape), joint[:, :, columns].reshape(gradients[1].shape)


class EmbeddingPreconditioner(Preconditioner):
    """Embedding tables: A is a diagonal over the vocabulary, G is split into blocks."""

    def __init__(self, layer, backend, batch_size):
        super().__init__(layer, backend, batch_size, BlockFactor("g", layer.factors["g"], layer.matrix[2]))
        self.factor_a = layer.factors["a"]
        self.inverse_a = Parameter(initializer("ones", self.factor_a.shape, ms.float32),
                                   name=f"inverse_a.{layer.name}", requires_grad=False)

    def bind(self, spans):
        self.inverses_g = spans[0].inverses
        self.precondition = self.backend.precondition_columns_operator(self.matrix, spans[0].blocks)

    def refresh_diagonal(self, measured, calls, wanted, damping, average: float):
        """Refresh A from id counts ``(vocab_size,)`` summed over ``calls`` ``()``, where ``wanted`` ``()`` is 1.0.

        It is kept as it was where not finite.
        """
        a = measured / calls / self.batch_size
        wanted = ops.logical_and(ops.isfinite(a), wanted > 0)
        if average > 0:
            weight = average * (self.factor_a.sum() > 0).astype(ms.float32)
            a = weight * self.factor_a + (1.0 - weight) * a
            ops.assign(self.factor_a, ops.where(wanted, a, self.factor_a))
        ops.assign(self.inverse_a, ops.where(wanted, 1.0 / (a + ops.sqrt(damping)), self.inverse_a))

    def construct(self, gradients, damping):
        # tiled: a broadcast product on CPU keeps two indices of eight bytes for every element of the result
        scales = ops.tile(self.inverse_a.reshape(-1, 1), (1, gradients[0].shape[1]))
        rows = gradients[0] * scales  # (vocab_size, embedding_size)
        product = self.precondition(rows.reshape(self.matrix), self.inverses_g)
        return (product.reshape(gradients[0].shape),)


class LayerNormPreconditioner(Preconditioner):
    """LayerNorm: g / (g^2 / bs + sqrt(lam)) on gamma and beta, every step."""

    def construct(self, gradients, damping):
        root = ops.sqrt(damping)
        return tuple([g / (g * g / self.batch_size + root) for g in gradients])


class BatchNormPreconditioner(Preconditioner):
    """BatchNorm: one 2x2 Fisher block of (gamma, beta) per channel, damped by lam itself."""

    def __init__(self, layer, backend, batch_size):
        super().__init__(layer, backend, batch_size, BlockFactor("unit", layer.factors["g"], 2 * layer.matrix[0]))

    def bind(self, spans):
        self.inverses = spans[0].inverses
        self.precondition = self.backend.precondition_columns_operator(self.matrix, spans[0].blocks)

    def construct(self, gradients, damping):
        joint = ops.stack((gradients[0], gradients[1]), axis=1).expand_dims(1)  # (channels, 1, 2)
        joint = self.precondition(joint, self.inverses)
        return joint[:, 0, 0], joint[:, 0, 1]


PRECONDITIONERS = {
    "kronecker": KroneckerPreconditioner,
    "embedding": EmbeddingPreconditioner,
    "layernorm": LayerNormPreconditioner,
    "batchnorm": BatchNormPreconditioner,
}
