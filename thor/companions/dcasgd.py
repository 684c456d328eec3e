"""Delayed gradients: asynchronous SGD, simulated on one device, and its delay compensation."""
from __future__ import annotations

from collections.abc import Sequence

import mindspore as ms
import numpy as np
from mindspore import Parameter, ParameterTuple, Tensor, nn, ops

from thor.checks import IN_RANGE, checked, flag, number, shown
from thor.clipping import gradient_clip
from thor.grouped import GroupedOptimizer
from thor.groups import Decay, Rate, parameters_and_groups
from thor.inputs import in_order
from thor.scaling import GradientAccumulator, LossScaling
from thor.train import TrainStep

LONGEST_DELAY = 1000

_compensated = ops.MultitypeFuncGraph("compensated")
_compensated_adaptively = ops.MultitypeFuncGraph("compensated_adaptively")
_descended = ops.MultitypeFuncGraph("descended")


@_compensated.register("Tensor", "Tensor", "Tensor", "Tensor")
def _compensate(strength, now, then, gradient):
    """``g + lambda g g (w_now - w_then)``."""
    return gradient + strength * gradient * gradient * (now - then)


@_compensated_adaptively.register("Tensor", "Tensor", "Tensor", "Tensor", "Tensor", "Tensor", "Tensor")
def _compensate_adaptively(strength, decay, epsilon, now, then, mean_square, gradient):
    """The same with ``lambda / sqrt(mean square + epsilon)``, elementwise."""
    square = gradient * gradient
    mean = decay * mean_square + (1.0 - decay) * square
    update = gradient + strength * ops.rsqrt(mean + epsilon) * square * (now - then)
    return ops.depend(update, ops.assign(mean_square, mean))


@_descended.register("Tensor", "Tensor", "Tensor", "Tensor", "Tensor", "Tensor")
def _descend(momentum, rate, now, weight, moment, update):
    """``v = mu v + u; w_now -= lr v``; the network gets the new weight."""
    velocity = momentum * moment + update
    moved = now - rate * velocity
    return ops.depend(True, (ops.assign(moment, velocity), ops.assign(now, moved), ops.assign(weight, moved)))


class DCASGD(GroupedOptimizer):
    r"""Delay-compensated asynchronous SGD (Zheng et al. 2017, https://arxiv.org/abs/1609.08326), simulated.

    .. math::
        g &= g(w_{t - d}) + wd \cdot w_{t - d} \\
        u &= g + \lambda \, g \odot g \odot (w_t - w_{t - d}), \qquad
        \text{adaptive: } s \leftarrow m s + (1 - m) g \odot g, \quad \lambda = \lambda_0 / \sqrt{s + \epsilon} \\
        v &= \mu v + u, \qquad w_{t + 1} = w_t - lr \cdot v

    ``compensation = 0`` is asynchronous SGD, delay 0 is SGD. The train step of
    :func:`thor.train.make_train_step` evaluates the gradient at the real weights of d steps ago, which it keeps;
    between steps the network has the newest ones. In a loop of your own, without that step, the delay is 0.

    Args:
        params: parameters or groups of them, see :mod:`thor.groups`.
        learning_rate: float, list by step, Tensor or schedule.
        compensation: lambda (adaptive: lambda_0), >= 0. Default: 0.04; published: 0.04, adaptive 2.
        adaptive: divide lambda by the root of the running mean of squares. Default: False.
        decay: m, [0, 1). Default: 0.95.
        delays: d of each step, an int or a sequence by step that is repeated after its end, >= 0; see
            :func:`thor.companions.draw_delays`. Default: 0.
        momentum: mu, >= 0. Default: 0.
        weight_decay: wd, given like ``learning_rate``, >= 0. Default: 0.
        loss_scale: what gradients are divided by, > 0. Default: 1.
        epsilon: > 0. Default: 1e-7.
        clip_norm: scale the gradients g(w) down to this L2 norm over all parameters, > 0. Default: None, no limit.
    """

    def __init__(self, params: Sequence, learning_rate: Rate, compensation: float = 0.04, adaptive: bool = False,
                 decay: float = 0.95, delays: int | Sequence[int] = 0, momentum: float = 0.0,
                 weight_decay: Decay = 0.0, loss_scale: float = 1.0, epsilon: float = 1e-7,
                 clip_norm: float | None = None):
        parameters, groups = parameters_and_groups(params)
        super().__init__(learning_rate, parameters, weight_decay, loss_scale, groups)
        self.strength = Tensor(checked("compensation", compensation, number(minimum=0), IN_RANGE), ms.float32)
        self.compensates = compensation > 0
        self.adaptive = checked("adaptive", adaptive, flag(), "use True or False")
        if checked("decay", decay, number(minimum=0), IN_RANGE) >= 1:
            raise ValueError(f"decay={decay!r}; must be below 1; use 0.95 as published")
        epsilon = checked("epsilon", epsilon, number(above=0), IN_RANGE)
        self.decay, self.epsilon = Tensor(decay, ms.float32), Tensor(epsilon)
        self.clip = gradient_clip(clip_norm, loss_scale)
        momentum = checked("momentum", momentum, number(minimum=0), IN_RANGE)
        self.momentum = Parameter(Tensor(momentum, ms.float32), name="momentum", requires_grad=False)
        self.moments = self.parameters.clone(prefix="moments", init="zeros")
        self.newest = self.parameters.clone(prefix="newest")
        if self.compensates and adaptive:
            self.mean_squares = self.parameters.clone(prefix="mean_square", init="zeros")
        self.history = History(self.parameters, self.newest, _check_delays(delays))

    def construct(self, gradients):
        gradients = self.decay_weight(self.scale_grad(self.clip(gradients, gradients)))
        updates = self.compensate(gradients) if self.compensates else gradients
        rate = self.get_lr()
        self.assignadd(self.global_step, self.global_step_increase_tensor)
        if self.is_group_lr:
            return self.hyper_map(ops.partial(_descended, self.momentum), rate, self.newest, self.parameters,
                                  self.moments, updates)
        return self.hyper_map(ops.partial(_descended, self.momentum, rate), self.newest, self.parameters, self.moments,
                              updates)

    def compensate(self, gradients):
        """What the gradients would be at the newest weights, to first order and with g g for the Hessian."""
        if self.adaptive:
            rule = ops.partial(_compensated_adaptively, self.strength, self.decay, self.epsilon)
            return self.hyper_map(rule, self.newest, self.parameters, self.mean_squares, gradients)
        return self.hyper_map(ops.partial(_compensated, self.strength), self.newest, self.parameters, gradients)

    def make_train_step(self, network: nn.Cell, loss_scale_manager=None, accumulate_steps: int = 1) -> nn.Cell:
        """The step that evaluates gradients at old weights; see :func:`thor.train.make_train_step`."""
        accumulator = GradientAccumulator(self.parameters, accumulate_steps) if accumulate_steps > 1 else None
        step = TrainStep(network, self, LossScaling(loss_scale_manager, self), None, accumulator)
        return DelayedStep(step, self).set_train()


class History(nn.Cell):
    """The weights of the last steps, in a ring.

    Args:
        weights: the network's.
        newest: where the newest ones stay while the network has old ones.
        delays: int32 ``(n,)``, of the steps, repeated.
    """

    def __init__(self, weights: ParameterTuple, newest: ParameterTuple, delays: np.ndarray):
        super().__init__(auto_prefix=False)
        self.weights, self.newest = weights, newest
        self.delays, self.period = Tensor(delays, ms.int32), len(delays)
        self.size = int(delays.max()) + 1
        if self.size > 1:
            self.past = ParameterTuple([
                Parameter(Tensor(np.stack([weight.asnumpy()] * self.size)), name=f"past.{weight.name}",
                          requires_grad=False) for weight in weights])  # (size, *shape)

    def go_back(self, step):
        """Keep the network's weights as the newest, and give it those of ``step``'s delay; step of shape ``()``."""
        done = True
        for weight, newest in zip(self.weights, self.newest):
            done = ops.depend(done, ops.assign(newest, weight))
        if self.size == 1:
            return done
        delay = ops.minimum(self.delays[ops.floor_mod(step, self.period)], step)
        slot, old = ops.floor_mod(step, self.size), ops.floor_mod(step - delay, self.size)
        for weight, past in zip(self.weights, self.past):
            kept = ops.scatter_update(past, slot.reshape((1,)), weight.reshape((1,) + weight.shape))
            done = ops.depend(done, ops.assign(weight, ops.gather(kept, old, 0)))
        return done

    def come_back(self):
        """Give the network the newest weights."""
        done = True
        for weight, newest in zip(self.weights, self.newest):
            done = ops.depend(done, ops.assign(weight, newest))
        return done


class DelayedStep(nn.Cell):
    """A train step at old weights; a step that is skipped or only accumulates leaves the newest as they were."""

    def __init__(self, step: nn.Cell, optimizer: DCASGD):
        super().__init__(auto_prefix=False)
        self.step = step
        self.optimizer = optimizer

    def __call__(self, *inputs, **keywords):
        return super().__call__(*in_order(self.step.network, inputs, keywords))

    def construct(self, *inputs):
        self.optimizer.history.go_back(self.optimizer.global_step[0])
        loss = self.step(*inputs)
        self.optimizer.history.come_back()
        return loss


def _check_delays(delays: int | Sequence[int]) -> np.ndarray:
    """An int, or a non-empty sequence of ints, all >= 0, as int32 ``(n,)``."""
    values = np.asarray(delays).reshape(-1) if np.ndim(delays) <= 1 else np.empty(0)
    if values.size == 0 or values.dtype.kind not in "iu" or values.min() < 0:
        raise ValueError(f"delays={shown(delays)}; must be an int >= 0 or a sequence of them, one a step; "
                         "use draw_delays")
    if values.max() > LONGEST_DELAY:
        raise ValueError(f"delays has {values.max()}; must be at most {LONGEST_DELAY}, each keeps a copy of the "
                         "weights; use draw_delays with a smaller longest")
    return values.astype(np.int32)
