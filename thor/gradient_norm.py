"""The length of the gradient of each update, as a train step sees it."""
from __future__ import annotations

import mindspore as ms
from mindspore import Parameter, Tensor, nn, ops

NAME = "gradient_norm"
UNKNOWN = -1.0

_unscaled_square = ops.MultitypeFuncGraph("unscaled_square")
_square, _cast, _multiply = ops.Square(), ops.Cast(), ops.Mul()


@_unscaled_square.register("Tensor", "Tensor")
def _square_sum(factor, gradient):
    """The sum of squares of ``factor * gradient`` in float32, shape ``()``."""
    return _square(_multiply(_cast(gradient, ms.float32), factor)).sum()


class GradientNorm(nn.Cell):
    """Remembers the L2 norm over the gradients of all weights together.

    Attributes:
        value: the norm at the latest update, ``()``, float32; -1 before the first one and where it is not finite,
            so that a checkpoint holds finite values alone.

    Inputs:
        gradients: of the weights, a tuple of Tensors.
        scale: what they are multiplied with, ``()``.
    """

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.value = Parameter(Tensor(UNKNOWN, ms.float32), name=NAME, requires_grad=False)
        self.map = ops.HyperMap()

    def construct(self, gradients, scale):
        factor = ops.reciprocal(scale)  # first: the square of a scaled gradient may overflow where the norm does not
        norm = ops.sqrt(ops.stack(self.map(ops.partial(_unscaled_square, factor), gradients)).sum())
        return ops.assign(self.value, ops.select(ops.isfinite(norm), norm, ops.full_like(norm, UNKNOWN)))
