"""The options of THOR's curvature, declared, checked and explained once."""
from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

from thor.checks import ArgumentError, check_fields, checked, choice, flag, integer, number, optional, setting

USE_A_BOOL = "use True or False"
NORMALIZED = ("normalized", "orthogonal")  # rules with the momentum before the preconditioner
# What THOR.robust sets beside rates and damping; found by measurement, see docs/results.md.
ROBUST: dict[str, Any] = {"rule": "normalized", "relative_damping": True, "frequency": 10}


@dataclasses.dataclass(frozen=True)
class PreconditionerOptions:
    """What the factors and their inverses are, and how far an update goes; in YAML of the section ``optimizer``.

    Args:
        split_dim: rows of a diagonal block; None for whole matrices (K-FAC). Default: 128.
        running_average: weight of the old factor in ``new = w * old + (1 - w) * measured``, [0, 1); 0 uses the
            present batch only, as THOR was published. Default: 0.
        pi_correction: split the damping by the factors' mean traces instead of evenly, see
            :mod:`thor.damping`. Default: False.
        relative_damping: damping is a share of each factor's mean eigenvalue, see :mod:`thor.damping`; 0.3 serves most.
            Default: False.
        fold_bias: precondition biases as one more column of their weight, and a row of ones in A. Default: False.
        batchnorm_blocks: precondition BatchNorm with 2x2 blocks of (gamma, beta) per channel. Default: False.
        graft: "sgd" for updates with THOR's direction and, layer by layer, the norm of the gradient, so that a learning
            rate known for momentum serves, see :class:`thor.grafting.Grafting`. Default: None, THOR's own norm.
        kl_clip: bound of the squared distance, in the metric of the curvature, that a step moves the preconditioned
            weights, > 0, see :class:`thor.grafting.KLClip`. Default: None, no bound.
        rule: what follows the preconditioner: "momentum", see :class:`thor.momentum.MomentumUpdate`; "adamw", whose
            beta1 is ``momentum`` and whose weight decay is decoupled, see :class:`thor.adam.AdamWUpdate`; or
            "normalized", momentum before it and updates of the size of Adam's behind it, or "orthogonal", Muon's
            instead, so that a learning rate and a decay are those of Muon, and depend little on the task, see
            :class:`thor.normalized.NormalizedUpdate`; with these two only Dense layers and convolutions are
            preconditioned, and all else follows AdamW.
            Default: "momentum", as THOR was published.
        beta2: of AdamW in the latter three: weight of the old mean of squares, (0, 1). Default: 0.999.
        precision: of the products with the inverses: "float32"; "bfloat16" (CPU, fast with AVX512-BF16; sums are
            float32); "float16" (Ascend, of the covariances, too). Default: "auto", the device's: float16 on the first
            Ascend 910, elsewhere float32.
    """

    split_dim: int | None = setting(128, optional(integer(1), "whole factors"), "use 128 for the published setting", "")
    running_average: float = setting(0.0, number(minimum=0, below=1, requirement="a float in [0, 1)"),
                                     "use 0.0 for the current batch only, 0.95 for a long average", "")
    pi_correction: bool = setting(False, flag(), USE_A_BOOL, "")
    relative_damping: bool = setting(False, flag(), USE_A_BOOL, "")
    fold_bias: bool = setting(False, flag(), USE_A_BOOL, "")
    batchnorm_blocks: bool = setting(False, flag(), USE_A_BOOL, "")
    graft: str | None = setting(None, optional(choice("sgd"), "THOR's own norm"), "use None for THOR's own norm", "")
    kl_clip: float | None = setting(None, optional(number(above=0), "no bound"), "use 0.001, or None for no bound", "")
    rule: str = setting("momentum", choice("momentum", "adamw", *NORMALIZED), 'use "momentum" as published', "")
    beta2: float = setting(0.999, number(above=0, below=1), "use 0.999", "")
    precision: str = setting("auto", choice("auto", "float32", "bfloat16", "float16"), 'use "auto"', "")


@dataclasses.dataclass(frozen=True)
class CurvatureOptions(PreconditionerOptions):
    """All options of THOR's curvature: :class:`PreconditionerOptions`, and how measuring and inverting go about it.

    Args:
        subsample: measure factors on every so many-th row of data (image of a convolution), >= 1; the covariances
            of a refresh cost that much less and are that much noisier. Default: 1, all rows.
        share_inverses: with several ranks, each block is inverted by the rank that owns it, not by all. Default: False.
        record_curvature: measure every layer's trace, its change and condition for ``curvature_report``, whatever
            the policy. Default: False.

    Raises:
        ArgumentError: ``name=value; must be ...; do ...``.
    """

    subsample: int = setting(1, integer(1), "use 1 to measure on all rows, 4 on a quarter of them")
    share_inverses: bool = setting(False, flag(), USE_A_BOOL)
    record_curvature: bool = setting(False, flag(), USE_A_BOOL)
    loss_reduction: str = setting("mean", choice("mean", "sum"), "use what the loss was made with")

    def __post_init__(self):
        check_fields(self)
        if self.pi_correction and self.relative_damping:
            raise ArgumentError("pi_correction=True; must be False with relative_damping=True; use one of the two")

    @property
    def normalizes(self) -> bool:
        """Whether momentum comes before the preconditioner, and a size behind it."""
        return self.rule in NORMALIZED

    @property
    def block_size(self) -> int:
        """Rows of the largest block; more than any matrix has when whole matrices are kept."""
        return 2 ** 30 if self.split_dim is None else self.split_dim


def check_rule(options: CurvatureOptions, momentum: float, enable_clip_grad: bool, use_nesterov: bool,
               clip_norm: float | None) -> None:
    """Refuse arguments that a rule other than "momentum" does not read.

    Raises:
        ArgumentError: for the first such argument.
    """
    rule = options.rule
    if rule == "momentum":
        return
    checked("momentum", momentum, number(minimum=0, below=1), "it is AdamW's beta1")
    for name, flagged in (("enable_clip_grad", enable_clip_grad), ("use_nesterov", use_nesterov)):
        if flagged:
            raise ArgumentError(f"{name}={flagged!r}; must be False with rule={rule!r}; only rule='momentum' reads it")
    sizes: dict[str, Any] = {"graft": options.graft, "kl_clip": options.kl_clip, "clip_norm": clip_norm}
    for name, value in sizes.items():
        if options.normalizes and value is not None:
            raise ArgumentError(f"{name}={value!r}; must be None with rule={rule!r}; its updates have their size")


def curvature_options(options: dict[str, Any]) -> CurvatureOptions:
    """:class:`CurvatureOptions` from keyword arguments.

    Raises:
        ArgumentError: a name or a value is wrong.
    """
    known = [field.name for field in dataclasses.fields(CurvatureOptions)]
    for name, value in options.items():
        if name not in known:
            raise ArgumentError(f"{name}={value!r}; must be an option of THOR; use one of {', '.join(sorted(known))}")
    return CurvatureOptions(**options)


def with_options(function: Callable) -> inspect.Signature:
    """The signature of a function that takes ``**options``, with every option spelled out."""
    signature = inspect.signature(function)
    options = [inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default,
                                 annotation=field.type) for field in dataclasses.fields(CurvatureOptions)]
    named = [parameter for parameter in signature.parameters.values()
             if parameter.name != "self" and parameter.kind is not inspect.Parameter.VAR_KEYWORD]
    return signature.replace(parameters=named + options)
