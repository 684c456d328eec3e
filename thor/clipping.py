"""Limiting the length of the gradient, over all parameters together."""
from __future__ import annotations

import mindspore as ms
from mindspore import Tensor, nn, ops

from thor.checks import checked, number, optional
from thor.maps import scale

_squared = ops.MultitypeFuncGraph("squared")
_square, _cast = ops.Square(), ops.Cast()


@_squared.register("Tensor")
def _square_sum(gradient):
    """The sum of squares in float32, shape ``()``."""
    return _square(_cast(gradient, ms.float32)).sum()


class GlobalNormClip(nn.Cell):
    """A limit on the L2 norm of all gradients together (Pascanu et al. 2013, https://arxiv.org/abs/1211.5063).

    What is made of gradients longer than ``norm`` is multiplied with ``norm`` / their norm; of shorter ones it stays as
    it is, to the bit. A norm that is not finite gives results that are not all finite.

    Args:
        norm: the largest L2 norm of all gradients together, > 0.

    Inputs:
        gradients: a tuple of Tensors of any shapes, float32 or float16.
        updates: a tuple of Tensors: the gradients themselves, or what a preconditioner made of them.

    Outputs: the updates, limited, a tuple of the same shapes and types.
    """

    def __init__(self, norm: float) -> None:
        super().__init__(auto_prefix=False)
        self.norm = Tensor(float(norm), ms.float32)
        self.map = ops.HyperMap()

    def construct(self, gradients, updates):
        total = ops.sqrt(ops.stack(self.map(_squared, gradients)).sum())
        factor = self.norm / ops.maximum(total, self.norm)  # exactly 1 up to the limit
        return scale(updates, factor)


class NoClip(nn.Cell):
    """The same without a limit."""

    def construct(self, gradients, updates):
        return updates


def gradient_clip(clip_norm: float | None, loss_scale: float = 1.0) -> nn.Cell:
    """What an optimizer with the argument ``clip_norm`` does to its gradients.

    Args:
        clip_norm: limit of gradients that are not scaled, > 0, or None.
        loss_scale: what the gradients it will be given are still multiplied with.

    Raises:
        ArgumentError: clip_norm is something else.
    """
    limit = checked("clip_norm", clip_norm, optional(number(above=0), "no limit"), "use None for no limit")
    return NoClip() if limit is None else GlobalNormClip(limit * loss_scale)
