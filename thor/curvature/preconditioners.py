"""One layer's curvature: from measured factors to damped inverses to preconditioned gradients.

The convention is the one THOR's published constants were tuned to. With bs the batch size, s the loss scale,
N the rows, HW the output positions of a convolution and lam the damping, a layer's Fisher block is
``(HW A) x G`` with HW = 1 for a Dense layer (Grosse & Martens 2016), and its update is
``(G + sqrt(lam / HW) I)^-1 g (A + sqrt(lam / HW) I)^-1 / HW``.
"""
from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops
from mindspore.common.initializer import initializer

from thor.backends.base import Backend
from thor.curvature.settings import CurvatureSettings
from thor.layers.base import TappedLayer


class Preconditioner(nn.Cell):
    """Base class: state and mathematics of one tapped layer.

    ``inverted`` holds the shapes ``(n_blocks, size, size)`` of the factors a refresh inverts. At a refresh
    the optimizer calls :meth:`fresh_factors`, inverts all layers' blocks together, and hands the result to
    :meth:`accept`; in every step it calls :meth:`precondition`.
    """

    inverted: tuple = ()

    def __init__(self, layer: TappedLayer, backend: Backend, settings: CurvatureSettings):
        super().__init__(auto_prefix=False)
        self.backend = backend
        self.batch_size = settings.batch_size
        self.running_average = settings.running_average
        self.pi_correction = settings.pi_correction
        self.matrix = layer.matrix

    def fresh_factors(self, measured: tuple, damping, gradient_scale) -> tuple:
        """Turn measurements into factors and their damping.

        Args:
            measured: gradients of the layer's factor parameters, in the order of ``TappedLayer.factors``.
            damping: lam, shape ``()``.
            gradient_scale: ``batch_size^2 / loss_scale^2``, shape ``()``.

        Returns:
            ``(factors, dampings)``, one of each per entry of ``inverted``; dampings have shape ``()``.
        """
        return (), ()

    def accept(self, measured: tuple, factors: tuple, inverses: tuple, accepted: tuple, damping):
        """Store what inverted well, keep the last good inverse elsewhere; return the blocks rejected, ``()``."""
        return Tensor(0.0, ms.float32)

    def precondition(self, gradients: tuple, damping) -> tuple:
        """Preconditioned gradients of the weight and, where it belongs to it, the bias."""
        raise NotImplementedError

    def average(self, old, measured):
        """Running average; the first factor (nothing stored yet) is taken as it is."""
        if self.running_average == 0.0:
            return measured
        weight = self.running_average * (ops.abs(old).sum() > 0).astype(ms.float32)
        return weight * old + (1.0 - weight) * measured


class KroneckerPreconditioner(Preconditioner):
    """Dense and Conv2d: two block-diagonal factors."""

    def __init__(self, layer, backend, settings):
        super().__init__(layer, backend, settings)
        self.factor_a, self.factor_g = layer.factors["a"], layer.factors["g"]
        self.inverse_a = identity_blocks(self.factor_a.shape, f"inverse_a.{layer.name}")
        self.inverse_g = identity_blocks(self.factor_g.shape, f"inverse_g.{layer.name}")
        self.inverted = (self.factor_a.shape, self.factor_g.shape)
        self.dim_a = layer.matrix[0] * (layer.matrix[2] + (layer.bias is not None))
        self.dim_g = layer.matrix[0] * layer.matrix[1]

    def fresh_factors(self, measured, damping, gradient_scale):
        calls, positions = measured[2][0], positions_of(measured[2])
        a = self.average(self.factor_a, measured[0] / calls)
        g = self.average(self.factor_g, measured[1] / calls * gradient_scale)
        root = ops.sqrt(damping / positions)
        pi = self.trace_ratio(a, g) if self.pi_correction else 1.0
        return (a, g), (root * pi, root / pi)

    def trace_ratio(self, a, g):
        """pi = sqrt(mean diagonal of A / mean diagonal of G); 1 where that is not a positive number."""
        mean_a, mean_g = trace(a) / self.dim_a, trace(g) / self.dim_g
        usable = ops.logical_and(mean_a > 0, mean_g > 0)
        return ops.where(usable, ops.sqrt(mean_a / ops.where(usable, mean_g, ops.ones_like(mean_g))),
                         ops.ones_like(mean_a))

    def accept(self, measured, factors, inverses, accepted, damping):
        positions = positions_of(measured[2])
        keep_good(self.inverse_a, inverses[0] / positions, accepted[0])
        keep_good(self.inverse_g, inverses[1], accepted[1])
        keep_good(self.factor_a, factors[0], accepted[0])
        keep_good(self.factor_g, factors[1], accepted[1])
        return rejected_blocks(accepted, measured[2])

    def precondition(self, gradients, damping):
        groups, rows, columns = self.matrix
        weight = gradients[0].reshape(groups, rows, columns)
        if len(gradients) == 1:
            return (self.backend.precondition(weight, self.inverse_g, self.inverse_a).reshape(gradients[0].shape),)
        joint = ops.concat((weight, gradients[1].reshape(groups, rows, 1)), axis=2)
        joint = self.backend.precondition(joint, self.inverse_g, self.inverse_a)
        return joint[:, :, :columns].reshape(gradients[0].shape), joint[:, :, columns].reshape(gradients[1].shape)


class EmbeddingPreconditioner(Preconditioner):
    """Embedding tables: A is a diagonal over the vocabulary, G is split into blocks."""

    def __init__(self, layer, backend, settings):
        super().__init__(layer, backend, settings)
        self.factor_a, self.factor_g = layer.factors["a"], layer.factors["g"]
        self.inverse_a = Parameter(initializer("ones", self.factor_a.shape, ms.float32),
                                   name=f"inverse_a.{layer.name}", requires_grad=False)
        self.inverse_g = identity_blocks(self.factor_g.shape, f"inverse_g.{layer.name}")
        self.inverted = (self.factor_g.shape,)

    def fresh_factors(self, measured, damping, gradient_scale):
        g = self.average(self.factor_g, measured[1] / measured[2][0] * gradient_scale)
        return (g,), (ops.sqrt(damping),)

    def accept(self, measured, factors, inverses, accepted, damping):
        a = self.average(self.factor_a, measured[0] / measured[2][0] / self.batch_size)
        finite = ops.isfinite(a).astype(ms.float32)
        keep_good(self.inverse_a, 1.0 / (a + ops.sqrt(damping)), finite)
        keep_good(self.factor_a, a, finite)
        keep_good(self.inverse_g, inverses[0], accepted[0])
        keep_good(self.factor_g, factors[0], accepted[0])
        return rejected_blocks(accepted, measured[2])

    def precondition(self, gradients, damping):
        rows = gradients[0] * self.inverse_a.reshape(-1, 1)  # (vocab_size, embedding_size)
        return (self.backend.precondition_columns(rows.reshape(self.matrix), self.inverse_g)
                .reshape(gradients[0].shape),)


class LayerNormPreconditioner(Preconditioner):
    """LayerNorm: g / (g^2 / bs + sqrt(lam)) on gamma and beta, every step."""

    def precondition(self, gradients, damping):
        root = ops.sqrt(damping)
        return tuple([g / (g * g / self.batch_size + root) for g in gradients])


class BatchNormPreconditioner(Preconditioner):
    """BatchNorm: one 2x2 Fisher block of (gamma, beta) per channel, damped by lam itself."""

    def __init__(self, layer, backend, settings):
        super().__init__(layer, backend, settings)
        self.factor_g = layer.factors["g"]
        self.inverse_g = identity_blocks(self.factor_g.shape, f"inverse_g.{layer.name}")
        self.inverted = (self.factor_g.shape,)

    def fresh_factors(self, measured, damping, gradient_scale):
        return (self.average(self.factor_g, measured[0] / measured[1][0] * gradient_scale),), (damping,)

    def accept(self, measured, factors, inverses, accepted, damping):
        keep_good(self.inverse_g, inverses[0], accepted[0])
        keep_good(self.factor_g, factors[0], accepted[0])
        return rejected_blocks(accepted, measured[1])

    def precondition(self, gradients, damping):
        joint = ops.stack((gradients[0], gradients[1]), axis=1).expand_dims(1)  # (channels, 1, 2)
        joint = self.backend.precondition_columns(joint, self.inverse_g)
        return joint[:, 0, 0], joint[:, 0, 1]


PRECONDITIONERS = {
    "kronecker": KroneckerPreconditioner,
    "embedding": EmbeddingPreconditioner,
    "layernorm": LayerNormPreconditioner,
    "batchnorm": BatchNormPreconditioner,
}


def identity_blocks(shape: tuple, name: str) -> Parameter:
    """State of an inverse before its first refresh: identity blocks ``(n_blocks, size, size)``."""
    return Parameter(Tensor(np.broadcast_to(np.eye(shape[-1], dtype=np.float32), shape).copy()),
                     name=name, requires_grad=False)


def positions_of(calls):
    """Mean output positions of the calls measured; ``calls`` is ``(calls, positions over all calls)``."""
    return calls[1] / calls[0]


def trace(blocks):
    """Trace of a block-diagonal matrix ``(n_blocks, size, size)``."""
    return (blocks * ops.eye(blocks.shape[1], blocks.shape[1], ms.float32)).sum()


def keep_good(stored: Parameter, fresh, accepted):
    """Assign ``fresh`` where accepted, leave the rest as it was; ``accepted`` broadcasts to ``stored``."""
    ops.assign(stored, ops.where(ops.broadcast_to(accepted, stored.shape) > 0, fresh, stored))


def rejected_blocks(accepted: tuple, calls):
    """Blocks of a layer that ran in this step but could not be inverted, shape ``()``."""
    rejected = Tensor(0.0, ms.float32)
    for flags in accepted:
        rejected = rejected + (1.0 - flags).sum()
    return ops.where(calls[0] > 0, rejected, ops.zeros_like(rejected))
