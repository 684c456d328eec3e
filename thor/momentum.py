"""The first-order update behind the preconditioner: weight decay, clip, momentum.

Maps over parameter tuples compile several times faster than Python loops in ``construct``.
"""
from __future__ import annotations

import mindspore as ms
from mindspore import Parameter, ParameterTuple, Tensor, nn, ops

# Primitives, not functions of mindspore.ops: of hundreds of parameters each, they compile several times faster.
_add, _multiply, _depend = ops.Add(), ops.Mul(), ops.Depend()

_decayed = ops.MultitypeFuncGraph("decayed")
_clipped = ops.MultitypeFuncGraph("clipped")
_moved = ops.MultitypeFuncGraph("moved")
_moved_nesterov = ops.MultitypeFuncGraph("moved_nesterov")


@_decayed.register("Tensor", "Bool", "Tensor", "Tensor")
def _decay(weight_decay, decays, weight, update):
    """``u + wd w`` where the parameter decays."""
    return _add(update, _multiply(weight, weight_decay)) if decays else update


@_clipped.register("Tensor")
def _clip(update):
    """A tensor scaled down to L2 norm 1; smaller ones stay as they are."""
    norm = ops.sqrt(ops.square(update).sum())
    # multiplied: MindSpore's division on CPU takes twice the time and keeps an index of every element
    return update * (1.0 / ops.maximum(norm, ops.ones_like(norm)))


@_moved.register("Function", "Tensor", "Tensor", "Tensor", "Tensor", "Tensor")
def _move(apply_momentum, momentum, learning_rate, weight, moment, update):
    """``v = mu v + u; w -= lr v``.

    The updated weight is not returned: it would leave a branch of the graph that chooses between two steps, which
    neither GPU nor Ascend compiles.
    """
    return _depend(True, apply_momentum(weight, moment, learning_rate, update, momentum))


@_moved_nesterov.register("Tensor", "Tensor", "Tensor", "Tensor", "Tensor")
def _move_nesterov(momentum, learning_rate, weight, moment, update):
    """``v = mu v + u; w -= lr (u + mu v)``, spelled out because MindSpore's CPU kernel ignores its flag."""
    velocity = momentum * moment + update
    step = ops.depend(learning_rate * (update + momentum * velocity), ops.assign(moment, velocity))
    return ops.depend(True, ops.assign_sub(weight, step))


class MomentumUpdate(nn.Cell):
    """``u += wd w`` where a parameter decays, clip, then (Nesterov) momentum.

    Args:
        weights: what is updated.
        decays: for each weight whether it decays.
        clip: clip every tensor of the update to L2 norm 1.

    Inputs:
        updates: of ``weights``, in order.
        learning_rate, weight_decay: a scalar for all weights, or a tuple with one for each.
    """

    def __init__(self, weights: ParameterTuple, momentum: float, decays: tuple[bool, ...], clip: bool, nesterov: bool):
        super().__init__(auto_prefix=False)
        self.weights = weights
        self.moments = weights.clone(prefix="moments", init="zeros")
        self.momentum = Parameter(Tensor(momentum, ms.float32), name="momentum", requires_grad=False)
        self.decays = decays
        self.decaying = any(decays)
        self.clip, self.nesterov = clip, nesterov
        self.apply_momentum = ops.ApplyMomentum()
        self.map = ops.HyperMap()

    def construct(self, updates, learning_rate, weight_decay):
        if self.decaying:
            if isinstance(weight_decay, tuple):
                updates = self.map(_decayed, weight_decay, self.decays, self.weights, updates)
            else:
                updates = self.map(ops.partial(_decayed, weight_decay), self.decays, self.weights, updates)
        if self.clip:
            updates = self.map(_clipped, updates)
        if isinstance(learning_rate, tuple):
            return self.move_each(updates, learning_rate)
        if self.nesterov:
            moved = ops.partial(_moved_nesterov, self.momentum, learning_rate)
        else:
            moved = ops.partial(_moved, self.apply_momentum, self.momentum, learning_rate)
        return self.map(moved, self.weights, self.moments, updates)

    def move_each(self, updates, learning_rates):
        """The last part with a learning rate for each weight."""
        if self.nesterov:
            moved = ops.partial(_moved_nesterov, self.momentum)
        else:
            moved = ops.partial(_moved, self.apply_momentum, self.momentum)
        return self.map(moved, learning_rates, self.weights, self.moments, updates)
