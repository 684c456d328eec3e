"""What an optimizer with curvature holds, and what people and programs read of it; the step is THOR's."""
from __future__ import annotations

import logging
from collections.abc import Sequence

import mindspore as ms
from mindspore import Parameter, ParameterTuple, Tensor

from thor.curvature.policies import UpdatePolicy
from thor.curvature.record import LayerReport
from thor.curvature.refresh import Curvature
from thor.grouped import GroupedOptimizer
from thor.groups import Group
from thor.inputs import samples_of
from thor.layers.batch import BatchFacts
from thor.registration import Registration
from thor.reload import ReloadWatch

logger = logging.getLogger("thor")


class ReportingOptimizer(GroupedOptimizer):
    """Holds the curvature of a network, and says what it saw and did.

    Args:
        learning_rate, weight_decay, loss_scale, groups: as for :class:`thor.grouped.GroupedOptimizer`.
        damping: by step, a Cell.
        registration: of the network, with a trainable parameter at least.
        policy: chooses when and which layers to refresh.
        batch_facts: samples and loss scale of the latest update.

    Attributes:
        curvature: of the layers with factors; missing where there is none, see ``has_factors``.
        refreshed_at, skipped: step of the last refresh ``(1,)``, updates that were not finite ``()``, Parameters.
    """

    def __init__(self, learning_rate, damping, weight_decay, loss_scale: float, groups: Sequence[Group],
                 registration: Registration, policy: UpdatePolicy, batch_facts: BatchFacts):
        layers = [layer for layer in registration.layers if layer.factors]
        curvature = Curvature(registration, layers, policy, batch_facts) if layers else None
        factors = [*curvature.factor_parameters, batch_facts.loss_scale_statistics] if curvature is not None else []
        super().__init__(learning_rate, registration.parameters(), weight_decay, loss_scale, groups, factors)
        self.damping, self.policy, self.batch_facts = damping, policy, batch_facts
        self.has_factors = curvature is not None
        if curvature is not None:
            self.curvature = curvature
        object.__setattr__(self, "registration", registration)
        self.refreshed_at = Parameter(Tensor([-1], ms.int32), name="step_of_last_refresh", requires_grad=False)
        self.skipped = Parameter(Tensor(0, ms.int32), name="skipped_updates", requires_grad=False)
        self.warned_of_skipped = self.warned_of_batch_size = False
        self.reloads = ReloadWatch(self)

    def __call__(self, *inputs):
        self.warn_of_skipped_updates()  # those of earlier calls
        return self.reloads.call(super().__call__, inputs)

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

    def warn_once(self, inputs) -> None:
        """Warn, the first time, of what a refresh in a step with these inputs saw that it should not have."""
        said, samples = self.batch_size, samples_of(inputs, self.batch_size)
        if samples != said and not self.warned_of_batch_size:
            self.warned_of_batch_size = True
            logger.warning("batch_size=%d; this step saw %d samples, and curvature is measured with those; give "
                           "batch_size=%d if that is what a device sees in one step", said, samples, samples)
        if self.has_factors:
            self.curvature.record.warn_once()

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

    def get_frequency(self) -> int:
        """Steps from one refresh of curvature to the next, at the start of training."""
        return self.frequency
