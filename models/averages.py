"""Exponential moving averages of a network's weights, kept beside them while it trains."""
from __future__ import annotations

from contextlib import AbstractContextManager

import mindspore as ms
from mindspore import Parameter, ParameterTuple, Tensor, nn, ops

from thor.reload import lent

PREFIX = "ema."
FLOATS = (ms.float32, ms.float16, ms.bfloat16)
BEGINNING = 9.0  # the n-th update counts at least 9 / (n + 9): the weights a run began with are soon forgotten

_averaged = ops.MultitypeFuncGraph("averaged")


@_averaged.register("Tensor", "Tensor", "Tensor")
def _average(rate, average, weight):
    """``average += rate (weight - average)``, exact where both are equal."""
    moved = average + rate * (ops.cast(weight, ms.float32) - average)
    return ops.depend(True, ops.assign(average, moved))


class WeightAverages(nn.Cell):
    r"""Averages of all float parameters of a network, BatchNorm's statistics among them, in float32.

    After the n-th update, n from 1:

    .. math::
        e \leftarrow d_n e + (1 - d_n) w, \quad d_n = \min(d, n / (n + 9))

    as in TensorFlow's ``ExponentialMovingAverage`` with ``num_updates`` (n - 1 there). They are parameters
    ``ema.<name>``, part of every checkpoint of the train step, and begin as the weights they are built with.

    Args:
        network: whose parameters are averaged.
        optimizer: counts the updates in its ``global_step``; one that is skipped is none.
        decay: d, > 0 and < 1.
    """

    def __init__(self, network: nn.Cell, optimizer: nn.Optimizer, decay: float) -> None:
        super().__init__(auto_prefix=False)
        self.counting = optimizer.opt if isinstance(optimizer, nn.LARS) else optimizer
        self.weights = ParameterTuple([p for p in network.get_parameters() if p.dtype in FLOATS])
        self.averages = ParameterTuple([Parameter(Tensor(p.asnumpy(), ms.float32), name=PREFIX + p.name,
                                                  requires_grad=False) for p in self.weights])
        self.seen = Parameter(Tensor(self.counting.global_step.asnumpy()), name="averaged_step", requires_grad=False)
        self.least = Tensor(1.0 - decay, ms.float32)
        self.map = ops.HyperMap()

    def construct(self):
        step = self.counting.global_step
        rate = ops.maximum(self.least, BEGINNING / (ops.cast(step, ms.float32).reshape(()) + BEGINNING))
        done = self.map(ops.partial(_averaged, rate), self.averages, self.weights)
        return ops.depend(done, ops.assign(self.seen, step))

    def due(self):
        """Whether there was an update since the last average, as a Tensor of shape ``()``."""
        return ops.not_equal(self.counting.global_step[0], self.seen[0])

    def is_due(self) -> bool:
        """The same on the host."""
        return bool(self.counting.global_step.asnumpy()[0] != self.seen.asnumpy()[0])

    def in_network(self) -> AbstractContextManager:
        """The network has the averages inside, and its own parameters again afterwards."""
        return lent(self.weights, self.averages)


class AveragingStep(nn.Cell):
    """A train step after each update of which the averages follow, from Python and inside a data sink's graph."""

    def __init__(self, step: nn.Cell, averages: WeightAverages, optimizer: nn.Optimizer) -> None:
        super().__init__(auto_prefix=False)
        self.step, self.averages, self.optimizer = step, averages, optimizer
        self.watch = getattr(step, "watch", None)  # of divergence, see thor.model

    def __call__(self, *inputs, **keywords):
        # from Python, because a second-order step chooses its graph there
        loss = self.step(*inputs, **keywords)
        if self.averages.is_due():
            self.averages()
        return loss

    def construct(self, *inputs):
        loss = self.step(*inputs)
        if self.averages.due():
            loss = ops.depend(loss, self.averages())
        return loss


def with_averages(step: nn.Cell, network: nn.Cell, optimizer: nn.Optimizer, decay: float) -> nn.Cell:
    """``step`` with averages of the parameters of ``network``, see ``WeightAverages``."""
    return AveragingStep(step, WeightAverages(network, optimizer, decay), optimizer).set_train()


def averages_within(contents: dict[str, Parameter], network: nn.Cell) -> dict[str, Parameter]:
    """Averages in a checkpoint, under the names and in the types of the parameters of ``network``; {} without any.

    Parameters that are not averaged, such as the state of dropout, are the checkpoint's own.
    """
    if not any(name.startswith(PREFIX) for name in contents):
        return {}
    values = dict(contents)
    for parameter in network.get_parameters():
        average = contents.get(PREFIX + parameter.name)
        if average is not None:
            values[parameter.name] = Parameter(Tensor(average.asnumpy(), parameter.dtype), name=parameter.name)
    return values
