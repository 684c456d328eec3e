"""What Dense layers and convolutions have in common: a Fisher block that is the product of two factors of blocks."""
from __future__ import annotations

from collections.abc import Sequence

from mindspore import nn, ops

from thor.backends.preconditioning import Product
from thor.layers.base import Factor, Inverse, Layer, LayerContext
from thor.layers.batch import BatchFacts


class KroneckerLayer(Layer):
    """A weight whose Fisher block is ``(HW A) x G``, both factors of blocks; its bias may be folded into A.

    With bs the batch size, s the loss scale, N the rows, HW the output positions of a convolution (1 for a Dense
    layer) and lam the damping, the update is ``(G + sqrt(lam / HW) I)^-1 g (A + sqrt(lam / HW) I)^-1 / HW``
    (Grosse & Martens 2016): the convention THOR's published constants were tuned to. The last ``1 / HW`` is stored
    with A's inverse.
    """

    multiplies = True

    def __init__(self, cells: Sequence[nn.Cell], context: LayerContext, matrix: tuple[int, int, int]):
        cell = cells[0]
        # a bias of one use among several has another count of calls than the weight
        alike = all(user.has_bias and user.bias is cell.bias for user in cells)
        folded = context.options.fold_bias and cell.has_bias and cell.bias.requires_grad and alike
        super().__init__(cells, context, matrix, cell.bias if folded else None)
        groups, rows, columns = matrix
        self.create_factor_parameters(a=context.block_shape(groups, columns + folded),
                                      g=context.block_shape(groups, rows))
        self.factors = (Factor("a", self.factor_parameters["a"], groups * (columns + folded)),
                        Factor("g", self.factor_parameters["g"], groups * rows))

    @property
    def fisher_rows(self) -> int:
        """Rows of A times rows of G over all groups, as tr A tr G sums over them; a folded bias is one of A's."""
        return self.factors[0].dim * self.factors[1].dim

    def create_preconditioner(self, batch: BatchFacts, *inverses: Inverse) -> nn.Cell:
        return KroneckerPreconditioner(self, *inverses)


class KroneckerPreconditioner(nn.Cell):
    """``G^-1 g A^-1``; a folded bias is the last column of the gradient."""

    def __init__(self, layer: Layer, inverse_a: Inverse, inverse_g: Inverse):
        super().__init__(auto_prefix=False)
        groups, rows, columns = layer.matrix
        self.matrix, self.weight_shape = layer.matrix, layer.weight.shape
        self.inverses_a, self.inverses_g = inverse_a.parameter, inverse_g.parameter
        joint = (groups, rows, columns + (layer.bias is not None))
        self.product_of_layer = Product(layer.matrix, tuple([p.shape for p in layer.parameters]), inverse_a, inverse_g)
        self.precondition = layer.context.backend.precondition_operator(joint, inverse_g.blocks, inverse_a.blocks)
        self.reshape = ops.Reshape()

    def product(self) -> Product:
        """What :meth:`construct` computes."""
        return self.product_of_layer

    def construct(self, gradients, damping):
        weight = self.reshape(gradients[0], self.matrix)
        if len(gradients) == 1:
            weight = self.precondition(weight, self.inverses_g, self.inverses_a)
            return (self.reshape(weight, self.weight_shape),)
        groups, rows, columns = self.matrix
        joint = ops.concat((weight, gradients[1].reshape(groups, rows, 1)), axis=2)
        joint = self.precondition(joint, self.inverses_g, self.inverses_a)
        return joint[:, :, :columns].reshape(self.weight_shape), joint[:, :, columns].reshape(gradients[1].shape)
