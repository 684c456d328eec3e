"""What people and programs read of an optimizer with curvature; nothing of it is part of a step."""
from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from thor.curvature.record import LayerReport

if TYPE_CHECKING:
    from mindspore import Parameter, ParameterTuple

    from thor.curvature.policies import UpdatePolicy
    from thor.curvature.refresh import Curvature
    from thor.layers.batch import BatchFacts
    from thor.momentum import MomentumUpdate
    from thor.registration import Registration


logger = logging.getLogger("thor")


class Readings:
    """Reports on registration and curvature, and state under the names that programs for MindSpore's THOR read."""

    registration: Registration
    curvature: Curvature
    has_factors: bool
    policy: UpdatePolicy
    batch_facts: BatchFacts
    weights: ParameterTuple
    momentum_update: MomentumUpdate
    refreshed_at: Parameter
    skipped: Parameter
    warned_of_skipped = False

    def registration_table(self) -> str:
        """One row for each trainable parameter: its shape and how it is updated."""
        return self.registration.table()

    @property
    def rejected_blocks(self) -> int:
        """Blocks that were not finite or not positive definite so far; each kept its last good inverse."""
        return self.curvature.record.rejected_blocks() if self.has_factors else 0

    @property
    def skipped_updates(self) -> int:
        """Updates that were not finite so far; weights, momentum and step count stayed as they were."""
        return int(self.skipped.asnumpy())

    def warn_of_skipped_updates(self) -> None:
        """Warn, the first time, where there are any; to be called from Python."""
        if self.warned_of_skipped or not self.skipped_updates:
            return
        self.warned_of_skipped = True
        logger.warning("the update of step %d was not finite and was skipped, as all such updates are "
                       "(optimizer.skipped_updates counts them): look for NaN or Inf in the data; if there are none, "
                       "raise the damping=%.4g or lower the learning_rate=%.4g", int(self.global_step.asnumpy()[0]),
                       float(self.damping(self.global_step).asnumpy().reshape(())), float(self.own_lr().asnumpy()))

    @property
    def unmeasured_layers(self) -> list[str]:
        """Layers that did not run through their taps in the last refresh; they keep the inverse they had."""
        return self.curvature.record.unmeasured_layers() if self.has_factors else []

    def inverses(self) -> dict[str, dict]:
        """The damped inverses by layer name and role, see :meth:`thor.curvature.refresh.Curvature.inverses_by_role`."""
        return self.curvature.inverses_by_role() if self.has_factors else {}

    def curvature_report(self) -> list[LayerReport]:
        """What the last refresh saw and did, layer by layer; traces and conditions where they are measured."""
        return self.curvature.record.reports() if self.has_factors else []

    @property
    def last_refresh(self) -> int:
        """Step of the last refresh of curvature, counted from 0; -1 before the first."""
        return int(self.refreshed_at.asnumpy()[0])

    @property
    def frequency(self) -> int:
        """Steps from one refresh of curvature to the next, at the start of training."""
        return self.policy.segments[0][1]

    @property
    def batch_size(self) -> int:
        """Samples a device was said to see in one step."""
        return self.batch_facts.batch_size

    @property
    def params(self) -> ParameterTuple:
        """The weights, as MindSpore's THOR names them; ``moments`` are in their order."""
        return self.weights

    @property
    def moments(self) -> ParameterTuple:
        """The running sums of momentum."""
        return self.momentum_update.moments

    @property
    def momentum(self) -> Parameter:
        """mu, a scalar."""
        return self.momentum_update.momentum

    @property
    def use_nesterov(self) -> bool:
        """Whether momentum is Nesterov's."""
        return self.momentum_update.nesterov

    def get_frequency(self) -> int:
        """Steps from one refresh of curvature to the next, at the start of training."""
        return self.frequency
