"""What curvature must know of a step's batch: how many samples a device saw, and what the loss was multiplied with.

An output gradient of a mean loss over n samples, times a loss scale s, is s / n times that of a sample. G is the second
moment of the latter: n^2 / s^2 makes up for it. Where the loss is a sum, 1 / s^2 does.
"""
from __future__ import annotations

import logging
from typing import Any

import mindspore as ms
from mindspore import Parameter, ParameterTuple, Tensor, nn, ops

from thor.layers.tap import MEASUREMENT_SCALE

logger = logging.getLogger("thor")

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
    may be several a sample. The loss scale is the optimizer's, or measured where a :class:`LossScaleTap` stands: a
    gradient like the factors.

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
        self.warned = self.warned_of_loss = False
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

    def check_loss(self, network: nn.Cell) -> None:
        """ValueError where the loss function of a loss network reduces in another way than was said.

        Known are MindSpore's own: of a ``WithLossCell``, or as an attribute of a cell, of which a warning is enough,
        for the cell may divide what it gets.
        """
        said = "sum" if self.sums else "mean"
        for _, cell in network.cells_and_names():
            certain = isinstance(cell, nn.WithLossCell)
            for loss in [getattr(cell, "_loss_fn", None)] if certain else cell.cells():
                reduction = reduction_of(loss)
                if reduction in (None, said):
                    continue
                text = (f"loss_reduction={said!r}; must be {reduction!r}, the reduction of this "
                        f"{type(loss).__name__}; give THOR loss_reduction={reduction!r}")
                if certain:
                    raise ValueError(text)
                if not self.warned_of_loss:
                    self.warned_of_loss = True
                    logger.warning("%s, unless %s divides it", text, type(cell).__name__)

    def warn_once(self, inputs) -> None:
        """Warn, the first time, where the inputs of a step are no batch of the size said."""
        samples = samples_of(inputs, self.batch_size)
        if samples != self.batch_size and not self.warned:
            self.warned = True
            logger.warning("batch_size=%d; this step saw %d samples, and curvature is measured with those; give "
                           "batch_size=%d if that is what a device sees in one step", self.batch_size, samples, samples)


def samples_of(inputs, batch_size: int) -> int:
    """The leading axis most tensors of a batch have, tuples and dicts looked into.

    Of axes equally often ``batch_size``, if it is one of them, else the first.
    """
    axes = leading_axes(inputs)
    best, times = batch_size, 0
    for axis in axes:
        count = sum([1 for other in axes if other == axis])
        if count > times or (count == times and axis == batch_size):
            best, times = axis, count
    return best


def leading_axes(inputs) -> list[int]:
    """Of the tensors in a tuple, a list or a dict, one after the other."""
    axes: list[int] = []
    for x in inputs.values() if isinstance(inputs, dict) else inputs:
        if isinstance(x, (tuple, list, dict)):
            axes = axes + leading_axes(x)
        elif isinstance(x, Tensor) and x.ndim > 0:
            axes = axes + [x.shape[0]]
    return axes


def reduction_of(loss: Any) -> str | None:
    """"mean" or "sum", how a loss function of MindSpore's goes over samples (items left apart are summed when they are
    differentiated); None of others.
    """
    if not type(loss).__module__.startswith("mindspore.nn.loss"):
        return None
    reduction = getattr(loss, "reduction", None)
    if reduction not in ("mean", "sum", "none") and hasattr(loss, "reduce"):
        reduction = "none" if not loss.reduce else "mean" if loss.average else "sum"
    return {"mean": "mean", "sum": "sum", "none": "sum"}.get(str(reduction))


class LossScaleTap(nn.Cell):
    """A loss network whose backward pass tells what its loss was multiplied with; its attributes are the network's.

    Args:
        network: returns a loss, or a tuple that begins with it.
        facts: of the optimizer.
    """

    def __init__(self, network: nn.Cell, facts: BatchFacts):
        super().__init__(auto_prefix=False)
        self.network, self.measure = network, _MeasureLossScale()
        object.__setattr__(self, "statistics", ParameterTuple((facts.loss_scale_statistics,)))

    def __getattr__(self, name):
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "network":
                raise
            return getattr(self.network, name)

    def construct(self, *inputs):
        outputs = self.network(*inputs)
        if isinstance(outputs, tuple):
            return (self.measure(outputs[0], self.statistics[0]),) + outputs[1:]
        return self.measure(outputs, self.statistics[0])


class _MeasureLossScale(nn.Cell):
    """Identity on the loss; the gradient of ``statistics`` is ``(1, scale)``."""

    def __init__(self):
        super().__init__(auto_prefix=False)

    def construct(self, loss, statistics):
        return loss

    def bprop(self, loss, statistics, out, dout):
        scale = dout.astype(ms.float32).mean().reshape(1)
        return dout, ops.concat((ops.ones_like(scale), scale)) * MEASUREMENT_SCALE
