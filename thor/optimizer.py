"""THOR: trace-based, hardware-driven layer-oriented natural gradient descent (Chen et al., AAAI 2021)."""
from __future__ import annotations

import logging
from contextlib import contextmanager

import mindspore as ms
from mindspore import Parameter, Tensor, nn, ops

from thor.arguments import (check_bool, check_callable, check_int, check_learning_rate, check_number,
                            check_schedule, check_split_indices)
from thor.curvature import PRECONDITIONERS, CurvatureSettings, Refresh, UpdatePolicy
from thor.curvature.policies import check_policy
from thor.curvature.refresh import measured_layer
from thor.curvature.report import CurvatureReports
from thor.layers import TapOptions
from thor.maps import cut, flatten, pick
from thor.momentum import MomentumUpdate
from thor.parallel import world
from thor.registration import tap_network

logger = logging.getLogger("thor")

SCHEDULED, SECOND_ORDER, STALE = "scheduled", "second_order", "stale"

_preconditioned = ops.MultitypeFuncGraph("preconditioned")


@_preconditioned.register("Tensor", "Function", "Tuple")
def _precondition_layer(damping, preconditioner, gradients):
    """The gradients of one layer's parameters, a tuple."""
    return preconditioner(gradients, damping)


class THOR(CurvatureReports, nn.Optimizer):
    r"""Second-order optimizer with block-diagonal Kronecker factors that are refreshed every ``frequency`` steps.

    Per layer with input factor A and output-gradient factor G, damping lam and HW output positions
    (1 unless a convolution), a step does

    .. math::
        u &= (G + \sqrt{\lambda / HW} I)^{-1} \, g \, (A + \sqrt{\lambda / HW} I)^{-1} / HW + wd \cdot w \\
        v &= \mu v + u, \qquad w \leftarrow w - lr \cdot v

    The network is tapped in place (see :func:`thor.registration.tap_network`); ``parameters`` holds its trainable
    parameters *and* the factor parameters of the taps, whose gradients are the measured factors. A training
    loop of your own differentiates with respect to ``optimizer.parameters`` (or ``net.trainable_params()``).

    Args:
        net: the network to train.
        learning_rate: float, list, array or Tensor; a 1-D array is indexed by the global step and its last
            value holds after its end; or a MindSpore ``LearningRateSchedule``.
        damping: lam, given like ``learning_rate``, positive.
        momentum: mu, >= 0.
        weight_decay: wd, >= 0. Default: 0.
        loss_scale: what the loss was multiplied with, > 0. Default: 1.
        batch_size: samples a device sees in one step. Default: 32.
        use_nesterov: Nesterov momentum. Default: False.
        decay_filter: function of a Parameter; True where it decays. Default: every parameter decays.
        split_indices: layer indices at which fused reductions of factors are cut (several devices).
        enable_clip_grad: clip every tensor's update to L2 norm 1 before momentum. Default: False.
        frequency: steps from one refresh of curvature to the next, >= 1. Default: 100.
        update: when curvature is refreshed, and of which layers, instead of all every ``frequency`` steps; a
            :class:`thor.curvature.UpdatePolicy` such as ``TracePolicy(frequency, w1=0.01)``. Default: None.
        split_dim: rows of a diagonal block, None for whole matrices (K-FAC). Default: 128.
        running_average: weight of the old factor in a running average, [0, 1). Default: 0.
        pi_correction: split the damping by the factors' traces (Martens & Grosse 2015). Default: False.
        fold_bias: precondition biases as a column of their weight. Default: False.
        batchnorm_blocks: precondition BatchNorm with 2x2 blocks per channel. Default: False.
        share_inverses: with several ranks, each block is inverted by the rank that owns it, not by all. Default: False.
        subsample: measure factors on every so many-th row of data (image of a convolution), >= 1; the covariances
            of a refresh cost that much less and are that much noisier. Default: 1, all rows.
        record_curvature: measure every layer's trace, its change and condition for ``curvature_report``, whatever
            the policy. Default: False.

    Inputs:
        gradients: gradients of ``parameters``, in order.

    Raises:
        TypeError, ValueError: an argument is wrong; the message names it, its value and the remedy.

    Examples:
        >>> opt = THOR(net, 0.05, damping=0.03, momentum=0.9, batch_size=32, frequency=100)
        >>> step = thor.train.make_train_step(nn.WithLossCell(net, loss_fn), opt)
        >>> loss = step(images, labels)
    """

    def __init__(self, net, learning_rate, damping, momentum, weight_decay=0.0, loss_scale=1.0, batch_size=32,
                 use_nesterov=False, decay_filter=lambda parameter: True, split_indices=None,
                 enable_clip_grad=False, frequency=100, *, split_dim=128, running_average=0.0,
                 pi_correction=False, fold_bias=False, batchnorm_blocks=False, update=None, subsample=1,
                 share_inverses=False, record_curvature=False):
        frequency = check_int("frequency", frequency, 1, "use 1 to refresh curvature every step")
        policy = check_policy(UpdatePolicy(frequency) if update is None else update)
        traced = check_bool("record_curvature", record_curvature) or policy.traced
        options = TapOptions(split_dim, fold_bias, batchnorm_blocks, subsample, traced, policy.gated)
        settings = CurvatureSettings(batch_size, running_average, pi_correction, share_inverses)
        learning_rate = check_learning_rate(learning_rate)
        damping = check_schedule("damping", damping, positive=True)
        momentum = check_number("momentum", momentum, 0.0)
        weight_decay = check_number("weight_decay", weight_decay, 0.0)
        loss_scale = check_number("loss_scale", loss_scale, 0.0, open_interval=True)
        check_bool("use_nesterov", use_nesterov)
        check_callable("decay_filter", decay_filter)
        check_bool("enable_clip_grad", enable_clip_grad)
        registration = tap_network(net, options)
        if not registration.parameters():
            raise ValueError(f"net={type(net).__name__} has no trainable parameter; must have at least one; "
                             "set requires_grad=True where it should learn")
        super().__init__(learning_rate, net.trainable_params(), weight_decay, loss_scale)
        self.policy = policy
        self.damping = damping
        self.batch_size = batch_size
        self.backend = registration.backend
        self._index_gradients(registration)
        with_factors = [layer for layer in registration.layers if layer.factors]
        self.split_indices = check_split_indices(split_indices, len(with_factors))
        self._create_curvature(registration, settings, traced)
        self.weights = ms.ParameterTuple([self.parameters[i] for i in self.plain])
        decays = tuple(bool(decay_filter(parameter)) for parameter in self.weights)
        self.momentum_update = MomentumUpdate(self.weights, momentum, weight_decay, decays, enable_clip_grad,
                                              use_nesterov)
        self.graph = SCHEDULED
        self.refreshed_at = Parameter(Tensor([-1], ms.int32), name="step_of_last_refresh", requires_grad=False)
        self.measured_scale = Tensor(loss_scale, ms.float32)
        object.__setattr__(self, "registration", registration)
        logger.info("THOR updates:\n%s", registration.table())

    def _index_gradients(self, registration):
        """Where each layer's gradients and measurements stand among ``parameters``.

        ``plain`` lists the trainable parameters without factors: those of the layers first, in layer order.
        """
        place = {id(p): i for i, p in enumerate(self.parameters)}
        layers = registration.layers
        factors = {id(f) for layer in layers for f in layer.factors.values()}
        of_layers = [place[id(p)] for layer in layers for p in layer.parameters]
        others = [i for i, p in enumerate(self.parameters) if id(p) not in factors and i not in set(of_layers)]
        self.plain = tuple(of_layers + others)
        self.preconditioned = len(of_layers)
        self.layer_measurements = tuple({role: place[id(f)] for role, f in layer.factors.items()} for layer in layers)

    def _create_curvature(self, registration, settings, traced):
        """Preconditioners of all layers, and the refresh of those that have factors."""
        layers = registration.layers
        samples = {"layernorm": settings.batch_size * world()[1]}  # its gradient is that of all ranks
        preconditioners = [PRECONDITIONERS[layer.kind](layer, self.backend,
                                                       samples.get(layer.kind, settings.batch_size))
                           for layer in layers]
        self.preconditioners = nn.CellList(preconditioners, auto_prefix=False)
        counts = [len(layer.parameters) for layer in layers]
        self.each_layer = tuple(preconditioners)
        self.spans = tuple((sum(counts[:i]), sum(counts[:i + 1])) for i in range(len(layers)))
        self.places = tuple((layer, k) for layer, count in enumerate(counts) for k in range(count))
        self.map = ops.Map()
        measured = [i for i, layer in enumerate(layers) if layer.factors]
        self.has_factors = bool(measured)
        self.running_average = settings.running_average
        self.diagonals = tuple((i, k, self.layer_measurements[i]["a"], self.layer_measurements[i]["statistics"])
                               for k, i in enumerate(measured) if layers[i].kind == "embedding")
        if self.has_factors:
            place = {id(p): i for i, p in enumerate(self.parameters)}
            self.refresh_blocks = Refresh(
                self.backend, settings,
                [measured_layer(layers[i], preconditioners[i], place, settings.batch_size) for i in measured],
                self.policy, registration.gates, traced)
            for i, spans in zip(measured, self.refresh_blocks.inverses):
                preconditioners[i].bind(spans)
        object.__setattr__(self, "reported", set())

    def measurement_places(self) -> list[tuple[int, ...]]:
        """For each layer with factors, where its measurements stand among ``parameters``."""
        return [tuple(places.values()) for places in self.layer_measurements if places]

    def construct(self, gradients):
        """One step; see the class for the equations."""
        if len(gradients) != len(self.parameters):
            raise ValueError(f"gradients has {len(gradients)} entries; must be {len(self.parameters)}, one for each of "
                             "optimizer.parameters; differentiate with respect to optimizer.parameters")
        if self.has_factors:
            if self.graph == SECOND_ORDER:
                self.refresh(gradients)
            elif self.graph == SCHEDULED:
                if self.refresh_due():
                    self.refresh(gradients)
        return self.stale_update(pick(gradients, self.plain))

    def stale_update(self, gradients):
        """Update ``weights`` with the inverses that are there; ``gradients`` are those of ``weights``, in order."""
        gradients = self.scale_grad(gradients)
        damping = self.damping(self.global_step).reshape(())
        updates = self.precondition(gradients, damping) + gradients[self.preconditioned:]
        learning_rate = self.get_lr()
        self.assignadd(self.global_step, self.global_step_increase_tensor)
        return self.momentum_update(updates, learning_rate)

    def precondition(self, gradients, damping):
        """Preconditioned gradients of the layers' parameters, a tuple in the order of ``plain``."""
        if not self.spans:
            return ()
        groups = self.map(ops.partial(_preconditioned, damping), self.each_layer, cut(gradients, self.spans))
        return flatten(groups, self.places)

    def refresh_due(self):
        """Whether the present step refreshes curvature, as a Tensor of shape ``()``."""
        return self.policy.due(self.global_step[0])

    def refresh_due_at(self, step: int) -> bool:
        """Whether ``step`` refreshes curvature, on the host."""
        return self.policy.due_at(step)

    def refresh(self, measured):
        """Replace the inverses of the layers the policy chooses by those of the factors measured in this step."""
        damping = self.damping(self.global_step).reshape(())
        next_damping = damping
        if self.policy.keep_below > 0:
            next_damping = self.damping(self.policy.following(self.global_step[0]).reshape(1)).reshape(())
        refreshed = self.refresh_blocks(measured, damping, next_damping, self.measured_scale)
        for i, k, a, statistics in self.diagonals:
            self.preconditioners[i].refresh_diagonal(measured[a], measured[statistics][0], refreshed[k], damping,
                                                     self.running_average)
        ops.assign(self.refreshed_at, self.global_step)
        return refreshed

    @property
    def last_refresh(self) -> int:
        """Step of the last refresh of curvature, counted from 0; -1 before the first."""
        return int(self.refreshed_at.asnumpy()[0])

    @property
    def frequency(self) -> int:
        """Steps from one refresh of curvature to the next, at the start of training."""
        return self.policy.segments[0][1]

    def get_frequency(self) -> int:
        """Steps from one refresh of curvature to the next, at the start of training."""
        return self.frequency

    def set_frequency(self, frequency: int) -> None:
        """Refresh every ``frequency`` steps; before the first step, because compiled graphs hold it as a constant."""
        self.policy.set_interval(check_int("frequency", frequency, 1, "use 1 to refresh curvature every step"))

    def measure_always(self) -> None:
        """Leave the choice of layers to what is known after gradients were averaged over devices or micro-batches.

        Otherwise a layer whose trace has hardly changed is not even measured.
        """
        if self.has_factors:
            self.refresh_blocks.choice.early = False

    def bind_loss_scale(self, scale) -> None:
        """Tell what the loss is multiplied with when the train cell, not the optimizer, unscales gradients.

        Args:
            scale: float or scalar Parameter (dynamic loss scaling).
        """
        if isinstance(scale, Parameter):
            self.measure_always()
        self.measured_scale = scale if isinstance(scale, Parameter) else Tensor(float(scale), ms.float32)

    @contextmanager
    def using_graph(self, graph: str):
        """Compile or run what is called inside as the ``SECOND_ORDER`` or the ``STALE`` graph."""
        self._set_graph(graph)
        try:
            yield
        finally:
            self._set_graph(SCHEDULED)

    def _set_graph(self, graph: str) -> None:
        self.graph = graph
        for layer in self.registration.layers:
            for tap in layer.taps:
                tap.recording = graph != STALE


def thor(net, learning_rate, damping, momentum, weight_decay=0.0, loss_scale=1.0, batch_size=32,
         use_nesterov=False, decay_filter=lambda parameter: True, split_indices=None, enable_clip_grad=False,
         frequency=100, **options) -> THOR:
    """Create :class:`THOR` with the argument order of ``mindspore.nn.thor``."""
    return THOR(net, learning_rate, damping, momentum, weight_decay, loss_scale, batch_size, use_nesterov,
                decay_filter, split_indices, enable_clip_grad, frequency, **options)
