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


class BatchFacts(nn.Cell):
    """Samples and loss scale of the latest step.

    A train step of this library tells the samples from the batch it is called with. In a loop of your own the layers
    show where there were fewer than ``batch_size``; more rows than that may be several a sample. The loss scale is the
    optimizer's, or measured where a :class:`LossScaleTap` stands: a gradient like the factors.

    Args:
        batch_size: samples a device is said to see in one step.
        loss_scale: what the loss is said to be multiplied with.
        sums: the loss is a sum over samples, not their mean.

    Attributes:
        samples: of the latest step, a scalar Parameter.
        loss_scale_statistics: ``(calls, scale)``, the factor parameter of the tap.
    """

    def __init__(self, batch_size: int, loss_scale: float, sums: bool):
        super().__init__(auto_prefix=False)
        self.batch_size, self.sums, self.told, self.warned = batch_size, sums, False, False
        self.samples = Parameter(Tensor(batch_size, ms.float32), name="samples_of_batch", requires_grad=False)
        self.said_loss_scale = Tensor(loss_scale, ms.float32)
        statistics = Parameter(Tensor([0.0, 0.0], ms.float32), name="factor_loss_scale")
        object.__setattr__(self, "loss_scale_statistics", statistics)

    def tell(self, inputs):
        """Take the samples from the inputs of a step: tensors, batch first."""
        return ops.assign(self.samples, Tensor(float(samples_of(inputs, self.batch_size)), ms.float32))

    def see(self, rows):
        """The samples, ``()``, where no step tells them as the layers show them.

        Args:
            rows: leading axis of each layer's input, ``(n_layers,)``; not finite where it did not run.
        """
        if self.told:
            return self.samples + 0.0
        most = ops.select(ops.isfinite(rows), rows, ops.zeros_like(rows)).max()
        said = self.batch_size * ops.ones_like(most)
        samples = ops.select(most > 0, ops.minimum(most, said), said)
        return ops.depend(samples, ops.assign(self.samples, samples))

    def divisor(self):
        """What made the gradient of a sample one of the mean: n, or 1 for a sum."""
        return ops.ones_like(self.samples) if self.sums else self.samples + 0.0

    def loss_scale(self, statistics):
        """s, ``()``, from the measurement of :attr:`loss_scale_statistics` ``(2,)``."""
        calls = statistics[0]
        return ops.select(calls > 0, statistics[1] / calls, self.said_loss_scale.reshape(()) * ops.ones_like(calls))

    def check_loss(self, network: nn.Cell) -> None:
        """ValueError where a loss function of MindSpore's in a loss network reduces in another way than was said."""
        said = "sum" if self.sums else "mean"
        for _, cell in network.cells_and_names():
            loss: Any = getattr(cell, "_loss_fn", None) if isinstance(cell, nn.WithLossCell) else None
            if not type(loss).__module__.startswith("mindspore.nn.loss") or not loss.reduce:
                continue
            reduction = "mean" if loss.average else "sum"
            if reduction != said:
                raise ValueError(f"loss_reduction={said!r}; must be {reduction!r}, the reduction of this "
                                 f"{type(loss).__name__}; give THOR loss_reduction={reduction!r}")

    def warn_once(self) -> None:
        """Warn, the first time, of a batch that is not of the size said."""
        samples = int(self.samples.asnumpy())
        if samples != self.batch_size and not self.warned:
            self.warned = True
            logger.warning("batch_size=%d; this step saw %d samples, and curvature is measured with those; give "
                           "batch_size=%d if that is what a device sees in one step", self.batch_size, samples, samples)


def samples_of(inputs: tuple, batch_size: int) -> int:
    """The leading axis of the tensors in a batch: ``batch_size`` where one of them has it, else that of the first."""
    axes = [x.shape[0] for x in inputs if isinstance(x, Tensor) and x.ndim > 0]
    if batch_size in axes or not axes:
        return batch_size
    return axes[0]


class LossScaleTap(nn.Cell):
    """A loss network whose backward pass tells what its loss was multiplied with; its attributes are the network's.

    Args:
        network: returns a loss; where it returns more, nothing is measured.
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
        loss = self.network(*inputs)
        return self.measure(loss, self.statistics[0]) if isinstance(loss, Tensor) else loss


class _MeasureLossScale(nn.Cell):
    """Identity on the loss; the gradient of ``statistics`` is ``(1, scale)``."""

    def __init__(self):
        super().__init__(auto_prefix=False)

    def construct(self, loss, statistics):
        return loss

    def bprop(self, loss, statistics, out, dout):
        scale = dout.astype(ms.float32).mean().reshape(1)
        return dout, ops.concat((ops.ones_like(scale), scale)) * MEASUREMENT_SCALE
