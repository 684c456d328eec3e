"""Train steps: a second-order and a stale graph for THOR, each compiled once, and one graph for other optimizers."""
from __future__ import annotations

from mindspore import Parameter, ParameterTuple, nn, ops
from mindspore.amp import all_finite

from thor.checks import checked, integer
from thor.divergence import DivergenceWatch
from thor.gradient_norm import GradientNorm
from thor.inputs import in_order
from thor.layers.loss import check_reduction
from thor.optimizer import SECOND_ORDER, STALE, THOR
from thor.reduction import GradientReducer
from thor.reload import ReloadWatch
from thor.scaling import GradientAccumulator, LossScaling


class LossAlone(nn.Cell):
    """A network of whose outputs, a loss or a tuple that begins with it, the loss alone has a gradient.

    MindSpore's own train cell differentiates the sum of all outputs. To give 0 for the others would not be enough: 0
    times a derivative that is not finite is not a number.
    """

    def __init__(self, network: nn.Cell):
        super().__init__(auto_prefix=False)
        self.network = network
        self.map = ops.HyperMap()

    def construct(self, *inputs):
        outputs = self.network(*inputs)
        if isinstance(outputs, tuple):
            return (outputs[0],) + self.map(ops.stop_gradient, outputs[1:])
        return outputs

    def sensitivity(self, outputs, scale):
        """What ``outputs`` are differentiated with: ``scale`` ``()`` for the loss."""
        if isinstance(outputs, tuple):
            return (self.sensitivity(outputs[0], scale),) + self.map(ops.zeros_like, outputs[1:])
        return ops.ones_like(outputs) * scale.astype(outputs.dtype)


class TrainStep(nn.TrainOneStepCell):
    """One step in one graph: loss, gradients, and the update unless a gradient overflowed.

    Args:
        network: computes the loss from a batch, or a tuple whose first item is the loss; the loss alone is
            differentiated. Of shape ``()``, or its items are summed.
        optimizer: any ``nn.Optimizer``.
        indices: which of ``optimizer.parameters`` to differentiate with respect to; all by default.
        scaling: loss scaling and overflow policy.
        accumulator: sums gradients over micro-batches; ``None`` updates at every call.
    """

    def __init__(self, network, optimizer, scaling: LossScaling, indices=None, accumulator=None):
        super().__init__(network, optimizer)
        self.indices = indices or tuple(range(len(optimizer.parameters)))
        if indices is not None:
            self.weights = ParameterTuple([optimizer.parameters[i] for i in indices])
        if self.reducer_flag:
            self.grad_reducer = GradientReducer(optimizer, self.indices)
        self.scaling = scaling
        self.accumulator = accumulator
        self.measures = isinstance(optimizer, THOR)
        self.n_weights = optimizer.n_weights if self.measures else len(self.indices)
        self.differentiated = LossAlone(network).set_grad()
        self.reloads = ReloadWatch(self)
        self.norm: GradientNorm | None = None

    def __call__(self, *inputs, **keywords):
        return self.reloads.call(super().__call__, in_order(self.network, inputs, keywords))

    def construct(self, *inputs):
        if self.measures:
            self.optimizer.batch_facts.tell(inputs, None if self.accumulator is None else self.accumulator.seen)
        outputs = self.differentiated(*inputs)
        sens = self.differentiated.sensitivity(outputs, self.scaling.scale())
        gradients = self.gradients(inputs, sens)
        if self.accumulator is None:
            return ops.depend(outputs, self.update(gradients))
        if self.accumulator.add(gradients, self.indices):
            self.update(self.accumulator.take(self.indices))
        return outputs

    def gradients(self, inputs, sens):
        """Of the loss of a batch, times ``sens``, averaged over devices."""
        gradients = self.grad(self.differentiated, self.weights)(*inputs, sens)
        if len(gradients) > self.n_weights:
            measurements = self.optimizer.batch_facts.weighed(gradients[self.n_weights:-1], inputs)
            gradients = gradients[:self.n_weights] + measurements + gradients[-1:]
        return self.grad_reducer(gradients)

    def update(self, gradients):
        """Apply the optimizer, or skip it when ``scaling`` checks for overflow and finds one."""
        self.observe(gradients)
        if not self.scaling.skips_overflow:
            return self.apply(gradients)
        finite = all_finite(gradients)
        # measurements stay: only their ratios to the counts among them are read
        gradients = self.scaling.unscale(gradients[:self.n_weights]) + gradients[self.n_weights:]
        if finite:
            self.apply(gradients)
        return self.scaling.adjust(finite)

    def observe(self, gradients):
        """Remember the norm of the weights' gradients, which are still scaled, where it is asked for."""
        if self.norm is not None:
            self.norm(gradients[:self.n_weights], self.scaling.scale())

    def apply(self, gradients):
        """Hand the gradients to the optimizer."""
        return self.optimizer(gradients)


class StaleTrainStep(TrainStep):
    """A step of THOR's that measures no factors: it differentiates with respect to the weights alone."""

    def apply(self, gradients):
        return self.optimizer.apply_update(gradients)


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
        optimizer.batch_facts.told = True
        scaling = getattr(second_order, "scaling", None)  # a train cell of the user's may skip what it likes
        self.watch = DivergenceWatch(optimizer, tolerates=scaling is None or scaling.skips_overflow)

    def __call__(self, *inputs, **keywords):
        step = int(self.optimizer.global_step.asnumpy()[0])
        self.watch.look()
        self.optimizer.warn_of_skipped_updates()
        refreshes = self.optimizer.refresh_due_at(step)
        with self.optimizer.using_graph(SECOND_ORDER if refreshes else STALE):
            outputs = (self.second_order if refreshes else self.stale)(*inputs, **keywords)
        if refreshes:
            self.optimizer.warn_once([*inputs, *keywords.values()])
        self.watch.remember(step, outputs)
        return outputs

    def construct(self, *inputs):
        if self.optimizer.refresh_due():
            return self.second_order(*inputs)
        return self.stale(*inputs)


def make_train_step(network: nn.Cell, optimizer: nn.Optimizer, loss_scale_manager=None,
                    accumulate_steps: int = 1) -> nn.Cell:
    """Create the train step of a network for any optimizer; two graphs when it is THOR.

    Args:
        network: computes the loss from a batch, e.g. ``nn.WithLossCell(net, loss_fn)``; or a tuple of Tensors that
            begins with the loss, such as ``(loss, logits)``. The loss alone is differentiated (``nn.TrainOneStepCell``
            differentiates the sum of all).
        optimizer: built on the network's trainable parameters. One with a method
            ``make_train_step(network, loss_scale_manager, accumulate_steps)`` makes its own step.
        loss_scale_manager: see :class:`LossScaling`.
        accumulate_steps: calls averaged into one update. Default: 1.

    Returns:
        A cell: ``loss = step(*batch)``, or what the network returns. Called from Python it takes keywords, too, as
        in ``step(images, labels=labels)``. Its parameters are the whole state of training.

    Raises:
        ValueError: the network holds a train step, or reduces its loss in another way than THOR was told.
    """
    checked("accumulate_steps", accumulate_steps, integer(1), "use 1 to update at every call")
    for cell in train_cells(network):
        raise ValueError(f"network={type(network).__name__} holds a train step, {type(cell).__name__}, which updates "
                         "by itself; must only compute a loss; pass the loss network, or the train step to "
                         "ConvertModelUtils")
    if hasattr(optimizer, "make_train_step"):
        return optimizer.make_train_step(network, loss_scale_manager, accumulate_steps)
    scaling = LossScaling(loss_scale_manager, optimizer)
    accumulator = GradientAccumulator(optimizer.parameters, accumulate_steps) if accumulate_steps > 1 else None
    second_order = TrainStep(network, optimizer, scaling, None, accumulator)
    if not isinstance(optimizer, THOR):
        return second_order.set_train()
    check_reduction(network, optimizer.batch_facts.sums)
    sums = accumulator is not None or second_order.reducer_flag
    optimizer.batch_facts.weigh(sums, accumulate_steps)
    if sums:
        optimizer.measure_always()
    stale = StaleTrainStep(network, optimizer, scaling, optimizer.weight_indices, accumulator)
    return TwoGraphStep(second_order, stale, optimizer).set_train()


def record_gradient_norm(step: nn.Cell) -> Parameter:
    """Have a step of :func:`make_train_step` remember the L2 norm of all weights' gradients at every update.

    Of the gradient of the loss as the optimizer is given it: averaged over devices and micro-batches, without the loss
    scale, before ``clip_norm``. Of Heun's two gradients the first. Call it before the first step.

    Returns:
        The norm at the latest update, ``()``, float32; -1 before the first and where it was not finite.

    Raises:
        ValueError: there is no such step in ``step``.
    """
    cells = [cell for _, cell in step.cells_and_names() if isinstance(cell, TrainStep)]
    if not cells:
        raise ValueError(f"step={type(step).__name__}; must be a train step of make_train_step; make it with that")
    norm = GradientNorm()
    for cell in cells:
        cell.norm = norm
    return norm.value


def skipped_updates(step: nn.Cell) -> int:
    """Updates a step of :func:`make_train_step` skipped so far, for overflow or because they were not finite."""
    counters = [parameter for parameter in step.get_parameters()
                if parameter.name.rpartition(".")[2] in ("skipped_updates", "overflowed_updates")]
    return sum(int(counter.asnumpy()) for counter in counters)


def train_cells(network: nn.Cell) -> list[nn.TrainOneStepCell]:
    """The train steps in a network, itself included."""
    return [cell for _, cell in network.cells_and_names() if isinstance(cell, nn.TrainOneStepCell)]
