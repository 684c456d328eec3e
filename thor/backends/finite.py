"""Whether all numbers of an update are finite, at the price of reading them once."""
from __future__ import annotations

from collections.abc import Sequence

import mindspore as ms
from mindspore import nn, ops

from thor.maps import pick

# The sum of squares is not finite where a number is not, and is the quickest such reduction on CPU: a fifth of
# mindspore.amp.all_finite. It also overflows where the norm exceeds 1e19, which no update that is right has.
_cast, _half_square_sum = ops.Cast(), ops.L2Loss()

_in_float32 = ops.MultitypeFuncGraph("in_float32")
_squares = ops.MultitypeFuncGraph("squares")


@_in_float32.register("Tensor")
def _to_float32(tensor):
    """The same numbers in float32."""
    return _cast(tensor, ms.float32)


@_squares.register("Tensor")
def _half_squares(tensor):
    """Half the sum of squares, ``()``."""
    return _half_square_sum(_cast(tensor, ms.float32))


class AllFinite(nn.Cell):
    """True, ``()``, where all numbers of a tuple of Tensors are finite and their norm is below 1e19.

    Args:
        shapes: of the Tensors. All vectors among them are one for the reduction: fewer operators compile sooner.
    """

    def __init__(self, shapes: Sequence[tuple]):
        super().__init__(auto_prefix=False)
        self.vectors = tuple(i for i, shape in enumerate(shapes) if len(shape) == 1)
        self.others = tuple(i for i, shape in enumerate(shapes) if len(shape) != 1)
        self.map, self.concat, self.stack = ops.Map(), ops.Concat(), ops.Stack()

    def construct(self, tensors):
        squares = ()
        if self.others:
            squares = self.map(_squares, pick(tensors, self.others))
        if self.vectors:
            squares = squares + (_half_squares(self.concat(self.map(_in_float32, pick(tensors, self.vectors)))),)
        return ops.isfinite(self.stack(squares).sum())
