"""Preconditioning: the gradients of all layers times their inverses, at once where the device can, or one by one."""
from __future__ import annotations

from collections.abc import Sequence

from mindspore import nn, ops

from thor.backends import Backend
from thor.maps import cut, flatten, pick

_preconditioned = ops.MultitypeFuncGraph("preconditioned")


@_preconditioned.register("Tensor", "Function", "Tuple")
def _precondition_layer(damping, preconditioner, gradients):
    """The gradients of one layer's parameters, a tuple."""
    return preconditioner(gradients, damping)


def _is_product(kind: type) -> bool:
    """Whether ``product`` says what ``construct`` computes: one class has both, and none derived from it its own."""
    def owner(name: str) -> type | None:
        return next((base for base in kind.__mro__ if name in vars(base)), None)

    return owner("product") is not None and owner("product") is owner("construct")


class NetworkPreconditioner(nn.Cell):
    """Preconditioned gradients of the layers' parameters, layer after layer.

    Args:
        preconditioners: of the layers, see :meth:`thor.layers.base.Layer.create_preconditioner`.
        counts: of each layer's parameters.
    """

    def __init__(self, backend: Backend, preconditioners: Sequence[nn.Cell], counts: Sequence[int]):
        super().__init__(auto_prefix=False)
        joined = [i for i, cell in enumerate(preconditioners) if backend.joins_products and _is_product(type(cell))]
        alone = [i for i in range(len(counts)) if i not in joined]
        firsts = [sum(counts[:i]) for i in range(len(counts))]
        self.joined = tuple(firsts[i] + part for i in joined for part in range(counts[i]))  # places of gradients
        if joined:
            self.joint = backend.joint_product_operator([preconditioners[i].product() for i in joined])
        self.each = tuple(preconditioners[i] for i in alone)
        self.preconditioners = nn.CellList(list(self.each), auto_prefix=False)
        self.spans = tuple((firsts[i], firsts[i] + counts[i]) for i in alone)
        found = {place: (0, k) for k, place in enumerate(self.joined)}  # in (joint updates, those of a layer, ...)
        found.update({firsts[i] + part: (1 + k, part) for k, i in enumerate(alone) for part in range(counts[i])})
        self.places = tuple(found[place] for place in range(len(found)))
        self.map = ops.Map()

    def construct(self, gradients, damping):
        """``damping`` is lam, ``()``."""
        joint, groups = (), ()
        if len(self.joined) > 0:
            joint = self.joint(pick(gradients, self.joined))
        if len(self.each) == 0:
            return joint
        groups = self.map(ops.partial(_preconditioned, damping), self.each, cut(gradients, self.spans))
        return flatten((joint,) + groups, self.places)
