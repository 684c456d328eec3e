"""What a loss says of its gradients: how it goes over samples, and what it was multiplied with."""
from __future__ import annotations

import logging
from typing import Any

import mindspore as ms
from mindspore import ParameterTuple, nn, ops

from thor.layers.batch import BatchFacts
from thor.layers.tap import MEASUREMENT_SCALE

logger = logging.getLogger("thor")


def check_reduction(network: nn.Cell, sums: bool) -> None:
    """ValueError where the loss function of a loss network reduces in another way than was said.

    Known are MindSpore's own: of a ``WithLossCell``, or as an attribute of a cell, of which a warning is enough,
    for the cell may divide what it gets.
    """
    said, warned = "sum" if sums else "mean", False
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
            if not warned:
                warned = True
                logger.warning("%s, unless %s divides it", text, type(cell).__name__)


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
