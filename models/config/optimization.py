"""How weights are updated: optimizer, learning rate, damping and loss scale sections.

Epochs in schedules are counted from the start of training and may be fractions. Settings that the chosen
schedule or optimizer does not read are refused where they are set, see models.config.readers.
"""
from __future__ import annotations

import dataclasses

from models.config.companions import (
    SECOND_ORDER,
    CompensationConfig,
    DelayConfig,
    LookaheadConfig,
    base_of,
    optimizer_name,
)
from models.config.groups import parameter_groups
from models.config.section import Section, subsection
from thor.checks import ascending, choice, flag, integer, number, optional, setting
from thor.options import PreconditionerOptions

LAST_EPOCH = 10 ** 9  # of a schedule, which may be made for longer than training


@dataclasses.dataclass(frozen=True)
class LearningRateConfig(Section):
    """Learning rate by step; the formulas are in thor.schedules.

    Attributes:
        schedule: thor, constant, cosine or polynomial.
        initial: learning rate at the start (after the warm-up).
        final: cosine, polynomial: learning rate at ``end_epoch`` and after.
        end_epoch: epoch at which the schedule reaches its end; null for the last epoch of training.
        decay: thor: exponent of (1 - epoch / end_epoch).
        decay_epochs: thor: epoch at which the rate is halved, and again one epoch later; null for never.
        power: polynomial: exponent.
        warmup_epochs: epochs of linear growth from nearly 0 to ``initial``, before the schedule starts.
    """

    schedule: str = setting("cosine", choice("thor", "constant", "cosine", "polynomial"))
    initial: float = setting(0.1, number(minimum=0))
    final: float = setting(0.0, number(minimum=0))
    end_epoch: float | None = setting(None, optional(number(above=0, limit=LAST_EPOCH), "the last epoch of training"))
    decay: float = setting(4.0, number(minimum=0))
    decay_epochs: float | None = setting(None, optional(number(minimum=0, limit=LAST_EPOCH), "no halving"))
    power: float = setting(1.0, number(above=0))
    warmup_epochs: float = setting(0.0, number(minimum=0))


@dataclasses.dataclass(frozen=True)
class DampingConfig(Section):
    """Damping of THOR's factors by step; the formulas are in thor.schedules.

    Attributes:
        schedule: thor, constant or polynomial.
        initial: damping at the start.
        decay: thor: factor by which damping changes every ten epochs.
        final: polynomial: damping at ``end_epoch`` and after.
        end_epoch: polynomial: epoch at which it ends; null for the last epoch of training.
        power: polynomial: exponent.
    """

    schedule: str = setting("constant", choice("thor", "constant", "polynomial"))
    initial: float = setting(0.03, number(above=0))
    decay: float = setting(0.5, number(above=0))
    final: float = setting(1e-6, number(above=0))
    end_epoch: float | None = setting(None, optional(number(above=0, limit=LAST_EPOCH), "the last epoch of training"))
    power: float = setting(1.0, number(above=0))


@dataclasses.dataclass(frozen=True)
class UpdateRuleConfig(Section):
    """THOR of this project, its companions in thor.companions, all others MindSpore's own.

    Some names bring settings that hold where a file says nothing, see models.config.companions.PRESETS. What is
    said of thor goes for kfac and spngd as well, what is said of radam for ranger.

    Attributes:
        name: thor, thor_robust, kfac, spngd, momentum, sgd, adam, adamw, lars, lamb, radam, muon, shampoo, soap, heun,
            dcasgd, ranger, or lookahead(one of the others).
        momentum: thor, momentum, sgd, lars, muon, heun, dcasgd: factor of the running sum of updates.
        weight_decay: added to the gradient as weight_decay * weight (adamw, lamb, muon, shampoo, soap, the rule
            adamw: decoupled).
        decay_filter: all but lars, which decays matrices only: which parameters decay: all, or no_bias_norm (no biases,
            no normalisation layers).
        groups: all but lars, lamb: a list of {match, lr_factor, weight_decay}: parameters in whose name the regular
            expression ``match`` is found, and in that of no group before, have the learning rate times lr_factor and
            that weight_decay, where they are given.
        nesterov: thor, momentum, sgd, adam, lars, muon: Nesterov's momentum.
        beta1, beta2: adam, adamw, lamb, radam, shampoo, soap, muon (of what is no hidden matrix): decay of the
            moments; beta2 also thor with the rule adamw, whose beta1 is the momentum.
        epsilon: adam, adamw, lamb, lars, radam, muon, soap: added to the divisor; null for the default of the class.
        lars_coefficient: lars: trust coefficient.
        clip: thor: clip each parameter's update to L2 norm 1.
        clip_norm: scale gradients, before weight decay, down to this L2 norm over all parameters; of thor their
            preconditioned form by as much, of heun each of the two; null for no limit.
        frequency: thor, without curvature.update.intervals, shampoo, soap: steps from one refresh of curvature to the
            next; 1 refreshes every step.
        split_indices: thor: indices of the layers after which fused factor reductions are cut; null for groups of
            at most 32 MiB.
    """

    name: str = setting("thor", optimizer_name())
    learning_rate: LearningRateConfig = subsection(LearningRateConfig)
    momentum: float = setting(0.9, number(minimum=0, below=1))
    weight_decay: float = setting(0.0, number(minimum=0))
    decay_filter: str = setting("all", choice("all", "no_bias_norm"))
    groups: tuple = setting((), parameter_groups(), "write [{match: bias, weight_decay: 0}]")
    nesterov: bool = setting(False, flag())
    beta1: float = setting(0.9, number(above=0, below=1))
    beta2: float = setting(0.999, number(above=0, below=1))
    epsilon: float | None = setting(None, optional(number(above=0), "MindSpore's default"))
    lars_coefficient: float = setting(0.001, number(above=0))
    damping: DampingConfig = subsection(DampingConfig)
    clip: bool = setting(False, flag())
    clip_norm: float | None = setting(None, optional(number(above=0), "no limit"))
    frequency: int = setting(100, integer(1), "use 1 to refresh curvature every step")
    split_indices: tuple[int, ...] | None = setting(None, optional(ascending(), "groups of at most 32 MiB"))


@dataclasses.dataclass(frozen=True)
class OptimizerConfig(PreconditionerOptions, UpdateRuleConfig):
    """The optimizer: :class:`UpdateRuleConfig`, THOR's settings of :class:`thor.options.PreconditionerOptions`, and

    Attributes:
        lookahead: lookahead(...), ranger: the slow weights.
        compensation: dcasgd: correction of delayed gradients.
        delay: dcasgd: how old the weights of a gradient are.
    """

    lookahead: LookaheadConfig = subsection(LookaheadConfig)
    compensation: CompensationConfig = subsection(CompensationConfig)
    delay: DelayConfig = subsection(DelayConfig)

    @property
    def base(self) -> str:
        """The optimizer whose steps are taken: what lookahead(...) and ranger wrap, else ``name``."""
        return base_of(self.name)

    @property
    def second_order(self) -> bool:
        """Whether those steps are THOR's, with whatever settings."""
        return self.base in SECOND_ORDER


@dataclasses.dataclass(frozen=True)
class LossScaleConfig(Section):
    """What the loss is multiplied by before the backward pass, so that float16 gradients do not vanish.

    Attributes:
        policy: fixed, or dynamic (shrinks on overflow, skipping that step; grows after ``window`` good ones).
        value: fixed: the scale.
        init: dynamic: scale at the start.
        factor: dynamic: what the scale is multiplied or divided by.
        window: dynamic: good steps in a row before it grows.
    """

    policy: str = setting("fixed", choice("fixed", "dynamic"))
    value: float = setting(1.0, number(above=0))
    init: float = setting(65536.0, number(minimum=1))
    factor: int = setting(2, integer(2))
    window: int = setting(1000, integer(1))
