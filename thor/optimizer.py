"""THOR: trace-based, hardware-driven layer-oriented natural gradient descent (Chen et al., AAAI 2021).

The key idea: *curvature arrives as gradients*. Where a layer keeps its linear operator stands a tap, whose backward
pass returns the measured Kronecker factors as the gradients of factor parameters (:mod:`thor.layers.tap`). The
optimizer's ``parameters`` are the weights followed by these, so one differentiation gives both. A refresh turns the
second part into damped inverses (:mod:`thor.curvature.refresh`); every step multiplies the first with them.
"""
from __future__ import annotations

import logging
from contextlib import contextmanager

import mindspore as ms
from mindspore import Parameter, ParameterTuple, Tensor, nn, ops

from thor.adam import AdamWUpdate
from thor.checks import IN_RANGE, checked, flag, function, integer, number, whole_number
from thor.clipping import gradient_clip
from thor.curvature.policies import UpdatePolicy, check_policy
from thor.distribution import check_split_indices, world
from thor.grafting import Grafting, KLClip
from thor.groups import groups_within
from thor.layers.batch import BatchFacts
from thor.maps import pick
from thor.momentum import MomentumUpdate
from thor.normalized import NormalizedUpdate
from thor.options import ROBUST, USE_A_BOOL, check_rule, curvature_options, with_options
from thor.preconditioning import NetworkPreconditioner
from thor.registration import Registration, tap_network
from thor.reporting import ReportingOptimizer
from thor.schedules import by_step, learning_rate_by_step, weight_decay_by_step

logger = logging.getLogger("thor")

SCHEDULED, SECOND_ORDER, STALE = "scheduled", "second_order", "stale"
EVERY_STEP = "use 1 to refresh curvature every step"

class THOR(ReportingOptimizer):
    r"""Second-order optimizer with block-diagonal Kronecker factors that are refreshed every ``frequency`` steps.

    Per layer with input factor A and output-gradient factor G, damping lam and HW output positions
    (1 unless a convolution), a step does

    .. math::
        u &= (G + \sqrt{\lambda / HW} I)^{-1} \, g \, (A + \sqrt{\lambda / HW} I)^{-1} / HW + wd \cdot w \\
        v &= \mu v + u, \qquad w \leftarrow w - lr \cdot v

    The network is tapped in place (see :func:`thor.registration.tap_network`) and keeps its parameters.
    ``parameters`` holds its trainable parameters, in its order, and then the factor parameters, whose gradients are the
    measured factors: a training loop of your own differentiates with respect to ``optimizer.parameters``.

    Args:
        net: the network to train.
        learning_rate: float, list, array or Tensor; a 1-D array is indexed by the global step and its last
            value holds after its end; or a MindSpore ``LearningRateSchedule``.
        damping: lam, given like ``learning_rate``, positive.
        momentum: mu, >= 0.
        weight_decay: wd, given like ``learning_rate``, or as a Cell of the global step, >= 0. Default: 0.
        loss_scale: what the loss was multiplied with, > 0. Default: 1.
        batch_size: samples a device sees in one step, over which the loss is a mean. Curvature is measured with the
            samples seen, with one warning where they are others (:class:`thor.layers.batch.BatchFacts`). Default: 32.
        use_nesterov: Nesterov momentum. Default: False.
        decay_filter: function of a Parameter; True where it decays. Default: every parameter decays.
        split_indices: layer indices after which fused reductions of factors are cut. Default: None, 32 MiB each.
        enable_clip_grad: clip every tensor's update to L2 norm 1 before momentum. Default: False.
        frequency: steps from one refresh of curvature to the next, >= 1. Default: 100.
        update: when curvature is refreshed, and of which layers, instead of all every ``frequency`` steps; a
            :class:`thor.curvature.UpdatePolicy` such as ``TracePolicy(frequency, w1=0.01)``. Default: None.
        groups: dictionaries of parameters, their names or cells, with a rate, a decay or both of their own, such as
            ``[{"params": [net.fc], "lr": 0.01, "weight_decay": 0.0}]``, see :mod:`thor.groups`; ``learning_rate`` and
            ``weight_decay`` are those of all others. Default: None.
        clip_norm: L2 norm to which the gradients of all weights together are scaled down, > 0. Default: None, none.
        options: those of :class:`thor.options.CurvatureOptions`, such as ``split_dim=128``.

    Inputs:
        gradients: gradients of ``parameters``, in order.

    Raises:
        ArgumentError: an argument is wrong, a TypeError and a ValueError; names it, its value and the remedy.

    Examples:
        >>> opt = THOR(net, 0.05, damping=0.03, momentum=0.9, batch_size=32, frequency=100)
        >>> step = thor.train.make_train_step(nn.WithLossCell(net, loss_fn), opt)
        >>> loss = step(images, labels)
    """

    def __init__(self, net, learning_rate, damping, momentum, weight_decay=0.0, loss_scale=1.0, batch_size=32,
                 use_nesterov=False, decay_filter=lambda parameter: True, split_indices=None,
                 enable_clip_grad=False, frequency=100, *, update=None, groups=None, clip_norm=None, **options):
        options = curvature_options(options)
        frequency = checked("frequency", frequency, integer(1), EVERY_STEP)
        policy = check_policy(UpdatePolicy(frequency) if update is None else update)
        batch_size = checked("batch_size", batch_size, whole_number(1),
                             "give the number of samples each device sees in one step")
        learning_rate, damping = learning_rate_by_step(learning_rate), by_step("damping", damping, positive=True)
        momentum = checked("momentum", momentum, number(minimum=0), IN_RANGE)
        weight_decay = weight_decay_by_step("weight_decay", weight_decay)
        loss_scale = checked("loss_scale", loss_scale, number(above=0), IN_RANGE)
        checked("use_nesterov", use_nesterov, flag(), USE_A_BOOL)
        checked("decay_filter", decay_filter, function(), "return True for parameters that decay")
        checked("enable_clip_grad", enable_clip_grad, flag(), USE_A_BOOL)
        check_rule(options, momentum, enable_clip_grad, use_nesterov, clip_norm)
        groups = groups_within(groups, net.trainable_params() if isinstance(net, nn.Cell) else ())
        world()  # refuses a parallel mode in which a rank does not see whole layers
        registration = tap_network(net, options, policy=policy)
        if not registration.parameters():
            raise ValueError(f"net={type(net).__name__} has no trainable parameter; must have at least one; "
                             "set requires_grad=True where it should learn")
        facts = BatchFacts(batch_size, loss_scale, options.loss_reduction == "sum")
        super().__init__(learning_rate, damping, weight_decay, loss_scale, groups, registration, policy, facts)
        self.backend, self.n_weights = registration.backend, len(registration.parameters())
        self.split_indices = check_split_indices(split_indices, len(self.factor_places()))
        self._order_weights(registration)
        self._create_update(options, momentum, decay_filter, enable_clip_grad, use_nesterov)
        self.clip, self.all_finite = gradient_clip(clip_norm), self.backend.finite_operator(self.weights)
        self.graph, self.measuring = SCHEDULED, True
        logger.info("THOR updates:\n%s", registration.table())

    @classmethod
    def robust(cls, net, learning_rate=0.01, damping=0.3, momentum=0.9, weight_decay=0.02, **options):
        """THOR for a task nobody has searched settings for; what it reaches so, docs/results.md says.

        Momentum before the preconditioner and updates of one size (:class:`thor.normalized.NormalizedUpdate`), damping
        as a share of each factor's mean eigenvalue, a refresh every ten steps. Biases and what belongs to normalisation
        do not decay.

        Args:
            learning_rate: should fall to 0 by the end of training, such as ``nn.cosine_decay_lr(0, 0.01, ...)``.
                Default: 0.01, which served on every task tried.
            options: the others of THOR; all arguments are explained there.
        """
        return cls(net, learning_rate, damping, momentum, weight_decay,
                   **{**ROBUST, "decay_filter": lambda parameter: parameter.ndim > 1, **options})

    def _order_weights(self, registration: Registration) -> None:
        """``weight_indices`` into ``parameters``: the layers' weights first, in layer order, then the others."""
        layers = registration.layers
        with_factors = iter(self.curvature.preconditioners if self.has_factors else ())
        preconditioners = [next(with_factors) if layer.factors else layer.create_preconditioner(self.batch_facts)
                           for layer in layers]
        self.precondition = NetworkPreconditioner(registration.backend, preconditioners,
                                                  [len(layer.parameters) for layer in layers])
        index = {id(parameter): i for i, parameter in enumerate(self.parameters)}
        of_layers = [index[id(parameter)] for layer in layers for parameter in layer.parameters]
        others = [i for i in range(self.n_weights) if i not in set(of_layers)]
        self.weight_indices, self.n_preconditioned = tuple(of_layers + others), len(of_layers)

    def _create_update(self, options, momentum, decay_filter, enable_clip_grad, use_nesterov) -> None:
        """``weights`` in the order of ``weight_indices``, and what follows the preconditioner."""
        self.grafts = options.graft is not None and self.n_preconditioned > 0
        self.clips_kl = options.kl_clip is not None and self.n_preconditioned > 0
        counts = [len(layer.parameters) for layer in self.registration.layers]
        if self.grafts:
            self.graft = Grafting(counts)
        if self.clips_kl:
            self.kl_clip = KLClip(options.kl_clip)
        self.weights = ParameterTuple([self.parameters[i] for i in self.weight_indices])
        decays = tuple(self.may_decay[i] and bool(decay_filter(self.parameters[i])) for i in self.weight_indices)
        self.normalizes = options.normalizes
        if options.rule == "adamw":
            self.momentum_update = AdamWUpdate(self.weights, momentum, options.beta2, decays)
        elif self.normalizes:
            matrices = [layer.whole_matrix() if options.rule == "orthogonal" else ()
                        for layer in self.registration.layers]
            self.momentum_update = NormalizedUpdate(self.weights, counts, momentum, options.beta2, decays, matrices)
        else:
            self.momentum_update = MomentumUpdate(self.weights, momentum, decays, enable_clip_grad, use_nesterov)

    def factor_places(self) -> list[tuple[int, ...]]:
        """For each layer with factors, where its measurements stand among ``parameters``."""
        index = {id(parameter): i for i, parameter in enumerate(self.parameters)}
        return [tuple(index[id(parameter)] for parameter in layer.factor_parameters.values())
                for layer in self.registration.layers if layer.factor_parameters]

    def construct(self, gradients):
        """One step; see the class for the equations."""
        if len(gradients) != len(self.parameters):
            raise ValueError(f"gradients has {len(gradients)} entries; must be {len(self.parameters)}, one for each of "
                             "optimizer.parameters; differentiate with respect to optimizer.parameters")
        if self.has_factors:
            if self.graph == SECOND_ORDER:
                self.refresh(gradients[self.n_weights:])
            elif self.graph == SCHEDULED:
                if self.refresh_due():
                    self.refresh(gradients[self.n_weights:])
        return self.apply_update(pick(gradients, self.weight_indices))

    def refresh(self, measurements):
        """Replace the inverses of the layers the policy chooses by those of the factors measured in this step."""
        damping = self.damping(self.global_step).reshape(())
        next_damping = damping
        if self.policy.keep_below > 0:
            next_damping = self.damping(self.policy.following(self.global_step[0]).reshape(1)).reshape(())
        loss_scale = self.batch_facts.loss_scale(measurements[-1])
        seen = self.curvature(measurements[:-1], damping, next_damping, loss_scale)
        ops.assign(self.refreshed_at, self.global_step)
        return self.curvature.record(seen)

    def apply_update(self, gradients):
        """Update ``weights`` with the inverses that are there; ``gradients`` are those of ``weights``, in order.

        An update that is not finite is skipped and counted. Returns whether it was finite, ``()``.
        """
        gradients = self.scale_grad(gradients)
        updates = self.preconditioned(gradients[:self.n_preconditioned]) + gradients[self.n_preconditioned:]
        updates = self.clip(gradients, updates)
        finite = self.all_finite(updates)
        if finite:
            self.move(gradients, updates)
        else:
            ops.assign_add(self.skipped, self.global_step_increase_tensor.reshape(()))
        return finite

    def preconditioned(self, gradients):
        """The updates of the layers' weights, as far as they go."""
        first_momentum = self.normalizes and self.n_preconditioned > 0
        if first_momentum:
            gradients = self.momentum_update.ahead(gradients)
        updates = self.precondition(gradients, self.damping(self.global_step).reshape(()))
        if first_momentum:
            return self.momentum_update.sized(updates)
        if self.grafts:
            updates = self.graft(gradients, updates)
        if self.clips_kl:
            rates = self.rates_of_weights()
            updates = self.kl_clip(gradients, updates, rates[:self.n_preconditioned] if self.is_group_lr else rates)
        return updates

    def rates_of_weights(self):
        """The learning rate, ``()``, or a tuple with that of each of ``weights``."""
        rates = self.get_lr()
        return pick(rates, self.weight_indices) if self.is_group_lr else rates

    def move(self, gradients, updates):
        """Weight decay, momentum and the step count; both are those of ``weights``, in order."""
        learning_rate, weight_decay = self.rates_of_weights(), self.get_weight_decay()
        if self.is_group:
            weight_decay = pick(weight_decay, self.weight_indices)
        self.assignadd(self.global_step, self.global_step_increase_tensor)
        if self.normalizes:
            return self.momentum_update(gradients, updates, learning_rate, weight_decay)
        return self.momentum_update(updates, learning_rate, weight_decay)

    def refresh_due(self):
        """Whether the present step refreshes curvature, as a Tensor of shape ``()``."""
        return self.policy.due(self.global_step[0])

    def refresh_due_at(self, step: int) -> bool:
        """Whether ``step`` refreshes curvature, on the host."""
        return self.policy.due_at(step)

    def set_frequency(self, frequency: int) -> None:
        """Refresh every ``frequency`` steps; before the first step, because compiled graphs hold it as a constant."""
        self.policy.set_interval(checked("frequency", frequency, integer(1), EVERY_STEP))

    def measure_always(self) -> None:
        """Leave the choice of layers to what is known after gradients were averaged over devices or micro-batches."""
        if self.has_factors and self.curvature.chooses:
            self.curvature.choice.measure_always()

    def bind_loss_scale(self, scale) -> None:
        """Tell what the loss is multiplied with when the train cell, not the optimizer, unscales gradients.

        Args:
            scale: float or scalar Parameter (dynamic loss scaling).
        """
        if isinstance(scale, Parameter):
            self.measure_always()
        self.batch_facts.said_loss_scale = scale if isinstance(scale, Parameter) else Tensor(float(scale), ms.float32)

    @contextmanager
    def using_graph(self, graph: str):
        """Compile or run what is called inside as the ``SECOND_ORDER`` or the ``STALE`` graph."""
        self._set_graph(graph)
        try:
            yield
        finally:
            self._set_graph(SCHEDULED)

    def _set_graph(self, graph: str) -> None:
        self.graph, self.measuring = graph, graph != STALE
        for layer in self.registration.layers:
            for tap in layer.taps:
                tap.recording = self.measuring


THOR.__signature__ = with_options(THOR.__init__)


def thor(net, learning_rate, damping, momentum, weight_decay=0.0, loss_scale=1.0, batch_size=32,
         use_nesterov=False, decay_filter=lambda parameter: True, split_indices=None, enable_clip_grad=False,
         frequency=100, **options) -> THOR:
    """Create :class:`THOR` with the argument order of ``mindspore.nn.thor``."""
    return THOR(net, learning_rate, damping, momentum, weight_decay, loss_scale, batch_size, use_nesterov,
                decay_filter, split_indices, enable_clip_grad, frequency, **options)
