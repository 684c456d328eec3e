"""Lookahead: slow weights that follow those of another optimizer."""
from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import mindspore as ms
from mindspore import Parameter, ParameterTuple, Tensor, nn, ops

from thor.checks import IN_RANGE, checked, integer, number
from thor.grouped import WrappedOptimizer
from thor.reload import lent
from thor.train import make_train_step

SLOW = "slow"

_followed = ops.MultitypeFuncGraph("followed")


@_followed.register("Tensor", "Tensor", "Tensor")
def _follow(rest, slow, fast):
    """``slow += alpha (fast - slow); fast = slow``, written so that it is exact for alpha 1 and for equal weights."""
    moved = fast - rest * (fast - slow)
    return ops.depend(True, (ops.assign(slow, moved), ops.assign(fast, moved)))


class Lookahead(WrappedOptimizer):
    r"""k steps of another optimizer, then one of the slow weights towards it (Zhang et al. 2019,
    https://arxiv.org/abs/1907.08610).

    .. math::
        \theta \leftarrow \text{base}(\theta, g) \text{ at every step; after every } k: \quad
        \phi \leftarrow \phi + \alpha (\theta - \phi), \quad \theta \leftarrow \phi

    The network's parameters are the fast weights. The slow ones are parameters ``slow.<name>``, part of every
    checkpoint of the train step; :meth:`evaluation_weights` puts them into the network. The state of ``base``
    is kept at synchronisation. Build it when the network has the weights it starts with.

    Args:
        base: any optimizer but a Lookahead; learning rate, weight decay, groups and loss scale are its.
        k: steps between synchronisations, >= 1. Default: 5.
        alpha: slow step size, (0, 1]; 1 is ``base``. Default: 0.5.

    Raises:
        TypeError, ValueError: an argument is wrong; the message names it, its value and the remedy.
    """

    def __init__(self, base: nn.Optimizer, k: int = 5, alpha: float = 0.5):
        if not isinstance(base, nn.Optimizer) or isinstance(base, Lookahead):
            raise TypeError(f"base={type(base).__name__}; must be an optimizer other than Lookahead; "
                            "give e.g. nn.Momentum(...)")
        k = checked("k", k, integer(1), "use 5 as published")
        if checked("alpha", alpha, number(above=0), IN_RANGE) > 1:
            raise ValueError(f"alpha={alpha!r}; must be at most 1; use 0.5 as published")
        super().__init__(base)
        self.k, self.alpha = k, alpha
        self.synchronisation = Synchronisation(getattr(base, "weights", base.parameters), alpha)

    def construct(self, gradients):
        done = self.base(gradients)
        if self.due():
            done = ops.depend(done, self.synchronisation())
        return done

    def due(self):
        """Whether the slow weights move after the step just done, as a Tensor of shape ``()``."""
        return ops.equal(ops.floor_mod(self.global_step[0], self.k), 0)

    def make_train_step(self, network: nn.Cell, loss_scale_manager=None, accumulate_steps: int = 1) -> nn.Cell:
        """The train step of ``base``, followed by synchronisation; see :func:`thor.train.make_train_step`."""
        step = make_train_step(network, self.base, loss_scale_manager, accumulate_steps)
        return LookaheadStep(step, self).set_train()

    def evaluation_weights(self) -> AbstractContextManager:
        """The slow weights are the network's inside; the fast ones again afterwards."""
        return lent(self.synchronisation.weights, self.synchronisation.slow)


class Synchronisation(nn.Cell):
    """Moves the slow weights towards the fast ones, and these onto them; nothing changes where they are equal."""

    def __init__(self, weights: ParameterTuple, alpha: float):
        super().__init__(auto_prefix=False)
        self.weights = weights
        self.slow = weights.clone(prefix=SLOW)
        self.rest = Tensor(1.0 - alpha, ms.float32)
        self.map = ops.HyperMap()

    def construct(self):
        return self.map(ops.partial(_followed, self.rest), self.slow, self.weights)


class LookaheadStep(nn.Cell):
    """A train step followed by synchronisation where it is due."""

    def __init__(self, step: nn.Cell, optimizer: Lookahead):
        super().__init__(auto_prefix=False)
        self.step = step
        self.optimizer = optimizer

    def __call__(self, *inputs, **keywords):
        # from Python, because the step of a second-order base chooses its graph there
        loss = self.step(*inputs, **keywords)
        if int(self.optimizer.global_step.asnumpy()[0]) % self.optimizer.k == 0:
            self.optimizer.synchronisation()
        return loss

    def construct(self, *inputs):
        loss = self.step(*inputs)
        if self.optimizer.due():
            loss = ops.depend(loss, self.optimizer.synchronisation())
        return loss


def evaluation_weights(optimizer: nn.Optimizer):
    """A context in which the network has the weights to evaluate: the slow ones of Lookahead, else the trained."""
    return optimizer.evaluation_weights() if isinstance(optimizer, Lookahead) else nullcontext()


def evaluation_values(values: dict[str, Parameter]) -> dict[str, Parameter]:
    """Contents of a checkpoint with slow weights, if it has any, under the names of the network's parameters."""
    return {name: values.get(f"{SLOW}.{name}", value) for name, value in values.items()}
