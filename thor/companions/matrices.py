"""What optimizers of matrices share: AdamW updates all that is none."""
from __future__ import annotations

from collections.abc import Callable, Sequence

from mindspore import Parameter, ParameterTuple, Tensor, ops
from mindspore import dtype as mstype

from thor.adam import EPSILON, AdamWUpdate
from thor.grouped import GroupedOptimizer
from thor.groups import Decay, Rate, parameters_and_groups
from thor.maps import pick


class MatrixOptimizer(GroupedOptimizer):
    """An optimizer of matrices that defines :meth:`move_matrices`, and AdamW for all else, at the same rate.

    Args:
        params, learning_rate, weight_decay, loss_scale: as for :class:`thor.grouped.GroupedOptimizer`, groups within
            ``params``.
        are_matrices: function of all parameters that tells which are; of these, those of one axis are not.
        beta1, beta2, epsilon: of AdamW.

    Attributes:
        matrices: those parameters.
    """

    def __init__(self, params: Sequence, learning_rate: Rate, weight_decay: Decay, loss_scale: float,
                 are_matrices: Callable[[Sequence[Parameter]], Sequence[bool]],
                 beta1: float, beta2: float, epsilon: float = EPSILON):
        parameters, groups = parameters_and_groups(params)
        super().__init__(learning_rate, parameters, weight_decay, loss_scale, groups)
        chosen = [bool(flag) and p.ndim > 1 for flag, p in zip(are_matrices(parameters), parameters, strict=True)]
        self.of_matrices = tuple(i for i, is_matrix in enumerate(chosen) if is_matrix)
        self.of_others = tuple(i for i, is_matrix in enumerate(chosen) if not is_matrix)
        self.decays_of_matrices = tuple(Tensor(float(self.decay_flags[i]), mstype.float32) for i in self.of_matrices)
        self.matrices = ParameterTuple([parameters[i] for i in self.of_matrices])
        if self.of_others:
            self.adam = AdamWUpdate(ParameterTuple([parameters[i] for i in self.of_others]), beta1, beta2,
                                    tuple(self.decay_flags[i] for i in self.of_others), epsilon)
        self.map = ops.HyperMap()

    def construct(self, gradients):
        gradients = self.scale_grad(gradients)
        rates, decays = self.get_lr(), self.get_weight_decay()
        self.assignadd(self.global_step, self.global_step_increase_tensor)
        done = ()
        if len(self.of_matrices) > 0:
            decays_of_matrices = self.map(ops.mul, self.some(decays, self.of_matrices, self.is_group),
                                          self.decays_of_matrices)
            done = self.move_matrices(pick(gradients, self.of_matrices),
                                      self.some(rates, self.of_matrices, self.is_group_lr), decays_of_matrices)
        if len(self.of_others) > 0:
            done = done + self.adam(pick(gradients, self.of_others),
                                    self.some(rates, self.of_others, self.is_group_lr),
                                    self.some(decays, self.of_others, self.is_group))
        return done

    def move_matrices(self, gradients, rates, decays):
        """Update ``matrices``; a gradient, a rate and a decay ``()`` for each. ``global_step`` counts this step."""
        raise NotImplementedError

    def some(self, values, places, are_each: bool):
        """Those of the parameters at ``places``; ``values`` are a scalar, or one for each parameter."""
        return pick(values, places) if are_each else (values,) * len(places)
