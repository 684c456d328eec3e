"""Conversion of networks and models; the names MindSpore users know."""
from __future__ import annotations

import logging

from mindspore import Model, amp, nn

from thor.distribution import world
from thor.inputs import in_order
from thor.layers.loss import LossScaleTap, check_reduction
from thor.model import StepModel
from thor.optimizer import THOR
from thor.reduction import GradientReducer
from thor.registration import tap_network
from thor.reload import ReloadWatch
from thor.train import TwoGraphStep, make_train_step, train_cells

logger = logging.getLogger("thor")

AMP_LEVELS = ("O0", "O1", "O2", "O3", "auto")


class ConvertNetUtils:
    """Converts networks in place."""

    @staticmethod
    def convert_to_thor_net(net: nn.Cell) -> None:
        """Tap every layer of ``net`` that THOR can precondition; a network converted before keeps its options.

        ``THOR(net, ...)`` does this itself; call it to inspect a converted network before.

        Raises:
            TypeError: ``net`` is not a Cell.
        """
        if getattr(net, "thor_registration", None) is None:
            tap_network(net)


class ConvertModelUtils:
    """Converts a Model to one that trains with THOR's two graphs."""

    @staticmethod
    def convert_to_thor_model(model, network, loss_fn=None, optimizer=None, metrics=None, amp_level="O0",
                              loss_scale_manager=None, keep_batchnorm_fp32=None, frequency=None,
                              accumulate_steps=1):
        """Build the Model that trains ``network`` with THOR.

        Args:
            model: the Model to convert, or a ready train cell; its evaluation network is kept when ``metrics`` is
                given without ``loss_fn``. Returned unchanged when the optimizer is a first-order one.
            network: the network without its loss, or a ready ``nn.TrainOneStepCell`` (subclasses too) whose
                construct calls ``self.optimizer(grads)``, or a cell that calls such cells.
            loss_fn: the loss; ``None`` when ``network`` already computes it.
            optimizer: a THOR optimizer; with a ready train cell, by default the cell's own.
            metrics: as for ``mindspore.Model``.
            amp_level: "O0", "O1", "O2", "O3" or "auto", as for ``mindspore.Model``.
            loss_scale_manager: as for ``mindspore.Model``; overflow is skipped on CPU, too.
            keep_batchnorm_fp32: as for ``mindspore.Model``; default: what the level says.
            frequency: steps from refresh to refresh; default: the optimizer's.
            accumulate_steps: steps averaged into one update. Default: 1.

        Returns:
            A ``mindspore.Model``.

        Raises:
            TypeError, ValueError: the message names the argument, its value and the remedy.
        """
        model = _checked(model, network)
        ready = train_cells(network)
        optimizer = ready[0].optimizer if ready and optimizer is None else optimizer
        if type(optimizer).__module__ == "mindspore.nn.optim.thor":
            raise TypeError(f"optimizer={type(optimizer).__name__} of MindSpore; must be thor.THOR; import thor or "
                            "THOR from the package this converter comes from")
        if not isinstance(optimizer, THOR):
            return model
        if frequency is not None:
            optimizer.set_frequency(frequency)
        if ready:
            _check_ready_cell_options(accumulate_steps, amp_level=amp_level != "O0",
                                      loss_scale_manager=loss_scale_manager is not None)
            step = wrap_train_cell(network, optimizer)
        else:
            mixed = mixed_precision_network(network, loss_fn, optimizer, amp_level, keep_batchnorm_fp32)
            step = make_train_step(mixed, optimizer, loss_scale_manager, accumulate_steps)
        if ready or loss_fn is None:
            evaluate, predict = model.eval_network, model.predict_network
        else:
            evaluate, predict = nn.WithEvalCell(network, loss_fn, amp_level in ("O2", "O3", "auto")), network
        return _step_model(step, evaluate, predict, metrics)


def _step_model(step, evaluate, predict, metrics) -> StepModel:
    if not metrics:
        return StepModel(step, predict)
    indexes = [0, 1, 2] if isinstance(evaluate, nn.WithEvalCell) else None
    return StepModel(step, predict, eval_network=evaluate, metrics=metrics, eval_indexes=indexes)


def _checked(model, network) -> Model:
    """The Model itself, or one of a train cell.

    Raises:
        TypeError: one of them is something else.
    """
    if isinstance(model, nn.TrainOneStepCell):
        model = Model(model)
    if not isinstance(model, Model):
        raise TypeError(f"model={model!r}; must be a mindspore.Model; pass Model(network, loss_fn, optimizer)")
    if not isinstance(network, nn.Cell):
        raise TypeError(f"network={network!r}; must be a mindspore.nn.Cell; pass the network to train")
    return model


def _check_ready_cell_options(accumulate_steps: int, **ignored: bool) -> None:
    """A train cell of the user's has its own precision, scaling and update: say what it makes of other wishes."""
    if accumulate_steps != 1:
        raise ValueError(f"accumulate_steps={accumulate_steps!r}; must be 1 with a ready train cell; "
                         "pass the network without its train cell")
    names = [name for name, given in ignored.items() if given]
    if names:
        logger.warning("%s: not used with a ready train cell, which has its own; pass the network without its "
                       "train cell to use it", " and ".join(names))


def mixed_precision_network(network, loss_fn, optimizer, amp_level, keep_batchnorm_fp32) -> nn.Cell:
    """The network with its loss at MindSpore's own mixed precision for ``amp_level``."""
    if amp_level not in AMP_LEVELS:
        raise ValueError(f"amp_level={amp_level!r}; must be one of {', '.join(AMP_LEVELS)}; use O0 for full precision")
    options = {} if keep_batchnorm_fp32 is None else {"keep_batchnorm_fp32": keep_batchnorm_fp32}
    step = amp.build_train_network(network, optimizer, loss_fn, level=amp_level, loss_scale_manager=None, **options)
    return step.network


class StepGraph(nn.Cell):
    """A graph of its own around a train cell somebody else wrote."""

    def __init__(self, step: nn.Cell, optimizer: THOR):
        super().__init__(auto_prefix=False)
        self.step, self.optimizer, self.reloads = step, optimizer, ReloadWatch(self)

    def __call__(self, *inputs, **keywords):
        return self.reloads.call(super().__call__, in_order(self.step, inputs, keywords))

    def construct(self, *inputs):
        self.optimizer.batch_facts.tell(inputs)
        return self.step(*inputs)


def wrap_train_cell(step: nn.Cell, optimizer: THOR) -> nn.Cell:
    """Give a train cell of the user's, whose construct calls ``self.optimizer(grads)``, its two graphs.

    Its ``network`` gets a tap that measures what the loss is multiplied with; with several ranks its ``grad_reducer``
    is replaced by one that reduces factors as :func:`make_train_step` does.

    Args:
        step: an ``nn.TrainOneStepCell``, or a cell that calls some.

    Raises:
        ValueError: there are several ranks, and a train cell has no ``grad_reducer``; or one has another optimizer.
    """
    for cell in train_cells(step):
        if cell.optimizer is not optimizer:
            raise ValueError(f"network={type(step).__name__} holds a {type(cell).__name__} with another optimizer; "
                             "must have the one given; build all its train cells with one THOR")
        _measure_in(cell, optimizer)
    return TwoGraphStep(StepGraph(step, optimizer), StepGraph(step, optimizer), optimizer).set_train()


def _measure_in(cell: nn.TrainOneStepCell, optimizer: THOR) -> None:
    """Have the loss scale and the factors of all ranks in what a train cell hands to its optimizer."""
    check_reduction(cell.network, optimizer.batch_facts.sums)
    if isinstance(cell, nn.TrainOneStepWithLossScaleCell):
        optimizer.bind_loss_scale(cell.scale_sense)
    elif any(True for _ in cell.parameters_and_names(expand=False)):
        optimizer.measure_always()  # a scale of its own may change, and traces with it
    if optimizer.has_factors and not isinstance(cell.network, LossScaleTap):
        cell.network = LossScaleTap(cell.network, optimizer.batch_facts)
    if world()[1] > 1:
        if getattr(cell, "grad_reducer", None) is None:
            raise ValueError(f"network={type(cell).__name__} has no grad_reducer; must have one with several ranks, "
                             "called in its construct before the optimizer; derive it from nn.TrainOneStepCell")
        cell.grad_reducer = GradientReducer(optimizer, tuple(range(len(optimizer.parameters))))
        optimizer.measure_always()
