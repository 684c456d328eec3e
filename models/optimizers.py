"""Optimizers by configuration: THOR and its companions from this project, all others MindSpore's own.

MindSpore's LAMB has no kernels on CPU, its LARS none on CPU and GPU; there the same formulas run from models.layerwise.
Which settings each optimizer reads is told in models.config.readers.
"""
from __future__ import annotations

import numpy as np
from mindspore import get_context, nn
from mindspore.amp import DynamicLossScaleManager, FixedLossScaleManager, LossScaleManager

from models import layerwise
from models.clipping import ClippedOptimizer
from models.config import Config, OptimizerConfig
from models.config.errors import invalid
from models.parameter_groups import chosen_groups, decays, grouped
from thor import THOR, schedules
from thor.companions import DCASGD, SOAP, Heun, Lookahead, Muon, RAdam, Shampoo, draw_delays
from thor.curvature import FrobeniusPolicy, TracePolicy, UpdatePolicy

MOST_STEPS = 2 ** 24  # schedules are arrays with a value a step


def learning_rate_array(config: Config, batches_per_epoch: int) -> np.ndarray:
    """Learning rate of every optimizer step of the run.

    Args:
        config: the run; uses optimizer.learning_rate and train.
        batches_per_epoch: batches of the training dataset; train.accumulate_steps of them make a step.

    Returns:
        float32 array (steps of the run,).
    """
    rate, epochs = config.optimizer.learning_rate, config.train.epochs
    steps_per_epoch = batches_per_epoch / config.train.accumulate_steps
    warmup_steps = round(rate.warmup_epochs * steps_per_epoch)
    total = max(_run_steps(config, batches_per_epoch) - warmup_steps, 1)
    # epochs count from the start of training, the schedule starts after the warm-up
    end = (epochs if rate.end_epoch is None else rate.end_epoch) - rate.warmup_epochs
    end_steps = max(round(end * steps_per_epoch), 1)
    if rate.schedule == "thor":
        halving = None if rate.decay_epochs is None else rate.decay_epochs - rate.warmup_epochs
        values = schedules.thor_learning_rate(total, steps_per_epoch, rate.initial, rate.decay, end, halving)
    elif rate.schedule == "cosine":
        values = schedules.cosine(total, rate.initial, rate.final, end_steps)
    elif rate.schedule == "polynomial":
        values = schedules.polynomial(total, rate.initial, rate.final, rate.power, end_steps)
    else:
        values = schedules.constant(total, rate.initial)
    return schedules.with_warmup(values, warmup_steps)


def damping_array(config: Config, batches_per_epoch: int) -> np.ndarray:
    """Damping of every optimizer step of the run; arguments and result as for ``learning_rate_array``."""
    damping = config.optimizer.damping
    steps_per_epoch = batches_per_epoch / config.train.accumulate_steps
    total = _run_steps(config, batches_per_epoch)
    if damping.schedule == "thor":
        return schedules.thor_damping(total, steps_per_epoch, damping.initial, damping.decay)
    if damping.schedule == "polynomial":
        end = config.train.epochs if damping.end_epoch is None else damping.end_epoch
        end_steps = max(round(end * steps_per_epoch), 1)
        return schedules.polynomial(total, damping.initial, damping.final, damping.power, end_steps)
    return schedules.constant(total, damping.initial)


def create_optimizer(config: Config, network: nn.Cell, batches_per_epoch: int) -> nn.Optimizer:
    """The optimizer ``config.optimizer.name`` asks for, over the trainable parameters of ``network``.

    It expects gradients that are not scaled: the train step divides by the loss scale. THOR makes the layers
    of ``network`` record curvature, in place; parameters stay the same.

    Args:
        config: the run.
        network: without its loss.
        batches_per_epoch: as for ``learning_rate_array``.
    """
    options, rate = config.optimizer, learning_rate_array(config, batches_per_epoch)
    if options.second_order:
        base = _thor(config, network, rate, damping_array(config, batches_per_epoch),
                     update_policy(config, batches_per_epoch))
    elif options.base == "dcasgd":
        base = _dcasgd(options, network, [float(value) for value in rate], config.seed)
    elif options.base == "heun":
        base = _heun(options, network, [float(value) for value in rate])
    else:
        base = _BUILDERS[options.base](options, network, [float(value) for value in rate])
        if options.clip_norm is not None:
            base = ClippedOptimizer(base, options.clip_norm)
    if options.base != options.name:
        return Lookahead(base, options.lookahead.steps, options.lookahead.alpha)
    return base


def thor_within(optimizer: nn.Optimizer) -> THOR | None:
    """The THOR that ``optimizer`` is or wraps, None if there is none."""
    inner = optimizer.base if isinstance(optimizer, Lookahead) else optimizer
    return inner if isinstance(inner, THOR) else None


def create_loss_scale_manager(config: Config) -> LossScaleManager | None:
    """What scales the loss and skips the steps that overflow; None for a fixed scale of 1."""
    scale = config.loss_scale
    if scale.policy == "dynamic":
        return DynamicLossScaleManager(scale.init, scale.factor, scale.window)
    return None if scale.value == 1 else FixedLossScaleManager(scale.value, drop_overflow_update=True)


def update_policy(config: Config, batches_per_epoch: int) -> UpdatePolicy:
    """When curvature is refreshed, and of which layers; arguments as for ``learning_rate_array``."""
    update = config.curvature.update
    interval = config.optimizer.frequency
    if update.intervals is not None:
        unit = batches_per_epoch / config.train.accumulate_steps if update.unit == "epoch" else 1
        interval = tuple((round(start * unit), steps) for start, steps in update.intervals)
    if update.policy == "trace":
        return TracePolicy(interval, update.w1, update.w2)
    if update.policy == "frobenius":
        return FrobeniusPolicy(interval, update.alpha)
    return UpdatePolicy(interval)


def _thor(config: Config, network: nn.Cell, rate: np.ndarray, damping: np.ndarray,
          update: UpdatePolicy) -> nn.Optimizer:
    options = config.optimizer
    return THOR(network, rate, damping, options.momentum, options.weight_decay,
                batch_size=config.data.batch_size, use_nesterov=options.nesterov,
                decay_filter=decays(options), split_indices=options.split_indices, enable_clip_grad=options.clip,
                update=update, clip_norm=options.clip_norm, groups=chosen_groups(options, network, rate) or None,
                **vars(config.curvature_options))


def _momentum(options: OptimizerConfig, network: nn.Cell, rate: list[float]) -> nn.Optimizer:
    if options.nesterov:
        return _sgd(options, network, rate)  # the same equations; MindSpore's CPU kernel of Momentum ignores its flag
    return nn.Momentum(grouped(options, network, rate), rate, options.momentum, options.weight_decay)


def _sgd(options: OptimizerConfig, network: nn.Cell, rate: list[float]) -> nn.Optimizer:
    return nn.SGD(grouped(options, network, rate), rate, options.momentum, weight_decay=options.weight_decay,
                  nesterov=options.nesterov and options.momentum > 0)


def _adam(options: OptimizerConfig, network: nn.Cell, rate: list[float]) -> nn.Optimizer:
    return nn.Adam(grouped(options, network, rate), rate, options.beta1, options.beta2,
                   **_epsilon(options, "eps"), use_nesterov=options.nesterov, weight_decay=options.weight_decay)


def _adamw(options: OptimizerConfig, network: nn.Cell, rate: list[float]) -> nn.Optimizer:
    return nn.AdamWeightDecay(grouped(options, network, rate), rate, options.beta1, options.beta2,
                              weight_decay=options.weight_decay, **_epsilon(options, "eps"))


def _lamb(options: OptimizerConfig, network: nn.Cell, rate: list[float]) -> nn.Optimizer:
    if get_context("device_target") == "CPU":
        return layerwise.Lamb(network.trainable_params(), rate, options.beta1, options.beta2,
                              weight_decay=options.weight_decay, decay_filter=decays(options),
                              **_epsilon(options, "eps"))
    return nn.Lamb(grouped(options, network, rate), rate, options.beta1, options.beta2,
                   weight_decay=options.weight_decay, **_epsilon(options, "eps"))


def _lars(options: OptimizerConfig, network: nn.Cell, rate: list[float]) -> nn.Optimizer:
    if get_context("device_target") != "Ascend":
        return layerwise.Lars(network.trainable_params(), rate, options.momentum, options.weight_decay,
                              options.lars_coefficient, use_nesterov=options.nesterov,
                              **_epsilon(options, "epsilon"))
    return nn.LARS(_momentum(options, network, rate), coefficient=options.lars_coefficient,
                   lars_filter=lambda parameter: len(parameter.shape) > 1, **_epsilon(options, "epsilon"))


def _radam(options: OptimizerConfig, network: nn.Cell, rate: list[float]) -> nn.Optimizer:
    return RAdam(grouped(options, network, rate), rate, options.beta1, options.beta2, **_epsilon(options, "eps"),
                 weight_decay=options.weight_decay)


def _muon(options: OptimizerConfig, network: nn.Cell, rate: list[float]) -> nn.Optimizer:
    return Muon(grouped(options, network, rate), rate, options.momentum, options.weight_decay, options.nesterov,
                options.beta1, options.beta2, **_epsilon(options, "eps"))


def _shampoo(options: OptimizerConfig, network: nn.Cell, rate: list[float]) -> nn.Optimizer:
    return Shampoo(grouped(options, network, rate), rate, options.beta1, options.beta2, options.frequency,
                   options.weight_decay, options.split_dim)


def _soap(options: OptimizerConfig, network: nn.Cell, rate: list[float]) -> nn.Optimizer:
    return SOAP(grouped(options, network, rate), rate, options.beta1, options.beta2, options.frequency,
                options.weight_decay, options.split_dim, **_epsilon(options, "eps"))


def _heun(options: OptimizerConfig, network: nn.Cell, rate: list[float]) -> nn.Optimizer:
    return Heun(grouped(options, network, rate), rate, options.momentum, options.weight_decay,
                clip_norm=options.clip_norm)


def _dcasgd(options: OptimizerConfig, network: nn.Cell, rate: list[float], seed: int) -> nn.Optimizer:
    delay, compensation = options.delay, options.compensation
    delays = draw_delays(delay.distribution, len(rate), delay.mean, delay.longest, seed)
    return DCASGD(grouped(options, network, rate), rate, compensation.strength, compensation.adaptive,
                  compensation.decay, delays, options.momentum, options.weight_decay, clip_norm=options.clip_norm)


_BUILDERS = {"momentum": _momentum, "sgd": _sgd, "adam": _adam, "adamw": _adamw, "lamb": _lamb, "lars": _lars,
             "radam": _radam, "muon": _muon, "shampoo": _shampoo, "soap": _soap}


def _epsilon(options: OptimizerConfig, name: str) -> dict[str, float]:
    return {} if options.epsilon is None else {name: options.epsilon}


def _run_steps(config: Config, batches_per_epoch: int) -> int:
    batches = config.train.epochs * batches_per_epoch
    if batches < config.train.accumulate_steps:
        raise invalid("train.accumulate_steps", config.train.accumulate_steps, f"<= {batches}",
                      "the run has no more batches than that")
    steps = batches // config.train.accumulate_steps
    if steps > MOST_STEPS:
        raise invalid("train.epochs", config.train.epochs, f"so few that the run has at most {MOST_STEPS} steps",
                      f"it would have {steps}")
    return steps
