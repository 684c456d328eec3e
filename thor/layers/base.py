"""What a layer kind is, and which kind serves which cell type; each kind is one file, users add their own."""
from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import mindspore as ms
from mindspore import Parameter, nn, ops
from mindspore.common.initializer import initializer

from thor.backends.base import Backend
from thor.backends.geometry import factor_shape
from thor.backends.preconditioning import Inverse
from thor.layers.batch import BatchFacts
from thor.layers.tap import MEASURED_A, MEASURED_G, STATISTICS, Recorder, Tap, install
from thor.layers.usage import UnmeasuredUse, operators_tell_apart
from thor.options import CurvatureOptions


class NotTapped(Exception):
    """Raised by a layer kind for a cell it cannot precondition; the message says why."""


@dataclass
class LayerContext:
    """What all layers of a network have in common.

    Args:
        traced: measure the traces of A and G, too.
        gated: measure only what the gates let through, see :mod:`thor.layers.tap`.
    """

    backend: Backend
    options: CurvatureOptions
    traced: bool = False
    gated: bool = False
    measures: dict[tuple, nn.Cell] = field(default_factory=dict)

    @property
    def measured_columns(self) -> tuple[int | None, int | None]:
        """Where a call's statistics say whether A and G are measured; None for always."""
        return (MEASURED_A, MEASURED_G) if self.gated else (None, None)

    def block_shape(self, groups: int, dim: int) -> tuple[int, int, int]:
        """Shape ``(groups * n_blocks, size, size)`` of the factor of ``groups`` matrices of ``dim`` rows."""
        return factor_shape(groups, dim, self.options.block_size)

    def measure(self, kind: type, *arguments: Any) -> nn.Cell:
        """The measure ``kind(context, *arguments)`` of all layers that are measured alike; arguments hashable.

        MindSpore parses and differentiates the backward pass of each cell anew, over the whole graph: fifty-four of
        them cost ResNet-50 a quarter of its compilation, the five that differ next to nothing.
        """
        key = (kind, *arguments)
        if key not in self.measures:
            self.measures[key] = kind(self, *arguments)
        return self.measures[key]


@dataclass(frozen=True)
class Factor:
    """A factor whose blocks a refresh inverts.

    Args:
        role: "a" (inputs), "g" (output gradients) or "unit" (2x2 Fisher blocks of BatchNorm).
        parameter: ``(n_blocks, size, size)``; its gradient is the measurement, its value the running average.
        dim: rows of the matrix without padding, over all groups.
    """

    role: str
    parameter: Parameter
    dim: int

    @property
    def of_inputs(self) -> bool:
        """Whether it is A: of inputs, so that no loss scale is in it, and its inverse is divided by positions."""
        return self.role == "a"

    @property
    def measured_column(self) -> int:
        """Of the statistics, where they say how many calls measured it."""
        return MEASURED_A if self.of_inputs else MEASURED_G


def running_average(stored, measured, weight: float, refreshes):
    """``e stored + (1 - e) measured`` with ``e = min(1 - 1/k, weight)`` at the k-th refresh.

    Source: Martens & Grosse 2015, section 5. The first factors are thus averaged evenly, whatever the weight.

    Args:
        refreshes: k - 1, of a shape that broadcasts.
    """
    e = ops.minimum(refreshes / (refreshes + 1.0), weight * ops.ones_like(refreshes))
    return e * stored + (1.0 - e) * measured


class Layer:
    """One preconditioned weight of a network, and everything that is special about its kind.

    A kind derives from it, sets up ``factors`` in ``__init__`` (or raises :class:`NotTapped`), and says how a cell is
    tapped and how the gradient is preconditioned. ``@register_layer(CellType)`` makes it serve a cell type.

    Args:
        cells: all cells that use the weight, those of this kind first.
        matrix: ``(groups, rows, columns)`` of the gradient as the factors see it, without a folded bias.
        bias: preconditioned together with the weight; None where it is not.

    Attributes:
        factors: what a refresh inverts, in the order :meth:`create_preconditioner` takes the inverses.
        factor_parameters: all parameters whose gradients are measurements, by role, among them ``statistics``.
    """

    weight_name = "weight"
    shares_with: tuple[type[Layer], ...] = ()  # kinds that may use the weight, too
    other_operators: dict[str, int] = {}  # untapped ones a cell may give the weight to instead, as which argument
    operators: tuple[str, ...] = ()  # attributes of cells that multiply with the weight, by which others might, too
    measures_every_use = True  # or else it is not preconditioned
    counts_samples = False  # its A is a count, to be divided by the samples of a step
    multiplies = False  # inputs are multiplied with the weight, a matrix without structure

    def __init__(self, cells: Sequence[nn.Cell], context: LayerContext, matrix: tuple[int, int, int],
                 bias: Parameter | None = None):
        self.cells, self.context, self.matrix = list(cells), context, matrix
        self.weight: Parameter = getattr(cells[0], self.weight_name)
        self.bias = bias
        self.factors: tuple[Factor, ...] = ()
        self.factor_parameters: dict[str, Parameter] = {}
        self.taps: list[Tap] = []
        self.unmeasured_user = ""
        self.own_shapes: dict[int, tuple | None] = {}  # by cell, what its taps tell the weight by

    @property
    def name(self) -> str:
        """Name of the cell the weight belongs to."""
        return self.weight.name.rpartition(".")[0] or self.weight.name

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """The weight and, where it is preconditioned with it, the bias."""
        return (self.weight,) if self.bias is None else (self.weight, self.bias)

    @property
    def fisher_rows(self) -> int:
        """Rows of its Fisher block A x G."""
        groups, rows, columns = self.matrix
        return groups * rows * groups * columns

    @property
    def has_kronecker_factors(self) -> bool:
        """Whether its gradient is multiplied by blocks of A or G, not only by curvature of single units."""
        return any(factor.role in ("a", "g") for factor in self.factors)

    @property
    def description(self) -> str:
        """How it is preconditioned, in a few words."""
        shapes = [f"{role.upper()} {'x'.join(map(str, parameter.shape))}"
                  for role, parameter in self.factor_parameters.items() if role != "statistics"]
        uses = f", {len(self.cells)} uses" if len(self.cells) > 1 else ""
        unmeasured = f", that of {self.unmeasured_user} not measured" if self.unmeasured_user else ""
        return f"second order: {', '.join(shapes)}{uses}{unmeasured}"

    def check_uses(self, unmeasured_user: str = "", mentioned: Collection[str] = ()) -> None:
        """Refuse a weight with uses that its taps do not measure.

        Args:
            unmeasured_user: type of a cell that uses the weight of another cell, if any.
            mentioned: names that the network's cells read of others, among them the methods they call.

        Raises:
            NotTapped: saying which use that is.
        """
        if not self.factor_parameters:
            return
        if unmeasured_user and self.measures_every_use:
            raise NotTapped(f"{unmeasured_user} uses {self.weight.name} outside its cell")
        self.unmeasured_user = unmeasured_user
        for cell in self.cells:
            attribute, tap, _ = self.tapped(cell)
            operators = {**self.other_operators, attribute: tap.weight_argument}
            entries = [name for name in mentioned
                       if not hasattr(nn.Cell, name) and callable(getattr(type(cell), name, None))]
            try:
                mixed = operators_tell_apart(cell, self.weight, operators, entries)
            except UnmeasuredUse as use:
                raise NotTapped(str(use)) from None
            self.own_shapes[id(cell)] = tuple(self.weight.shape) if mixed else None

    def create_factor_parameters(self, **shapes: tuple) -> None:
        """Create :attr:`factor_parameters` of these shapes by role, zero, and that of the statistics."""
        prefix, _, _ = self.weight.name.rpartition(".")
        prefix = prefix + "." if prefix else ""
        self.factor_parameters = {
            role: Parameter(initializer("zeros", shape, ms.float32), name=f"{prefix}factor_{role}")
            for role, shape in {**shapes, "statistics": (STATISTICS,)}.items()}

    def tap(self, gates: Parameter | None, row: int) -> None:
        """Install a tap in every cell; ``row`` is the layer's of the network's ``gates``."""
        for cell in self.cells if self.factor_parameters else ():
            attribute, kind, measure = self.tapped(cell)
            recorder = Recorder(measure, tuple(self.factor_parameters.values()), gates, row)
            self.taps.append(kind(getattr(cell, attribute), recorder, self.own_shapes.get(id(cell))))
            install(cell, attribute, self.taps[-1])

    def tapped(self, cell: nn.Cell) -> tuple[str, type[Tap], nn.Cell]:
        """``(attribute, tap, measure)``: where a cell keeps its operator, what stands there, what it measures with."""
        raise NotImplementedError

    def whole_matrix(self) -> tuple[int, ...]:
        """``(rows, columns)`` of the gradient with a folded bias among its columns; () where it is several matrices."""
        groups, rows, columns = self.matrix
        return (rows, columns + (self.bias is not None)) if groups == 1 else ()

    def create_preconditioner(self, batch: BatchFacts, *inverses: Inverse) -> nn.Cell:
        """A cell ``(gradients of parameters, damping) -> preconditioned gradients``, both tuples.

        Where it is nothing but products with ``inverses``, a method ``product()`` of its class gives them, a
        :class:`thor.backends.preconditioning.Product`: a backend may then multiply all layers at once, and does not
        call the cell. A class derived from it with a ``construct`` of its own is called.

        One that refreshes curvature of its own, which no block of :attr:`factors` holds, has a method ``refresh``,
        see :class:`thor.layers.embedding.EmbeddingPreconditioner`.

        Args:
            batch: what is known of the latest step's.
            inverses: of :attr:`factors`.
        """
        raise NotImplementedError


def require_operator(cell: nn.Cell, attribute: str) -> str:
    """``attribute``, where the cell keeps its operator; :class:`NotTapped` if it keeps none there."""
    if getattr(cell, attribute, None) is None:
        raise NotTapped(f"{type(cell).__name__} has no {attribute!r} operator to tap")
    return attribute


_KINDS: dict[type, type[Layer]] = {}


def register_layer(cell_type: type, kind: type[Layer] | None = None) -> Callable[[type[Layer]], type[Layer]]:
    """Precondition cells of ``cell_type`` (and its subclasses) as layers of ``kind``.

    Args:
        cell_type: a subclass of ``mindspore.nn.Cell``.
        kind: a subclass of :class:`Layer`; left out, the call decorates one. The library's own kinds serve cells
            with the same operators: a linear cell of yours that multiplies with ``self.matmul(x, self.weight)`` is
            registered with ``DenseLayer``.

    Raises:
        TypeError: ``cell_type`` is not a Cell class, or ``kind`` no Layer class.
    """
    if not (isinstance(cell_type, type) and issubclass(cell_type, nn.Cell)):
        raise TypeError(f"cell_type={cell_type!r}; must be a subclass of mindspore.nn.Cell; pass the class itself")

    def register(registered: type[Layer]) -> type[Layer]:
        if not (isinstance(registered, type) and issubclass(registered, Layer)):
            raise TypeError(f"kind={registered!r}; must be a subclass of thor.layers.Layer; pass e.g. DenseLayer")
        _KINDS[cell_type] = registered
        return registered

    if kind is not None:
        register(kind)
    return register


def kind_of(cell: nn.Cell) -> type[Layer] | None:
    """The layer kind of the cell's nearest registered base class, or ``None``."""
    for base in type(cell).__mro__:
        if base in _KINDS:
            return _KINDS[base]
    return None


def kept_names() -> tuple[set[str], set[str]]:
    """Attributes under which registered kinds keep weights, and untapped operators that may take them."""
    kinds = set(_KINDS.values())
    return ({kind.weight_name for kind in kinds}, {name for kind in kinds for name in kind.operators})
