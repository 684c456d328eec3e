"""The compiled kernel that multiplies all layers' gradients with their inverses, as one node of a graph."""
from __future__ import annotations

from collections.abc import Sequence

import mindspore as ms
import numpy as np
from mindspore import ParameterTuple, Tensor, nn

from thor.backends.kernels import kernel
from thor.backends.preconditioning import Inverse, Product


class JointProductKernel(nn.Cell):
    """The gradients of all layers, a tuple, times their inverses."""

    def __init__(self, products: Sequence[Product], precision: str):
        super().__init__(auto_prefix=False)
        inverses = {id(inverse.parameter): inverse.parameter for product in products for inverse in product.inverses}
        inverses.update({id(product.scales): product.scales for product in products if product.scales is not None})
        self.inverses = ParameterTuple(inverses.values())
        places = {key: place for place, key in enumerate(inverses)}

        def blocks(inverse: Inverse | None) -> list[int]:
            """Tensor, first block and size; size 0 for none."""
            return [0, 0, 0] if inverse is None else [places[id(inverse.parameter)], inverse.first, inverse.size]

        def scales(product: Product) -> int:
            """Tensor, counted from 1; 0 for none."""
            return 0 if product.scales is None else 1 + places[id(product.scales)]

        plan = [[product.folded, *product.matrix, *blocks(product.inverse_g), *blocks(product.inverse_a),
                 scales(product)] for product in products]
        self.plan = Tensor(np.array(plan, np.float64))
        shapes = tuple(shape for product in products for shape in product.shapes)
        name = "PreconditionInBfloat16" if precision == "bfloat16" else "Precondition"
        self.kernel = kernel(name, shapes, (ms.float32,) * len(shapes), str(shapes))

    def construct(self, gradients):
        return self.kernel(*gradients, *self.inverses, self.plan)
