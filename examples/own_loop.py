"""A training loop of your own: gradients from ``value_and_grad``, clipped, handed to THOR.

``python examples/own_loop.py``
"""
import mindspore as ms
from four_lines import digits, network
from mindspore import nn, ops

from thor import THOR


def main(steps=60) -> list[float]:
    """Loss of every step."""
    ms.set_seed(1)
    net, loss_fn = network(), nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean")
    optimizer = THOR(net, learning_rate=0.02, damping=0.03, momentum=0.9, batch_size=50, frequency=10)

    def forward(images, labels):
        return loss_fn(net(images), labels)

    # The factors are gradients, too: those of the parameters the optimizer has beyond the network's.
    value_and_gradients = ms.value_and_grad(forward, None, optimizer.parameters)

    @ms.jit
    def step(images, labels):
        loss, gradients = value_and_gradients(images, labels)
        gradients = ops.clip_by_global_norm(gradients, 5.0)
        return ops.depend(loss, optimizer(gradients))

    losses = []
    while len(losses) < steps:
        for images, labels in digits()[0].create_tuple_iterator(num_epochs=1):
            losses.append(float(step(images, labels).asnumpy()))
            if len(losses) == steps:
                break
    print(f"loss {losses[0]:.3f} at the first step, {losses[-1]:.3f} at step {steps}")
    print(optimizer.registration_table())
    return losses


if __name__ == "__main__":
    main()
