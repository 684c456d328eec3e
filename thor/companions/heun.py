"""Heun's method: every step evaluates the gradient twice."""
from __future__ import annotations

from collections.abc import Sequence

import mindspore as ms
from mindspore import Parameter, Tensor, nn, ops
from mindspore.amp import all_finite

from thor.checks import IN_RANGE, checked, integer, number
from thor.clipping import gradient_clip
from thor.grouped import GroupedOptimizer
from thor.groups import Decay, Rate, parameters_and_groups
from thor.scaling import LossScaling
from thor.train import TrainStep

_predicted = ops.MultitypeFuncGraph("predicted")
_corrected = ops.MultitypeFuncGraph("corrected")


@_predicted.register("Tensor", "Tensor", "Tensor", "Tensor", "Tensor", "Tensor", "Tensor")
def _predict(momentum, rate, weight, start, first, moment, gradient):
    """Remember the weight and its gradient; take the whole step with that alone."""
    remembered = ops.assign(start, weight), ops.assign(first, gradient)
    moved = ops.depend(weight - rate * (momentum * moment + gradient), remembered)
    return ops.depend(True, ops.assign(weight, moved))


@_corrected.register("Tensor", "Tensor", "Tensor", "Tensor", "Tensor", "Tensor", "Tensor")
def _correct(momentum, rate, weight, start, first, moment, gradient):
    """Take the step from where it began with the mean of both gradients."""
    velocity = momentum * moment + 0.5 * (first + gradient)
    return ops.depend(True, (ops.assign(weight, start - rate * velocity), ops.assign(moment, velocity)))


class Heun(GroupedOptimizer):
    r"""Heun's method for the gradient flow w' = -g(w) (Heun 1900, Zeitschrift fuer Mathematik und Physik 45).

    .. math::
        \tilde w &= w - lr (\mu v + u(w)), \quad u(w) = g(w) + wd \cdot w \\
        v &\leftarrow \mu v + (u(w) + u(\tilde w)) / 2, \quad w \leftarrow w - lr \cdot v

    Both gradients are of the same batch; ``mu = 0`` is Heun's own method. Running statistics (BatchNorm) see the
    batch twice. In a loop of your own call it twice a step: with the gradients, and with those at the weights
    it then left; :func:`thor.train.make_train_step` does both in one graph.

    Args:
        params: parameters or groups of them, see :mod:`thor.groups`.
        learning_rate: float, list by step, Tensor or schedule.
        momentum: mu, >= 0. Default: 0.
        weight_decay: wd, given like ``learning_rate``, >= 0. Default: 0.
        loss_scale: what gradients are divided by, > 0. Default: 1.
        clip_norm: scale each of the two gradients g down to this L2 norm over all parameters, > 0. Default: None, no
            limit.
    """

    def __init__(self, params: Sequence, learning_rate: Rate, momentum: float = 0.0, weight_decay: Decay = 0.0,
                 loss_scale: float = 1.0, clip_norm: float | None = None):
        parameters, groups = parameters_and_groups(params)
        super().__init__(learning_rate, parameters, weight_decay, loss_scale, groups)
        momentum = checked("momentum", momentum, number(minimum=0), IN_RANGE)
        self.momentum = Parameter(Tensor(momentum, ms.float32), name="momentum", requires_grad=False)
        self.clip = gradient_clip(clip_norm, loss_scale)
        self.moments = self.parameters.clone(prefix="moments", init="zeros")
        self.starts = self.parameters.clone(prefix="start", init="zeros")
        self.firsts = self.parameters.clone(prefix="first_gradient", init="zeros")
        self.halfway = Parameter(Tensor(0, ms.int32), name="halfway", requires_grad=False)

    def construct(self, gradients):
        if self.halfway == 0:
            return self.predict(gradients)
        return self.correct(gradients)

    def predict(self, gradients):
        """To the point of the second evaluation, with the gradients at the weights."""
        done = self.move(_predicted, gradients)
        return ops.depend(done, ops.assign(self.halfway, ops.ones_like(self.halfway)))

    def correct(self, gradients):
        """To the end of the step, with the gradients at that point."""
        done = self.move(_corrected, gradients)
        self.assignadd(self.global_step, self.global_step_increase_tensor)
        return ops.depend(done, ops.assign(self.halfway, ops.zeros_like(self.halfway)))

    def go_back(self):
        """Give up the step that was begun: the weights are those before it."""
        done = True
        for weight, start in zip(self.parameters, self.starts):
            done = ops.depend(done, ops.assign(weight, start))
        return ops.depend(done, ops.assign(self.halfway, ops.zeros_like(self.halfway)))

    def move(self, rule, gradients):
        """Apply one of the two rules to all parameters."""
        gradients = self.decay_weight(self.scale_grad(self.clip(gradients, gradients)))
        rate = self.get_lr()
        if self.is_group_lr:
            return self.hyper_map(ops.partial(rule, self.momentum), rate, self.parameters, self.starts, self.firsts,
                                  self.moments, gradients)
        return self.hyper_map(ops.partial(rule, self.momentum, rate), self.parameters, self.starts, self.firsts,
                              self.moments, gradients)

    def make_train_step(self, network: nn.Cell, loss_scale_manager=None, accumulate_steps: int = 1) -> nn.Cell:
        """The step with both evaluations; see :func:`thor.train.make_train_step`.

        Raises:
            ValueError: accumulate_steps is not 1: the second evaluation needs the whole batch again.
        """
        if checked("accumulate_steps", accumulate_steps, integer(1), "use 1") != 1:
            raise ValueError(f"accumulate_steps={accumulate_steps}; must be 1 for Heun, whose second gradient needs "
                             "the whole batch again; use a larger batch")
        return HeunStep(network, self, LossScaling(loss_scale_manager, self)).set_train()


class HeunStep(TrainStep):
    """Gradients, predictor, gradients of the same batch, corrector; overflow in either skips the step."""

    def construct(self, *inputs):
        outputs = self.differentiated(*inputs)
        sens = self.differentiated.sensitivity(outputs, self.scaling.scale())
        first = self.gradients(inputs, sens)
        self.observe(first)
        if not self.scaling.skips_overflow:
            self.optimizer.predict(first)
            self.optimizer.correct(self.gradients(inputs, sens))
            return outputs
        begun = all_finite(first)
        if begun:
            self.optimizer.predict(self.scaling.unscale(first))
        second = self.gradients(inputs, sens)
        finite = ops.logical_and(begun, all_finite(second))
        if finite:
            self.optimizer.correct(self.scaling.unscale(second))
        elif begun:
            self.optimizer.go_back()
        return ops.depend(outputs, self.scaling.adjust(finite))
