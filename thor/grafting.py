"""How far a preconditioned update goes: as far as the gradient (grafting), no further than curvature says (KL clip)."""
from __future__ import annotations

from collections.abc import Sequence

import mindspore as ms
from mindspore import Tensor, nn, ops

from thor.maps import cut, flatten, layer_spans, scale

_half_square_sum, _multiply = ops.L2Loss(), ops.Mul()

_grafted = ops.MultitypeFuncGraph("grafted")
_inner = ops.MultitypeFuncGraph("inner")


def norm_of(tensors):
    """The L2 norm of a layer's one or two tensors together, ``()``."""
    half = _half_square_sum(tensors[0])
    if len(tensors) == 2:
        half = half + _half_square_sum(tensors[1])
    return ops.sqrt(2.0 * half)


@_grafted.register("Tuple", "Tuple")
def _graft_layer(gradients, updates):
    """The updates of a layer with the norm of its gradients; zeros stay zeros."""
    norm = norm_of(updates)
    return scale(updates, ops.select(norm == 0, norm, norm_of(gradients) / norm))


@_inner.register("Tensor", "Tensor")
def _inner_product(gradient, update):
    """Of a gradient and an update, ``()``."""
    return _multiply(gradient, update).sum()


class Grafting(nn.Cell):
    r"""``u <- u |g| / |u|``, layer by layer: the direction of one method, the step size of another.

    Source: Agarwal et al. 2020 (https://arxiv.org/abs/2002.11803), layer-wise, from SGD. A folded bias counts with its
    weight.

    Args:
        counts: tensors of each layer, one or two.

    Inputs:
        gradients, updates: of the layers, flat tuples.
    """

    def __init__(self, counts: Sequence[int]):
        super().__init__(auto_prefix=False)
        self.spans, self.places = layer_spans(counts)
        self.map = ops.Map()

    def construct(self, gradients, updates):
        groups = self.map(_grafted, cut(gradients, self.spans), cut(updates, self.spans))
        return flatten(groups, self.places)


class KLClip(nn.Cell):
    r"""``u <- nu u`` for all layers, ``nu = min(1, sqrt(kappa / sum lr^2 |u' g|))``.

    ``lr^2 u' g`` is ``dw' F dw``, twice the KL divergence that a step dw = lr u with ``u = F^-1 g`` makes to second
    order. Sources: Ba, Grosse & Martens 2017; Pauloski et al. 2021 (KAISA, https://arxiv.org/abs/2107.01739), whose sum
    this is. Gradients are those averaged over devices, so that all agree on nu.

    Args:
        kappa: > 0; 0.001 is usual.

    Inputs:
        gradients, updates: of the layers, flat tuples.
        learning_rate: of all, ``()``, or a tuple with one for each.
    """

    def __init__(self, kappa: float):
        super().__init__(auto_prefix=False)
        self.kappa = Tensor(float(kappa), ms.float32)
        self.map = ops.Map()

    def construct(self, gradients, updates, learning_rate):
        rate = ops.stack(learning_rate) if isinstance(learning_rate, tuple) else learning_rate
        moved = (ops.abs(ops.stack(self.map(_inner, gradients, updates))) * ops.square(rate)).sum()
        nu = ops.sqrt(self.kappa / ops.maximum(moved, self.kappa))  # exactly 1 up to the bound
        return scale(updates, nu)
