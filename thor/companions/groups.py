"""What optimizers with one rule for all parameters accept."""
from __future__ import annotations

from collections.abc import Sequence

from mindspore import Tensor, nn
from mindspore.nn.learning_rate_schedule import LearningRateSchedule

Rate = float | Sequence[float] | Tensor | LearningRateSchedule


def refuse_own_rates(optimizer: nn.Optimizer) -> None:
    """ValueError if a group of parameters has a learning rate of its own; other settings of groups are fine."""
    if optimizer.is_group_lr:
        raise ValueError("params has groups with learning rates of their own; must have one for all; "
                         "leave lr out of the groups")
