"""Momentum before the preconditioner, and updates of one size behind it: learning rates depend little on the task."""
from __future__ import annotations

import math
from collections.abc import Sequence

import mindspore as ms
from mindspore import Parameter, ParameterTuple, Tensor, nn, ops

from thor.adam import AdamWUpdate
from thor.grafting import norm_of
from thor.maps import cut, each, flatten, layer_spans, scale
from thor.orthogonal import RMS_OF_ADAM, orthogonalized

_ahead = ops.MultitypeFuncGraph("ahead")
_sized = ops.MultitypeFuncGraph("sized")
_moved = ops.MultitypeFuncGraph("moved")


@_ahead.register("Tensor", "Tensor", "Tensor")
def _look_ahead(momentum, moment, gradient):
    """``g + mu v`` with the new ``v = mu v + g``."""
    return gradient + momentum * (momentum * moment + gradient)


@_sized.register("Tuple", "Tensor", "Tuple")
def _size_layer(matrix, size, updates):
    """A layer's updates, of the root mean square 0.2, orthogonalised where there is a ``matrix``; zeros stay zeros."""
    if len(matrix) == 0:
        norm = norm_of(updates)
        return scale(updates, ops.select(norm == 0, norm, size / norm))
    rows, columns = matrix
    if len(updates) == 1:
        return (ops.reshape(size * orthogonalized(ops.reshape(updates[0], matrix)), updates[0].shape),)
    joint = ops.concat((ops.reshape(updates[0], (rows, columns - 1)), ops.reshape(updates[1], (rows, 1))), 1)
    joint = size * orthogonalized(joint)
    return ops.reshape(joint[:, :-1], updates[0].shape), ops.reshape(joint[:, -1:], updates[1].shape)


@_moved.register("Tensor", "Tensor", "Tensor", "Tensor", "Tensor", "Tensor", "Tensor")
def _move(momentum, rate, decay, weight, moment, gradient, update):
    running = momentum * moment + gradient
    moved = weight - rate * (update + decay * weight)
    return ops.depend(True, (ops.assign(moment, running), ops.assign(weight, moved)))


class NormalizedUpdate(nn.Cell):
    r"""Of the weights THOR preconditions, layer by layer, for gradients g

    .. math::
        v &= \mu v + g, \quad p = G^{-1} (g + \mu v) A^{-1} \\
        w &\leftarrow w - lr \, (0.2 \, p / \mathrm{rms}(p) + wd \cdot w) \text{, or} \\
        w &\leftarrow w - lr \, (0.2 \sqrt{\max(m, n)} \, U V^T + wd \cdot w), \quad p = U S V^T \in R^{m \times n}

    The momentum is Nesterov's. Its mean over batches is preconditioned, not the noise of one of them, and inverses that
    are a little old bend a direction without changing how far it goes. 0.2 is what Adam's updates come to; the second
    form is Muon's (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon; Liu et al. 2025,
    https://arxiv.org/abs/2502.16982), of a direction that knows the curvature. Grouped convolutions have the first. All
    other weights are updated by AdamW.

    Args:
        weights: those of the layers, layer after layer, then all others.
        counts: tensors of each layer, one or two; with a folded bias it is the two together that have the size.
        momentum: mu, and AdamW's beta1, [0, 1).
        beta2: of AdamW.
        decays: for each weight whether it decays.
        matrices: of each layer (m, n) where its updates are orthogonalised, a folded bias among the columns, else ().

    Attributes:
        moments: v of the layers' weights and AdamW's m of the others, in order.
        momentum: mu, a Parameter.
    """

    nesterov = True

    def __init__(self, weights: ParameterTuple, counts: Sequence[int], momentum: float, beta2: float,
                 decays: tuple[bool, ...], matrices: Sequence[tuple[int, ...]]):
        super().__init__(auto_prefix=False)
        self.n_layered = sum(counts)
        layered, others = list(weights)[:self.n_layered], list(weights)[self.n_layered:]
        self.momentum = Parameter(Tensor(momentum, ms.float32), name="momentum", requires_grad=False)
        self.has_others, moments = bool(others), []
        if layered:
            self.weights = ParameterTuple(layered)
            self.velocities = self.weights.clone("moments", "zeros")
            moments += list(self.velocities)
        if others:
            self.adam = AdamWUpdate(ParameterTuple(others), momentum, beta2, decays[self.n_layered:])
            moments += list(self.adam.moments)
        self.moments = ParameterTuple(moments)
        self.decays = tuple(Tensor(float(flag), ms.float32) for flag in decays[:self.n_layered])
        self.spans, self.places = layer_spans(counts)
        sizes = [sum(weight.size for weight in layered[first:end]) for first, end in self.spans]
        sizes = [max(matrix) if matrix else size for matrix, size in zip(matrices, sizes)]
        self.sizes = tuple(Tensor(RMS_OF_ADAM * math.sqrt(size), ms.float32) for size in sizes)
        self.matrices = tuple(matrices)
        self.map = ops.HyperMap()
        self.flat_map = ops.Map()

    def ahead(self, gradients):
        """What is preconditioned; ``gradients`` are those of the layers."""
        return self.map(ops.partial(_ahead, self.momentum), self.velocities, gradients)

    def sized(self, updates):
        """The updates of the layers, each of its size."""
        return flatten(self.flat_map(_sized, self.matrices, self.sizes, cut(updates, self.spans)), self.places)

    def construct(self, gradients, updates, learning_rate, weight_decay):
        """``gradients`` and ``updates`` of all weights; the others two scalars, or tuples with one for each weight."""
        n, done = self.n_layered, ()
        rates, decays = each(learning_rate, len(updates)), each(weight_decay, len(updates))
        if n > 0:
            own = self.map(ops.mul, decays[:n], self.decays)
            done = self.map(ops.partial(_moved, self.momentum), rates[:n], own, self.weights, self.velocities,
                            gradients[:n], updates[:n])
        if self.has_others:
            done = done + self.adam(updates[n:], rates[n:], decays[n:])
        return done
