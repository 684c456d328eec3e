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
from mindspore import Parameter, Tensor, nn, ops
from mindspore.common.initializer import initializer

from thor.backends.base import Backend
from thor.layers.base import TappedLayer


@dataclass(frozen=True)
class BlockFactor:
    """A factor whose blocks a refresh inverts.

    Args:
        role: "a" (inputs), "g" (output gradients) or "unit" (2x2 Fisher blocks of BatchNorm).
        factor: parameter ``(n_blocks, size, size)`` whose gradient is the measurement.
        inverse: parameter of the same shape.
        dim: rows of the matrix without padding, over all groups.
    """

    role: str
    factor: Parameter
    inverse: Parameter
    dim: int


class Preconditioner(nn.Cell):
    """Base class: called with a layer's gradients and the damping, returns its preconditioned gradients.

    ``block_factors`` lists what :class:`thor.curvature.refresh.Refresh` inverts for the layer.
    """

    def __init__(self, layer: TappedLayer, backend: Backend, batch_size: int):
        super().__init__(auto_prefix=False)
        self.backend = backend
        self.batch_size = batch_size
        self.matrix = layer.matrix
        object.__setattr__(self, "block_factors", ())

    def own_block_factor(self, layer: TappedLayer, role: str, dim: int, measured_role: str | None = None) -> Parameter:
        """Create the inverse of one of the layer's factors, identity before the first refresh."""
        factor = layer.factors[measured_role or role]
        inverse = Parameter(Tensor(np.broadcast_to(np.eye(factor.shape[-1], dtype=np.float32), factor.shape).copy()),
                            name=f"inverse_{measured_role or role}.{layer.name}", requires_grad=False)
        object.__setattr__(self, "block_factors", self.block_factors + (BlockFactor(role, factor, inverse, dim),))
        return inverse


class KroneckerPreconditioner(Preconditioner):
    """Dense and Conv2d: two block-diagonal factors; a folded bias is the last column of the gradient."""

    def __init__(self, layer, backend, batch_size):
        super().__init__(layer, backend, batch_size)
        groups, rows, columns = layer.matrix
        self.inverse_a = self.own_block_factor(layer, "a", groups * (columns + (layer.bias is not None)))
        self.inverse_g = self.own_block_factor(layer, "g", groups * rows)
        self.reshape = ops.Reshape()
        self.weight_shape = layer.weight.shape

    def construct(self, gradients, damping):
        weight = self.reshape(gradients[0], self.matrix)
        if len(gradients) == 1:
            weight = self.backend.precondition(weight, self.inverse_g, self.inverse_a)
            return (self.reshape(weight, self.weight_shape),)
        groups, rows, columns = self.matrix
        joint = ops.concat((weight, gradients[1].reshape(groups, rows, 1)), axis=2)
        joint = self.backend.precondition(joint, self.inverse_g, self.inverse_a)
        return joint[:, :, :columns].reshape(self.weight_shape), joint[:, :, columns].reshape(gradients[1].shape)


class EmbeddingPreconditioner(Preconditioner):
    """Embedding tables: A is a diagonal over the vocabulary, G is split into blocks."""

    def __init__(self, layer, backend, batch_size):
        super().__init__(layer, backend, batch_size)
        self.factor_a = layer.factors["a"]
        self.inverse_a = Parameter(initializer("ones", self.factor_a.shape, ms.float32),
                                   name=f"inverse_a.{layer.name}", requires_grad=False)
        self.inverse_g = self.own_block_factor(layer, "g", layer.matrix[2])

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
        rows = gradients[0] * self.inverse_a.reshape(-1, 1)  # (vocab_size, embedding_size)
        product = self.backend.precondition_columns(rows.reshape(self.matrix), self.inverse_g)
        return (product.reshape(gradients[0].shape),)


class LayerNormPreconditioner(Preconditioner):
    """LayerNorm: g / (g^2 / bs + sqrt(lam)) on gamma and beta, every step."""

    def construct(self, gradients, damping):
        root = ops.sqrt(damping)
        return tuple([g / (g * g / self.batch_size + root) for g in gradients])


class BatchNormPreconditioner(Preconditioner):
    """BatchNorm: one 2x2 Fisher block of (gamma, beta) per channel, damped by lam itself."""

    def __init__(self, layer, backend, batch_size):
        super().__init__(layer, backend, batch_size)
        self.inverse_g = self.own_block_factor(layer, "unit", 2 * layer.matrix[0], measured_role="g")

    def construct(self, gradients, damping):
        joint = ops.stack((gradients[0], gradients[1]), axis=1).expand_dims(1)  # (channels, 1, 2)
        joint = self.backend.precondition_columns(joint, self.inverse_g)
        return joint[:, 0, 0], joint[:, 0, 1]


PRECONDITIONERS = {
    "kronecker": KroneckerPreconditioner,
    "embedding": EmbeddingPreconditioner,
    "layernorm": LayerNormPreconditioner,
    "batchnorm": BatchNormPreconditioner,
}
