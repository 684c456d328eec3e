"""Train steps: two compiled graphs, loss scaling that skips overflow, gradient accumulation."""
from __future__ import annotations

import mindspore as ms
from mindspore import Parameter, ParameterTuple, Tensor, nn, ops
from mindspore.amp import (DynamicLossScaleManager, DynamicLossScaler, FixedLossScaleManager, StaticLossScaler,
                           all_finite)

from thor.arguments import check_int
from thor.maps import pick
from thor.optimizer import SECOND_ORDER, STALE, THOR
from thor.parallel import FactorReducer, world

# Primitives, not functions of mindspore.ops: of hundreds of parameters each, they compile several times faster.
_assign, _assign_add, _depend = ops.Assign(), ops.AssignAdd(), ops.Depend()
_add, _multiply, _zeros_like = ops.Add(), ops.Mul(), ops.ZerosLike()

_accumulated = ops.MultitypeFuncGraph("accumulated")
_emptied = ops.MultitypeFuncGraph("emptied")


@_accumulated.register("Tensor", "Tensor", "Tensor")
def _accumulate(share, total, gradient):
    """Add a micro-batch's part of the average."""
    return _depend(True, _assign_add(total, _multiply(gradient, share)))


@_emptied.register("Tensor", "Tensor")
def _empty(zero, total):
    """The average, leaving zeros."""
    average = _add(total, zero)
    return _depend(average, _assign(total, _depend(_zeros_like(average), average)))


class TrainStep(nn.TrainOneStepCell):
    """One step in one graph: loss, gradients, and the update unless a gradient overflowed.

    Args:
        network: computes the loss, shape ``()``, from a batch.
        optimizer: any ``nn.Optimizer``.
        indices: which of ``optimizer.parameters`` to differentiate with respect to; all by default.
        scaling: loss scaling and overflow policy.
        accumulator: sums gradients over micro-batches; ``None`` updates at every call.
    """

    def __init__(self, network, optimizer, scaling: "LossScaling", indices=None, accumulator=None):
        super().__init__(network, optimizer)
        self.indices = indices or tuple(range(len(optimizer.parameters)))
        if indices is not None:
            self.weights = ParameterTuple([optimizer.parameters[i] for i in indices])
        if self.reducer_flag:
            self.grad_reducer = GradientReducer(optimizer, self.indices)
        self.scaling = scaling
        self.accumulator = accumulator

    def construct(self, *inputs):
        loss = self.network(*inputs)
        sens = ops.ones_like(loss) * self.scaling.scale().astype(loss.dtype)
        gradients = self.grad(self.network, self.weights)(*inputs, sens)
        gradients = self.grad_reducer(gradients)
        if self.accumulator is None:
            return ops.depend(loss, self.update(gradients))
        if self.accumulator.add(gradients, self.indices):
            self.update(self.accumulator.take(self.indices))
        return loss

    def update(self, gradients):
        """Apply the optimizer, or skip it when ``scaling`` checks for overflow and finds one."""
        if not self.scaling.skips_overflow:
            return self.apply(gradients)
        finite = all_finite(gradients)
        gradients = self.scaling.unscale(gradients)
        if finite:
            self.apply(gradients)
        return self.scaling.adjust(finite)

    def apply(self, gradients):
        """Hand the gradients to the optimizer."""
        return self.optimizer(gradients)


class GradientReducer(nn.Cell):
    """Gradients averaged over ranks by MindSpore, THOR's measurements summed by :class:`FactorReducer`.

    In the stale graph nothing is measured, and nothing of it sent.

    Args:
        indices: of the parameters of ``optimizer`` that are differentiated.
    """

    def __init__(self, optimizer, indices: tuple[int, ...]):
        super().__init__(auto_prefix=False)
        self.optimizer = optimizer
        layers = [list(places) for places in getattr(optimizer, "measurement_places", lambda: [])()]
        measured = [place for places in layers for place in places]
        plain = [place for place in indices if place not in set(measured)]
        self.plain = tuple(indices.index(place) for place in plain)
        self.measured = tuple(indices.index(place) for place in measured if place in set(indices))
        self.reduce_plain = nn.DistributedGradReducer(ParameterTuple([optimizer.parameters[i] for i in plain]),
                                                      ms.get_auto_parallel_context("gradients_mean"), world()[1])
        if self.measured:
            shapes = [[optimizer.parameters[i].shape for i in places] for places in layers]
            self.reduce_measured = FactorReducer(shapes, optimizer.split_indices)
        order = {position: place for place, position in enumerate(self.plain + self.measured)}
        self.order = tuple(order[position] for position in range(len(indices)))

    def construct(self, gradients):
        reduced = self.reduce_plain(pick(gradients, self.plain))
        if self.measured:
            measured = pick(gradients, self.measured)
            reduced = reduced + (measured if self.optimizer.graph == STALE else self.reduce_measured(measured))
        return pick(reduced, self.order)


class StaleTrainStep(TrainStep):
    """A step of THOR's that measures no factors: it differentiates with respect to the weights alone."""

    def __init__(self, network, optimizer, scaling, accumulator=None):
        super().__init__(network, optimizer, scaling, optimizer.plain, accumulator)

    def apply(self, gradients):
        return self.optimizer.stale_update(gradients)


class LossScaling(nn.Cell):
    """What the loss is multiplied with, and whether a step with overflow is skipped.

    Args:
        manager: ``None``, a float, or a MindSpore loss scale manager. Fixed with ``drop_overflow_update=False``
            leaves unscaling to the optimizer; otherwise this cell unscales and skips steps that overflow.
        optimizer: its ``loss_scale`` must agree: the manager's scale in the first case, 1 in the second.
    """

    def __init__(self, manager, optimizer):
        super().__init__(auto_prefix=False)
        fixed = float(manager) if isinstance(manager, (int, float)) else None
        if manager is None:
            fixed = optimizer.loss_scale
        elif isinstance(manager, FixedLossScaleManager) and manager.get_update_cell() is None:
            fixed = float(manager.get_loss_scale())
        self.skips_overflow = fixed is None
        expected = 1.0 if fixed is None else fixed
        if optimizer.loss_scale != expected:
            raise ValueError(f"loss_scale={optimizer.loss_scale:g} of the optimizer; must be {expected:g} with this "
                             f"loss scale manager; give the optimizer loss_scale={expected:g}")
        if fixed is not None:
            self.constant = Tensor(fixed, ms.float32)
            return
        self.scaler = create_scaler(manager)
        self.scale_value = self.scaler.scale_value
        if isinstance(self.scaler, DynamicLossScaler):
            self.counter = self.scaler.counter
        if isinstance(optimizer, THOR):
            optimizer.bind_loss_scale(self.scale_value)

    def scale(self):
        """The present scale, shape ``()``."""
        return self.scale_value.reshape(()) if self.skips_overflow else self.constant

    def unscale(self, gradients):
        """Gradients divided by the present scale."""
        return self.scaler.unscale(gradients)

    def adjust(self, finite):
        """Adapt a dynamic scale to whether the step was finite."""
        return self.scaler.adjust(finite)


def create_scaler(manager):
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
        self.share, self.zero = Tensor(1.0 / steps, ms.float32), Tensor(0.0, ms.float32)
        self.sums = parameters.clone(prefix="accumulated", init="zeros")
        self.map = ops.Map()
        self.seen = Parameter(Tensor(0, ms.int32), name="accumulated_micro_batches", requires_grad=False)

    def add(self, gradients, indices):
        """Add the gradients of parameters ``indices``; True, as a Tensor of shape ``()``, when the update is due."""
        added = self.map(ops.partial(_accumulated, self.share), pick(self.sums, indices), gradients)
        seen = ops.depend(self.seen + 1, added)
        ops.assign(self.seen, ops.floor_mod(seen, self.steps))
        return ops.equal(seen, self.steps)

    def take(self, indices):
        """The averages of parameters ``indices``, resetting them."""
        return self.map(ops.partial(_emptied, self.zero), pick(self.sums, indices))


class TwoGraphStep(nn.Cell):
    """Runs the second-order graph where curvature is due and the stale graph elsewhere.

    Called from Python it reads the global step and picks one of the two; each is compiled once. Embedded in
    another graph (MindSpore's data sink) it branches inside that graph, so that neither the frequency nor the
    length of a sink loses a step.
    """

    def __init__(self, second_order: nn.Cell, stale: nn.Cell, optimizer: THOR):
        super().__init__(auto_prefix=False)
        self.second_order = second_order
        self.stale = stale
        self.optimizer = optimizer

    def __call__(self, *inputs, **keywords):
        if self.optimizer.refresh_due_at(int(self.optimizer.global_step.asnumpy()[0])):
            with self.optimizer.using_graph(SECOND_ORDER):
                loss = self.second_order(*inputs, **keywords)
            self.optimizer.report_refresh()
            return loss
        with self.optimizer.using_graph(STALE):
            return self.stale(*inputs, **keywords)

    def construct(self, *inputs):
        if self.optimizer.refresh_due():
            return self.second_order(*inputs)
        return self.stale(*inputs)


class StepGraph(nn.Cell):
    """A graph of its own around a train cell somebody else wrote."""

    def __init__(self, step: nn.Cell):
        super().__init__(auto_prefix=False)
        self.step = step

    def construct(self, *inputs):
        return self.step(*inputs)


def make_train_step(network: nn.Cell, optimizer: nn.Optimizer, loss_scale_manager=None,
                    accumulate_steps: int = 1) -> nn.Cell:
    """Create the train step of a network for any optimizer; two graphs when it is THOR.

    Args:
        network: computes the loss from a batch, e.g. ``nn.WithLossCell(net, loss_fn)``.
        optimizer: built on the network's trainable parameters. One with a method
            ``make_train_step(network, loss_scale_manager, accumulate_steps)`` makes its own step.
        loss_scale_manager: see :class:`LossScaling`.
        accumulate_steps: calls averaged into one update. Default: 1.

    Returns:
        A cell: ``loss = step(*batch)``. Its parameters are the whole state of training.
    """
    check_int("accumulate_steps", accumulate_steps, 1, "use 1 to update at every call")
    if hasattr(optimizer, "make_train_step"):
        return optimizer.make_train_step(network, loss_scale_manager, accumulate_steps)
    scaling = LossScaling(loss_scale_manager, optimizer)
    accumulator = GradientAccumulator(optimizer.parameters, accumulate_steps) if accumulate_steps > 1 else None
    second_order = TrainStep(network, optimizer, scaling, None, accumulator)
    if not isinstance(optimizer, THOR):
        return second_order.set_train()
    if accumulator is not None or second_order.reducer_flag:
        optimizer.measure_always()
    stale = StaleTrainStep(network, optimizer, scaling, accumulator)
    return TwoGraphStep(second_order, stale, optimizer).set_train()


def wrap_train_cell(step: nn.TrainOneStepCell, optimizer: THOR) -> nn.Cell:
    """Give a train cell of the user's, whose construct calls ``self.optimizer(grads)``, its two graphs.

    With several ranks its ``grad_reducer`` is replaced by one that reduces factors as :func:`make_train_step` does.

    Raises:
        ValueError: there are several ranks, and the cell has no ``grad_reducer``.
    """
    if isinstance(step, nn.TrainOneStepWithLossScaleCell):
        optimizer.bind_loss_scale(step.scale_sense)
    if world()[1] > 1:
        if getattr(step, "grad_reducer", None) is None:
            raise ValueError(f"network={type(step).__name__} has no grad_reducer; must have one with several ranks, "
                             "called in its construct before the optimizer; derive it from nn.TrainOneStepCell")
        step.grad_reducer = GradientReducer(optimizer, tuple(range(len(optimizer.parameters))))
        optimizer.measure_always()
    return TwoGraphStep(StepGraph(step), StepGraph(step), optimizer).set_train()
