"""Registration: which layer of a network is preconditioned how, and why the rest is not."""
from __future__ import annotations

from dataclasses import dataclass

from mindspore import Parameter, nn

from thor.backends import Backend, create_backend
from thor.layers import NotTapped, Tap, TapOptions, TappedLayer, find_factory, weight_of
from thor.layers.dense import tap_dense
from thor.layers.embedding import tap_embedding
from thor.layers.gates import create_gates
from thor.layers.tied import tap_tied_dense


@dataclass
class Registration:
    """What conversion did to every trainable parameter of a network."""

    network: nn.Cell
    backend: Backend
    options: TapOptions
    layers: list[TappedLayer]
    reasons: dict[int, str]
    gates: Parameter | None

    def parameters(self) -> list[Parameter]:
        """The user's trainable parameters, without factor parameters, in network order."""
        factors = {id(factor) for layer in self.layers for factor in layer.factors.values()}
        return [p for p in self.network.trainable_params() if id(p) not in factors]

    def table(self) -> str:
        """One row for each trainable parameter: its shape and how THOR updates it."""
        treated = {}
        for layer in self.layers:
            for parameter in layer.parameters:
                treated[id(parameter)] = describe(layer)
        rows = [("parameter", "shape", "update")]
        rows += [(p.name, "x".join(map(str, p.shape)), treated.get(id(p)) or "first order: " + self.reasons[id(p)])
                 for p in self.parameters()]
        widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
        return "\n".join(f"{name:<{widths[0]}}  {shape:<{widths[1]}}  {update}" for name, shape, update in rows)

    def up_to_date(self) -> bool:
        """Whether exactly this conversion's taps stand, and the same parameters are trainable as then."""
        standing = {id(cell) for _, cell in self.network.cells_and_names() if isinstance(cell, Tap)}
        own = {id(tap) for layer in self.layers for tap in layer.taps}
        return standing == own and {id(p) for p in self.parameters()} == set(self.reasons)


def describe(layer: TappedLayer) -> str:
    """How a tapped layer is preconditioned, in a few words."""
    if layer.kind == "layernorm":
        return "second order: squared gradient"
    shapes = [f"{role.upper()} {'x'.join(map(str, factor.shape))}"
              for role, factor in layer.factors.items() if role != "statistics"]
    tied = f", {len(layer.taps)} uses" if len(layer.taps) > 1 else ""
    return f"second order: {', '.join(shapes)}{tied}"


def tap_network(network: nn.Cell, options: TapOptions = TapOptions(), backend: Backend | None = None) -> Registration:
    """Tap every layer of ``network`` that can be preconditioned, in place.

    The network computes what it computed before and keeps its Parameter objects, names and cells. A second
    call with the same options returns the first call's registration, unless layers were frozen or converted
    as part of another network in between.

    Raises:
        TypeError: ``network`` is not a Cell, or has a weight in a dtype the device does not multiply in.
    """
    if not isinstance(network, nn.Cell):
        raise TypeError(f"net={network!r}; must be a mindspore.nn.Cell; pass the network whose layers to precondition")
    present = getattr(network, "thor_registration", None)
    if present is not None and present.options == options and backend in (None, present.backend):
        if present.up_to_date():
            return present
    untap([cell for _, cell in network.cells_and_names()])
    backend = backend or create_backend()
    layers: list[TappedLayer] = []
    reasons = {id(p): "not part of a layer type in the registry" for p in network.trainable_params()}
    users = cells_by_weight(network)
    for cells in users.values():
        try:
            layers.append(tap_cells(cells, backend, options))
        except NotTapped as reason:
            untap(cells)
            reasons[id(weight_of(cells[0]))] = str(reason)
    check_dtypes(layers, backend)
    explain(network, layers, reasons)
    gates = bind_gates(layers) if options.gated else None
    registration = Registration(network, backend, options, layers, reasons, gates)
    object.__setattr__(network, "thor_registration", registration)
    return registration


def check_dtypes(layers: list[TappedLayer], backend: Backend) -> None:
    """TypeError for a preconditioned parameter the device has no products for."""
    for layer in layers:
        for parameter in layer.parameters:
            if parameter.dtype in backend.no_products_in:
                raise TypeError(f"{parameter.name} is {parameter.dtype}; must be Float32 on the device of the backend "
                                f"{backend.name!r}, which has no BatchMatMul in {parameter.dtype}; cast it with "
                                "set_dtype(mindspore.float32)")


def bind_gates(layers: list[TappedLayer]) -> Parameter:
    """Create the gates of all layers that have factors and tell their taps of them."""
    measured = [layer for layer in layers if layer.factors]
    gates = create_gates(len(measured))
    for row, layer in enumerate(measured):
        for tap in layer.taps:
            tap.recorder.bind(gates, row)
    return gates


def cells_by_weight(network: nn.Cell) -> dict[int, list[nn.Cell]]:
    """Cells with a registered type and a trainable weight, grouped by the weight they share."""
    users: dict[int, list[nn.Cell]] = {}
    for _, cell in network.cells_and_names():
        weight = weight_of(cell)
        if isinstance(weight, Parameter) and weight.requires_grad and find_factory(cell) is not None:
            users.setdefault(id(weight), []).append(cell)
    return users


def tap_cells(cells: list[nn.Cell], backend: Backend, options: TapOptions) -> TappedLayer:
    """Tap all cells that use one weight."""
    factories = {find_factory(cell) for cell in cells}
    tied = factories == {tap_embedding, tap_dense}
    if len(factories) > 1 and not tied:
        raise NotTapped("tied between " + " and ".join(sorted({type(cell).__name__ for cell in cells})))
    layer = None
    for cell in sorted(cells, key=lambda cell: find_factory(cell) is tap_dense):  # the embedding owns a tied table
        factory = find_factory(cell)
        layer = (tap_tied_dense if tied and factory is tap_dense else factory)(cell, backend, options, layer)
    return layer


def untap(cells: list[nn.Cell]) -> None:
    """Give cells their own operators back."""
    for cell in cells:
        for name, child in list(cell.name_cells().items()):
            if isinstance(child, Tap):
                operator = child.operator
                delattr(cell, name)
                setattr(cell, name, operator)


def explain(network: nn.Cell, layers: list[TappedLayer], reasons: dict[int, str]) -> None:
    """Name the layer type behind every first-order parameter that has no better reason yet."""
    preconditioned = {id(p) for layer in layers for p in layer.parameters}
    for _, cell in network.cells_and_names():
        weight = weight_of(cell)
        for name, parameter in cell.parameters_and_names(expand=False):
            if id(parameter) in preconditioned or not reasons.get(id(parameter), "").startswith("not part"):
                continue
            if name == "bias":
                reasons[id(parameter)] = "bias"
            elif isinstance(weight, Parameter) and find_factory(cell) is not None:
                frozen = f"{type(cell).__name__} with {weight.name.rpartition('.')[2]} frozen"
                reasons[id(parameter)] = reasons.get(id(weight), frozen)
            else:
                reasons[id(parameter)] = f"no tap registered for {type(cell).__name__}"
