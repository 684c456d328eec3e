"""A layer kind of your own: a linear layer whose weight is stored transposed, preconditioned like a Dense layer.

``python examples/own_layer.py``
"""
import mindspore as ms
from four_lines import digits
from mindspore import Parameter, nn, ops
from mindspore.common.initializer import HeUniform, initializer

from thor import THOR, register_layer
from thor.layers import KroneckerLayer, Tap
from thor.layers.dense import DenseMeasure
from thor.layers.kronecker import KroneckerPreconditioner
from thor.train import make_train_step


class Columns(nn.Cell):
    """``y = x w`` with ``w`` ``(in, out)``."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.weight = Parameter(initializer(HeUniform(), (inputs, outputs), ms.float32), name="weight")
        self.has_bias, self.matmul = False, ops.MatMul()

    def construct(self, x):
        return self.matmul(x, self.weight)


@register_layer(Columns)
class ColumnsLayer(KroneckerLayer):
    """Which operator is tapped, what is measured there, and how the gradient is multiplied."""
    def __init__(self, cells, context):
        inputs, outputs = cells[0].weight.shape
        super().__init__(cells, context, (1, outputs, inputs))  # A (in, in), G (out, out)

    def tapped(self, cell):
        return "matmul", Tap, self.context.measure(DenseMeasure, False)

    def create_preconditioner(self, batch, *inverses):
        return TransposedPreconditioner(self, *inverses)


class TransposedPreconditioner(KroneckerPreconditioner):
    """The gradient arrives as ``(in, out)``, and its update leaves so."""
    def construct(self, gradients, damping):
        update = self.precondition(gradients[0].T.reshape(self.matrix), self.inverses_g, self.inverses_a)
        return (update.reshape(self.matrix[1:]).T,)


def main(linear=Columns) -> list[float]:
    """Loss of every step; ``linear`` makes the layers."""
    net, loss = nn.SequentialCell(nn.Flatten(), linear(64, 32), nn.ReLU(), linear(32, 10)), nn.CrossEntropyLoss()
    optimizer = THOR(net, learning_rate=0.02, damping=0.03, momentum=0.9, batch_size=50, frequency=5)
    step = make_train_step(nn.WithLossCell(net, loss), optimizer)
    losses = [float(step(*batch).asnumpy()) for batch in digits()[0].create_tuple_iterator(num_epochs=1)]
    print(optimizer.registration_table(), f"loss {losses[0]:.3f}, {losses[-1]:.3f} after an epoch", sep="\n")
    return losses

if __name__ == "__main__":
    main()
