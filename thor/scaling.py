"""What a step does to gradients before the optimizer sees them: loss scaling that skips overflow, accumulation."""
from __future__ import annotations

import mindspore as ms
from mindspore import Parameter, ParameterTuple, Tensor, nn, ops
from mindspore.amp import DynamicLossScaleManager, DynamicLossScaler, FixedLossScaleManager, StaticLossScaler

from thor.maps import pick, scale
from thor.optimizer import THOR

# Primitives, not functions of mindspore.ops: of hundreds of parameters each, they compile several times faster.
_assign, _assign_add, _depend = ops.Assign(), ops.AssignAdd(), ops.Depend()
_multiply, _zeros_like = ops.Mul(), ops.ZerosLike()

_accumulated = ops.MultitypeFuncGraph("accumulated")
_emptied = ops.MultitypeFuncGraph("emptied")


@_accumulated.register("Tensor", "Tensor")
def _accumulate(total, gradient):
    """Add a micro-batch's gradient."""
    return _depend(True, _assign_add(total, gradient))


@_emptied.register("Tensor", "Tensor")
def _empty(share, total):
    """The average, leaving zeros."""
    average = _multiply(total, share)
    return _depend(average, _assign(total, _depend(_zeros_like(average), average)))


class LossScaling(nn.Cell):
    """What the loss is multiplied with, and whether a step with overflow is skipped.

    Args:
        manager: ``None``, a float, or a MindSpore loss scale manager. Fixed with ``drop_overflow_update=False``
            leaves unscaling to the optimizer; otherwise this cell unscales and skips steps that overflow.
        optimizer: its ``loss_scale`` must agree: the manager's scale in the first case, 1 in the second; that of a
            fixed manager which drops overflow is also taken, and then the optimizer unscales.
    """

    def __init__(self, manager, optimizer):
        super().__init__(auto_prefix=False)
        fixed = float(manager) if isinstance(manager, (int, float)) else None
        if manager is None:
            fixed = optimizer.loss_scale
        elif isinstance(manager, FixedLossScaleManager) and manager.get_update_cell() is None:
            fixed = float(manager.get_loss_scale())
        self.skips_overflow = fixed is None
        # A fixed manager with its default drops overflow: published programs give the optimizer the same scale, too.
        self.optimizer_unscales = isinstance(manager, FixedLossScaleManager) and \
            optimizer.loss_scale == manager.get_loss_scale()
        expected = optimizer.loss_scale if self.optimizer_unscales else 1.0 if fixed is None else fixed
        if optimizer.loss_scale != expected:
            raise ValueError(f"loss_scale={optimizer.loss_scale:g} of the optimizer; must be {expected:g} with this "
                             f"loss scale manager; give the optimizer loss_scale={expected:g}")
        if fixed is not None:
            self.constant = Tensor(fixed, ms.float32)
            if isinstance(optimizer, THOR):
                optimizer.bind_loss_scale(fixed)
            return
        self.scaler = _create_scaler(manager)
        self.scale_value = self.scaler.scale_value
        self.skipped = Parameter(Tensor(0, ms.int32), name="overflowed_updates", requires_grad=False)
        if isinstance(self.scaler, DynamicLossScaler):
            self.counter = self.scaler.counter
        if isinstance(optimizer, THOR) and not self.optimizer_unscales:
            optimizer.bind_loss_scale(self.scale_value)

    def scale(self):
        """The present scale, shape ``()``."""
        return self.scale_value.reshape(()) if self.skips_overflow else self.constant

    def unscale(self, gradients):
        """Gradients divided by the present scale, unless the optimizer divides them.

        Not by MindSpore's scaler: compiled by itself in PyNative mode, its division knows a scale by its address and
        takes that of another scaler, deleted long ago, where a new one has come to lie in its place.
        """
        if self.optimizer_unscales:
            return gradients
        return scale(gradients, ops.reciprocal(self.scale()))

    def adjust(self, finite):
        """Adapt a dynamic scale to whether the step was finite, and count those that were not."""
        ops.assign_add(self.skipped, 1 - finite.astype(ms.int32))
        return self.scaler.adjust(finite)


def _create_scaler(manager):
    """MindSpore's scaler for a manager whose overflowing steps are skipped."""
    if isinstance(manager, FixedLossScaleManager):
        return StaticLossScaler(manager.get_loss_scale())
    if isinstance(manager, DynamicLossScaleManager):
        return DynamicLossScaler(manager.get_loss_scale(), manager.scale_factor, manager.scale_window)
    raise TypeError(f"loss_scale_manager={manager!r}; must be None, a float, FixedLossScaleManager or "
                    "DynamicLossScaleManager; use one of MindSpore's own")


class GradientAccumulator(nn.Cell):
    """Averages gradients, and measured factors with them, over micro-batches.

    Args:
        parameters: the optimizer's parameters.
        steps: micro-batches of one update.
    """

    def __init__(self, parameters: ParameterTuple, steps: int):
        super().__init__(auto_prefix=False)
        self.steps = steps
        self.share = Tensor(1.0 / steps, ms.float32)
        self.sums = parameters.clone(prefix="accumulated", init="zeros")
        self.map = ops.Map()
        self.seen = Parameter(Tensor(0, ms.int32), name="accumulated_micro_batches", requires_grad=False)

    def add(self, gradients, indices):
        """Add the gradients of parameters ``indices``; True, as a Tensor of shape ``()``, when the update is due."""
        added = self.map(_accumulated, pick(self.sums, indices), gradients)
        seen = ops.depend(self.seen + 1, added)
        ops.assign(self.seen, ops.floor_mod(seen, self.steps))
        return ops.equal(seen, self.steps)

    def take(self, indices):
        """The averages of parameters ``indices``, resetting them."""
        return self.map(ops.partial(_emptied, self.share), pick(self.sums, indices))
