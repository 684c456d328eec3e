"""Names of optimizers, the settings a name brings along, and sections of the companions of THOR."""
from __future__ import annotations

import dataclasses
from typing import Any

from models.config.section import Section
from thor.checks import Check, choice, flag, integer, number, setting
from thor.options import ROBUST

OPTIMIZERS = ("thor", "thor_robust", "kfac", "spngd", "momentum", "sgd", "adam", "adamw", "lars", "lamb", "radam",
              "muon", "shampoo", "soap", "heun", "dcasgd", "ranger")
SECOND_ORDER = ("thor", "thor_robust", "kfac", "spngd")
DELAYED = ("dcasgd",)
WHOLE = ("thor_robust",)  # the settings it brings belong together: what was given for another optimizer is none of them
DELAYS = ("constant", "uniform", "poisson", "workers")

# What a name sets, by section, where file and command line say nothing; all else is the sections' own.
PRESETS: dict[str, dict[str, Any]] = {
    "thor_robust": {"optimizer": {**ROBUST, "weight_decay": 0.02, "decay_filter": "no_bias_norm",
                                  "damping": {"schedule": "constant", "initial": 0.3},
                                  "learning_rate": {"schedule": "cosine", "initial": 0.01}}},
    "kfac": {"optimizer": {"split_dim": None, "pi_correction": True, "running_average": 0.95, "frequency": 10}},
    "spngd": {"optimizer": {"split_dim": None, "pi_correction": True, "batchnorm_blocks": True, "frequency": 1},
              "curvature": {"update": {"policy": "frobenius", "alpha": 0.1}}},
    "ranger": {"optimizer": {"beta1": 0.95, "epsilon": 1e-5, "lookahead": {"steps": 6, "alpha": 0.5}}},
    "muon": {"optimizer": {"momentum": 0.95, "nesterov": True, "beta2": 0.95}},
    "shampoo": {"optimizer": {"beta2": 0.99, "frequency": 10}},
    "soap": {"optimizer": {"beta1": 0.95, "beta2": 0.95, "frequency": 10}},
    "heun": {"optimizer": {"momentum": 0.0}},
    "dcasgd": {"optimizer": {"momentum": 0.0}},
}


def _within(name: str) -> str | None:
    """What ``lookahead(...)`` holds; None for another name."""
    word, bracket, rest = name.partition("(")
    is_lookahead = bracket and word.rstrip().lower() == "lookahead" and rest.endswith(")")
    return rest[:-1].strip() if is_lookahead else None


def optimizer_name() -> Check:
    """One of OPTIMIZERS, or ``lookahead(name)`` of one that has no slow weights itself."""
    plain, inner = choice(*OPTIMIZERS), choice(*(name for name in OPTIMIZERS if name != "ranger"))

    def parse(value: Any) -> str:
        found = _within(value) if isinstance(value, str) else None
        return plain.parse(value) if found is None else f"lookahead({inner.parse(found)})"
    return Check(f"{plain.requirement}, or lookahead(one of them)", parse)


def base_of(name: str) -> str:
    """The optimizer whose steps are taken: what lookahead(...) and ranger wrap, else the name itself."""
    found = _within(name)
    return "radam" if name == "ranger" else name if found is None else found.lower()


def slow_weights(name: str) -> bool:
    """Whether slow weights follow those of ``base_of(name)``."""
    return name == "ranger" or _within(name) is not None


def preset(name: Any) -> dict[str, Any]:
    """Settings, by section, that come with an optimizer's name as it stands in a file; {} for what is no name."""
    if not isinstance(name, str):
        return {}
    key = name.strip().lower()
    return PRESETS.get(key, PRESETS.get(base_of(key), {}))


@dataclasses.dataclass(frozen=True)
class LookaheadConfig(Section):
    """Slow weights around another optimizer.

    Attributes:
        steps: k, steps from one move of the slow weights to the next.
        alpha: share of the way to the fast weights they move.
    """

    steps: int = setting(5, integer(1))
    alpha: float = setting(0.5, number(above=0, maximum=1))


@dataclasses.dataclass(frozen=True)
class CompensationConfig(Section):
    """Correction of delayed gradients, g + lambda g g (w_now - w_then).

    Attributes:
        strength: lambda; 0 is asynchronous SGD. Published: 0.04, adaptive 2.
        adaptive: divide lambda by the root of a running mean of g g.
        decay: weight of the old mean.
    """

    strength: float = setting(0.04, number(minimum=0))
    adaptive: bool = setting(False, flag())
    decay: float = setting(0.95, number(minimum=0, below=1))


@dataclasses.dataclass(frozen=True)
class DelayConfig(Section):
    """How many updates old the weights are at which a simulated worker evaluates its gradient.

    Attributes:
        distribution: constant, uniform (0 to twice the mean), poisson, or workers (mean + 1 of them with
            exponential computing times).
        mean: of the delay; 0 is synchronous.
        longest: longer delays are cut; so many copies of the weights are kept.
    """

    distribution: str = setting("constant", choice(*DELAYS))
    mean: float = setting(0.0, number(minimum=0, limit=10 ** 6))
    longest: int = setting(16, integer(0, limit=1000))
