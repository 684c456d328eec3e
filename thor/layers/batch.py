"""What curvature must know of a step's batch: how many samples a device saw, and what the loss was multiplied with.

An output gradient of a mean loss over n samples, times a loss scale s, is s / n times that of a sample. G is the second
moment of the latter: n^2 / s^2 makes up for it. Where the loss is a sum, 1 / s^2 does.
"""
from __future__ import annotations

import mindspore as ms
from mindspore import Parameter, Tensor, nn, ops

from thor.inputs import samples_of

_weighed = ops.MultitypeFuncGraph("weighed")


@_weighed.register("Tensor", "Tensor", "Tensor")
def _weigh(ratio, power, measurement):
    """``ratio`` () to the ``power`` of a measurement."""
    return measurement * ops.pow(ratio, power)


class BatchFacts(nn.Cell):
    """Samples and loss scale of the latest update.

    A train step of this library tells the samples from the batch it is called with. Where measurements are summed over
    micro-batches or ranks, each is first :meth:`weighed` as one of ``batch_size`` samples, so that the batches may be
    of any size. In a loop of your own the layers show where there were fewer than ``batch_size``; more rows than that
    may be several a sample. The loss scale is the optimizer's, or measured where a
    :class:`thor.layers.loss.LossScaleTap` stands: a gradient like the factors.

    Args:
        batch_size: samples a device is said to see in one step.
        loss_scale: what the loss is said to be multiplied with.
        sums: the loss is a sum over samples, not their mean.

    Attributes:
        samples: of the latest update on this device, over all micro-batches, a scalar Parameter.
        micro_batches: of an update.
        loss_scale_statistics: ``(calls, scale)``, the factor parameter of the tap.
    """

    def __init__(self, batch_size: int, loss_scale: float, sums: bool):
        super().__init__(auto_prefix=False)
        self.batch_size, self.sums, self.told = batch_size, sums, False
        self.weighs, self.micro_batches = False, 1
        self.samples = Parameter(Tensor(batch_size, ms.float32), name="samples_of_batch", requires_grad=False)
        self.said_loss_scale = Tensor(loss_scale, ms.float32)
        statistics = Parameter(Tensor([0.0, 0.0], ms.float32), name="factor_loss_scale")
        object.__setattr__(self, "loss_scale_statistics", statistics)
        self.map = ops.Map()

    def tell(self, inputs, micro_batch=None):
        """Take the samples from the inputs of a step: tensors, batch first.

        Args:
            micro_batch: which of the update, ``()``, from 0; None: it is the only one.
        """
        samples = Tensor(float(samples_of(inputs, self.batch_size)), ms.float32)
        if micro_batch is not None:
            samples = samples + self.samples * (micro_batch > 0).astype(ms.float32)
        return ops.assign(self.samples, samples)

    def weigh(self, weighs: bool, micro_batches: int) -> None:
        """Told by a train step: whether it sums measurements, of so many micro-batches an update, or over ranks."""
        self.weighs, self.micro_batches = weighs, micro_batches

    def set_powers(self, powers):
        """How measurements grow with the samples of a mean loss: the exponent of each, scalars or shaped like it."""
        self.powers = tuple([Tensor(power, ms.float32) for power in powers])

    def weighed(self, measurements, inputs):
        """What a batch of ``batch_size`` would have measured, where measurements are summed.

        Nothing is compiled where the batch is of that size. With n samples in the batch, an output gradient is 1 / n of
        a sample's, so G grows by n^2 / batch_size^2; counts of ids become those of ``batch_size`` samples.
        """
        samples = samples_of(inputs, self.batch_size)
        if samples == self.batch_size or not self.weighs:
            return measurements
        ratio = Tensor(samples / self.batch_size, ms.float32)
        return self.map(ops.partial(_weighed, ratio), self.powers, measurements)

    def see(self, rows, calls):
        """Samples of a measured call, ``()``; where no step tells them, as the layers show them.

        Args:
            rows: leading axes of each layer's inputs, summed over its calls, ``(n_layers,)``.
            calls: likewise; where they are not whole numbers, gradients were clipped or unscaled and show nothing.
        """
        if self.weighs:
            return self.batch_size * ops.ones_like(self.samples)
        if self.told:
            return self.samples + 0.0
        count = calls.max()
        whole = ops.logical_and(count > 0.5, ops.abs(count - ops.round(count)) < 1e-3)
        most = ops.select(whole, rows.max(), ops.zeros_like(count))
        said = self.batch_size * ops.ones_like(most)
        samples = ops.select(most > 0, ops.minimum(most, said), said)
        return ops.depend(samples, ops.assign(self.samples, samples))

    def divisor(self, samples):
        """What made the gradient of a sample one of the mean over ``samples``: n, or 1 for a sum."""
        return ops.ones_like(samples) if self.sums else samples

    def loss_scale(self, statistics):
        """s, ``()``, from the measurement of :attr:`loss_scale_statistics` ``(2,)``."""
        calls = statistics[0]
        return ops.select(calls > 0, statistics[1] / calls, self.said_loss_scale.reshape(()) * ops.ones_like(calls))
