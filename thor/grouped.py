"""Bases of optimizers: parameters with learning rates and weight decays of their own, in graphs; one within another."""
from __future__ import annotations

from collections.abc import Sequence

import mindspore as ms
from mindspore import Parameter, ParameterTuple, Tensor, nn, ops

from thor.checks import ArgumentError
from thor.groups import Group, shown
from thor.maps import pick
from thor.schedules import weight_decay_by_step

_evaluated = ops.MultitypeFuncGraph("evaluated")


@_evaluated.register("Tensor", "Function")
def _evaluate(step, schedule):
    """The value of a schedule, shape ``()``."""
    return schedule(step).reshape(())


class GroupValues(nn.Cell):
    """The optimizer's own value and those of its groups in a step: a tuple of scalars, the own one first.

    Args:
        values: of the groups; a Parameter, a Tensor of shape ``()``, a schedule by global step, or None for the own.
        groups: for each parameter the index of its group, None without one.

    Attributes:
        places: for each parameter which of the tuple is its.
    """

    def __init__(self, values: list, groups: list[int | None]):
        super().__init__(auto_prefix=False)
        schedules = [value for value in values if isinstance(value, nn.Cell)]
        constants = [value for value in values if value is not None and not isinstance(value, nn.Cell)]
        hold = ParameterTuple if any(isinstance(value, Parameter) for value in constants) else tuple
        self.constants = hold(constants)
        self.schedules = nn.CellList(schedules, auto_prefix=False)
        self.each_schedule = tuple(schedules)
        self.map = ops.Map()
        place = {id(value): 1 + i for i, value in enumerate(constants + schedules)}
        self.places = tuple(0 if group is None else place.get(id(values[group]), 0) for group in groups)

    def construct(self, step, own):
        values = (own,)
        if len(self.constants) > 0:
            values = values + self.constants
        if len(self.each_schedule) > 0:
            values = values + self.map(ops.partial(_evaluated, step), self.each_schedule)
        return values


class GroupedOptimizer(nn.Optimizer):
    """An optimizer with one learning rate and weight decay for all parameters, or one for each.

    Args:
        learning_rate: as for ``nn.Optimizer``; of parameters without a group or whose group has none.
        parameters: what is trained.
        weight_decay: a number, one value a step, or a Cell by global step; like ``learning_rate``. Without groups,
            parameters named ``beta`` or ``gamma`` do not decay by :meth:`decay_weight`, as in ``nn.Optimizer``.
        loss_scale: what gradients are divided by, > 0.
        groups: of some of ``parameters``.
        others: follow ``parameters`` in the attribute ``parameters``, and have neither rate nor decay.

    Attributes:
        learning_rate: the own rate; that of a group is found by :meth:`get_lr_parameter`.
        weight_decay: the own decay, of gradients that are unscaled.
    """

    def __init__(self, learning_rate, parameters: Sequence[Parameter], weight_decay=0.0, loss_scale: float = 1.0,
                 groups: Sequence[Group] = (), others: Sequence[Parameter] = ()):
        own_decay = weight_decay_by_step("weight_decay", weight_decay)
        super().__init__(learning_rate, [*parameters, *others], 0.0, loss_scale)
        self.is_group, self.is_group_lr = len(groups) > 0, any(group.learning_rate is not None for group in groups)
        group_of = {id(p): index for index, group in enumerate(groups) for p in group.parameters}
        indices = [group_of.get(id(parameter)) for parameter in parameters]
        if self.is_group_lr:
            self.rates = GroupValues([_rate_value(i, group) for i, group in enumerate(groups)], indices)
        decays = [group.weight_decay for group in groups]
        if self.is_group:
            self.decays = GroupValues([_decay_value(decay) for decay in decays], indices)
        present = [None if index is None else decays[index] for index in indices]
        self.may_decay = tuple((own_decay if decay is None else decay) != 0.0 for decay in present)
        self.exec_weight_decay, self.dynamic_weight_decay = any(self.may_decay), isinstance(own_decay, nn.Cell)
        if self.is_group:
            self.decay_flags = self.may_decay
        self.weight_decay = _decay_value(own_decay)

    def get_lr(self):
        """The learning rate of the present step, shape ``()``; where groups have their own, one for each parameter."""
        if self.is_group_lr:
            return pick(self.distinct_lr(), self.rates.places)
        return self.own_lr()

    def own_lr(self):
        """The learning rate of parameters without one of their own."""
        if self.dynamic_lr:
            return self.learning_rate(self.global_step).reshape(())
        return self.learning_rate

    def distinct_lr(self):
        """The own learning rate and those of the groups that have one; ``rates.places`` says whose is which."""
        return self.rates(self.global_step, self.own_lr())

    def get_weight_decay(self):
        """The weight decay of the present step, shape ``()``; with groups one for each parameter."""
        decay = self.weight_decay
        if self.dynamic_weight_decay:
            decay = self.weight_decay(self.global_step).reshape(())
        if self.is_group:
            return pick(self.decays(self.global_step, decay), self.decays.places)
        return decay

    def get_lr_parameter(self, param):
        """The Parameter, or the schedule, that holds the learning rate of a parameter; a list of them for a list."""
        if not self.is_group_lr:
            return super().get_lr_parameter(param)
        if isinstance(param, list):
            return [self.get_lr_parameter(each) for each in param]
        index = {id(parameter): place for parameter, place in zip(self.parameters, self.rates.places)}
        if id(param) not in index:
            raise ArgumentError(f"param={shown(param)}; must be a parameter of the optimizer; see its parameters")
        return (self.learning_rate, *self.rates.constants, *self.rates.schedules)[index[id(param)]]


class WrappedOptimizer(nn.Optimizer):
    """Stands for another optimizer: parameters, step, learning rates, decays and loss scale are that one's.

    Args:
        base: the other.
    """

    def __init__(self, base: nn.Optimizer):
        super().__init__(0.0, list(base.parameters), loss_scale=base.loss_scale)
        for name in ("global_step", "learning_rate"):  # those of base, not a second set
            delattr(self, name)
            setattr(self, name, getattr(base, name))
        self.is_group, self.is_group_lr, self.dynamic_lr = base.is_group, base.is_group_lr, base.dynamic_lr
        self.base = base

    def get_lr(self):
        """The learning rate of ``base``; where its groups have their own, one for each parameter."""
        return self.base.get_lr()

    def get_weight_decay(self):
        """The weight decay of ``base``."""
        return self.base.get_weight_decay()

    def get_lr_parameter(self, param):
        """What holds the learning rate of a parameter in ``base``."""
        return self.base.get_lr_parameter(param)


def _rate_value(index: int, group: Group):
    """A constant rate is a Parameter, so that it can be changed between steps and is saved with the others."""
    if isinstance(group.learning_rate, float):
        return Parameter(Tensor(group.learning_rate, ms.float32), name=f"learning_rate_of_group_{index}",
                         requires_grad=False)
    return group.learning_rate


def _decay_value(decay):
    return Tensor(decay, ms.float32) if isinstance(decay, float) else decay
