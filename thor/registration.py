"""Registration: which layer of a network is preconditioned how, and why the rest is not."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn

from thor.backends import Backend, create_backend
from thor.curvature.policies import UpdatePolicy
from thor.layers import Layer, LayerContext, NotTapped, Tap, kind_of
from thor.layers.base import kept_names
from thor.layers.outside import OutsideUses
from thor.layers.tap import GATE_OPEN, untap
from thor.options import CurvatureOptions


@dataclass
class Registration:
    """What conversion did to every trainable parameter of a network.

    Attributes:
        layers: preconditioned ones, in network order.
        reasons: why the others are not, by id of the parameter.
        gates: what the layers' taps measure, see :mod:`thor.layers.tap`; None where they measure always.
    """

    network: nn.Cell
    context: LayerContext
    layers: list[Layer]
    reasons: dict[int, str]
    gates: Parameter | None

    def __reduce__(self):
        """A copy of the network is not registered: it is a network of its own, see :class:`thor.layers.tap.Tap`."""
        return type(None), ()

    @property
    def backend(self) -> Backend:
        """The operators of the device."""
        return self.context.backend

    @property
    def options(self) -> CurvatureOptions:
        """What the network was tapped with."""
        return self.context.options

    def parameters(self) -> list[Parameter]:
        """The network's trainable parameters, in its order."""
        return list(self.network.trainable_params())

    def table(self) -> str:
        """One row for each trainable parameter: its shape and how THOR updates it."""
        treated = {id(parameter): layer.description for layer in self.layers for parameter in layer.parameters}
        rows = [("parameter", "shape", "update")]
        rows += [(p.name, "x".join(map(str, p.shape)), treated.get(id(p)) or "first order: " + self.reasons[id(p)])
                 for p in self.parameters()]
        widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
        return "\n".join(f"{name:<{widths[0]}}  {shape:<{widths[1]}}  {update}" for name, shape, update in rows)

    def serves(self, options: CurvatureOptions, backend: Backend | None, policy: UpdatePolicy) -> bool:
        """Whether exactly this conversion's taps stand, measure what is wanted, and the same parameters are trained."""
        context = self.context
        wanted = (options, policy.gated, options.record_curvature or policy.traced)
        if (context.options, context.gated, context.traced) != wanted or backend not in (None, context.backend):
            return False
        standing = {id(cell) for _, cell in self.network.cells_and_names() if isinstance(cell, Tap)}
        own = {id(tap) for layer in self.layers for tap in layer.taps}
        return standing == own and {id(p) for p in self.parameters()} == set(self.reasons)


def tap_network(network: nn.Cell, options: CurvatureOptions | None = None, backend: Backend | None = None,
                policy: UpdatePolicy | None = None) -> Registration:
    """Tap every layer of ``network`` that can be preconditioned, in place.

    The network computes what it computed before and keeps its parameters, names and cells. A second call with the
    same options returns the first call's registration, unless layers were frozen or converted as part of another
    network in between.

    Args:
        options: by default those of ``CurvatureOptions()``.
        backend: operators of the device; by default those the network was tapped with before, if ``options`` have the
            precision they had then, or of MindSpore's target.
        policy: what it asks for is measured; by default nothing but factors.

    Raises:
        TypeError: ``network`` is not a Cell, or has a weight to precondition that is not float32.
    """
    if not isinstance(network, nn.Cell):
        raise TypeError(f"net={network!r}; must be a mindspore.nn.Cell; pass the network whose layers to precondition")
    _refuse_converted(network)
    options, policy = options or CurvatureOptions(), policy or UpdatePolicy()
    present = getattr(network, "thor_registration", None)
    if present is not None and present.serves(options, backend, policy):
        return present
    untap(network)
    if backend is None and present is not None and present.context.options.precision == options.precision:
        backend = present.backend
    backend = backend or create_backend(precision=options.precision)
    context = LayerContext(backend, options, options.record_curvature or policy.traced,
                           policy.gated)
    layers: list[Layer] = []
    reasons = {id(p): "not part of a layer type in the registry" for p in network.trainable_params()}
    outside = OutsideUses(network, *kept_names())
    taken: dict[int, str] = {}  # the layer of each parameter that is preconditioned
    for weight, cells in _cells_by_weight(network).items():
        try:
            layers.append(_create_layer(cells, context, outside, taken))
            taken.update({id(p): layers[-1].name for p in layers[-1].parameters})
        except NotTapped as reason:
            reasons[weight] = str(reason)
    _check_dtypes(layers)
    _explain(network, layers, reasons)
    with_factors = [layer for layer in layers if layer.factors]
    gates = _create_gates(len(with_factors)) if context.gated else None
    for row, layer in enumerate(with_factors):
        layer.tap(gates, row)
    registration = Registration(network, context, layers, reasons, gates)
    object.__setattr__(network, "thor_registration", registration)
    return registration


def _refuse_converted(network: nn.Cell) -> None:
    """TypeError for a network that MindSpore's own THOR has converted: its layers cannot be tapped."""
    for name, cell in network.cells_and_names():
        if type(cell).__module__ == "mindspore.nn.layer.thor_layer":
            raise TypeError(f"net={type(network).__name__}; must not hold {type(cell).__name__} ({name}), a layer of "
                            "MindSpore's THOR; leave its convert_to_thor_net out, thor.THOR does this itself")


def weight_of(cell: nn.Cell) -> Parameter | None:
    """The parameter a layer of the cell's kind preconditions; None without a kind, or without such a parameter."""
    kind = kind_of(cell)
    weight = None if kind is None else getattr(cell, kind.weight_name, None)
    return weight if isinstance(weight, Parameter) else None


def _cells_by_weight(network: nn.Cell) -> dict[int, list[nn.Cell]]:
    """Cells of a registered type with a trainable weight, grouped by the id of the weight they share."""
    users: dict[int, list[nn.Cell]] = {}
    for _, cell in network.cells_and_names():
        weight = weight_of(cell)
        if weight is not None and weight.requires_grad:
            users.setdefault(id(weight), []).append(cell)
    return users


def _create_layer(cells: list[nn.Cell], context: LayerContext, outside: OutsideUses, taken: dict[int, str]) -> Layer:
    """The layer of all cells that use one weight; ``taken`` has the parameters of other layers."""
    kinds = [kind for kind in map(kind_of, cells) if kind is not None]
    for kind in kinds:
        if all(other is kind or issubclass(other, kind.shares_with) for other in kinds):
            if context.options.normalizes and not kind.multiplies:
                raise NotTapped(f"by AdamW with rule={context.options.rule}")
            create: Callable[..., Layer] = kind
            layer = create(sorted(cells, key=lambda cell: kind_of(cell) is not kind), context)
            for parameter in layer.parameters:
                if id(parameter) in taken:
                    raise NotTapped(f"shares {parameter.name} with {taken[id(parameter)]}")
            layer.check_uses(outside.user(layer.weight, cells), outside.mentioned)
            return layer
    raise NotTapped("tied between " + " and ".join(sorted({type(cell).__name__ for cell in cells})))


def _check_dtypes(layers: list[Layer]) -> None:
    """TypeError for a preconditioned parameter that is not float32, as factors and inverses are."""
    for layer in layers:
        for parameter in layer.parameters:
            if parameter.dtype != ms.float32:
                raise TypeError(f"{parameter.name} is {parameter.dtype}; must be Float32 to be preconditioned; cast it "
                                "with set_dtype(mindspore.float32), and use amp_level for mixed precision")


def _explain(network: nn.Cell, layers: list[Layer], reasons: dict[int, str]) -> None:
    """Name the layer type behind every first-order parameter that has no better reason yet."""
    preconditioned = {id(p) for layer in layers for p in layer.parameters}
    for _, cell in network.cells_and_names():
        kind, weight = kind_of(cell), weight_of(cell)
        for name, parameter in cell.parameters_and_names(expand=False):
            if id(parameter) in preconditioned or not reasons.get(id(parameter), "").startswith("not part"):
                continue
            if name == "bias":
                reasons[id(parameter)] = "bias"
            elif kind is not None and weight is not None:
                frozen = f"{type(cell).__name__} with {weight.name.rpartition('.')[2]} frozen"
                reasons[id(parameter)] = reasons.get(id(weight), frozen)
            else:
                reasons[id(parameter)] = f"no tap registered for {type(cell).__name__}"


def _create_gates(n_layers: int) -> Parameter:
    """Gates of ``n_layers`` layers, all open and without a band."""
    return Parameter(Tensor(np.tile(GATE_OPEN, (n_layers, 1)), ms.float32), name="curvature_gates", requires_grad=False)
