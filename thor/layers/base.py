"""Taps: they replace the linear operator inside a layer and measure its two Kronecker factors.

A tap computes exactly what the operator computes. In a step that refreshes curvature, its backward pass
also measures the factors and returns them as the *gradients of its factor parameters*. Factors thus
arrive with the gradients of the step, with no side effect: they are reduced over devices, accumulated
over micro-batches, and dropped on overflow just as gradients are, in graph and in PyNative mode.
"""
from __future__ import annotations

import weakref
from dataclasses import dataclass, field
from typing import Callable

import mindspore as ms
from mindspore import Parameter, ParameterTuple, Tensor, nn, ops
from mindspore.common.initializer import initializer

from thor.backends.base import Backend
from thor.backends.geometry import factor_shape
from thor.layers.gates import MEASURED_A, MEASURED_G, STATISTICS, Gate

# Measurements are scaled by a power of two, exact in float32, so that they weigh nothing in a global
# gradient norm that a hand-written loop may clip with. It cancels in factor / calls.
MEASUREMENT_SCALE = 2.0 ** -30

PRECISION_FLAGS = ("fp16", "bf16", "fp32")


@dataclass(frozen=True)
class TapOptions:
    """How layers are tapped.

    Args:
        split_dim: rows of a diagonal block; ``None`` keeps whole matrices.
        fold_bias: append the bias as one more column of the weight (and a row of ones to A).
        batchnorm_blocks: precondition BatchNorm with 2x2 blocks of (gamma, beta) per channel.
        subsample: measure factors on every so many-th row of data (image of a convolution); 1 takes all.
        traced: measure the traces of A and G, too.
        gated: measure only what :mod:`thor.layers.gates` let through.
    """

    split_dim: int | None = 128
    fold_bias: bool = False
    batchnorm_blocks: bool = False
    subsample: int = 1
    traced: bool = False
    gated: bool = False

    def __post_init__(self):
        if self.split_dim is not None and (type(self.split_dim) is not int or self.split_dim < 1):
            raise ValueError(f"split_dim={self.split_dim!r}; must be an int >= 1 or None; "
                             "use 128 for the published setting, None for whole matrices")
        if type(self.subsample) is not int or self.subsample < 1:
            raise ValueError(f"subsample={self.subsample!r}; must be an int >= 1; use 1 to measure on all rows, "
                             "4 on a quarter of them")
        for name in ("fold_bias", "batchnorm_blocks", "traced", "gated"):
            if type(getattr(self, name)) is not bool:
                raise TypeError(f"{name}={getattr(self, name)!r}; must be a bool; use True or False")

    @property
    def block_size(self) -> int:
        """Rows of the largest block; more than any matrix has when whole matrices are kept."""
        return 2 ** 30 if self.split_dim is None else self.split_dim

    @property
    def gate_places(self) -> tuple[int | None, int | None]:
        """Where a call's statistics say whether A and G are measured; None for always."""
        return (MEASURED_A, MEASURED_G) if self.gated else (None, None)

    def block_shape(self, groups: int, dim: int) -> tuple[int, int, int]:
        """Shape ``(groups * n_blocks, size, size)`` of the factor of ``groups`` matrices of ``dim`` rows."""
        return factor_shape(groups, dim, self.block_size)


class NotTapped(Exception):
    """Raised by a tap factory for a cell it cannot precondition; the message says why."""


@dataclass
class TappedLayer:
    """One preconditioned weight: what the optimizer needs to know, and nothing of the cell's forward pass.

    Args:
        kind: name of the curvature, a key of ``thor.curvature.PRECONDITIONERS``.
        weight: the user's weight Parameter.
        bias: the bias, when it is preconditioned together with the weight, otherwise ``None``.
        factors: factor parameters by role, see :func:`create_factors`.
        matrix: ``(groups, rows, columns)`` of the gradient as the factors see it, without a folded bias.
    """

    kind: str
    weight: Parameter
    bias: Parameter | None
    factors: dict[str, Parameter]
    matrix: tuple[int, int, int]
    taps: list["Tap"] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Name of the cell the weight belongs to."""
        return self.weight.name.rpartition(".")[0] or self.weight.name

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """The weight and, where it is preconditioned with it, the bias."""
        return (self.weight,) if self.bias is None else (self.weight, self.bias)


class Measure(nn.Cell):
    """Identity on the operator's output whose backward pass measures factors.

    It knows nothing of a particular layer: layers that are measured alike share one, see :func:`shared_measure`.
    """

    def __init__(self, options: TapOptions):
        super().__init__(auto_prefix=False)
        self.cast, self.reshape, self.zeros_like = ops.Cast(), ops.Reshape(), ops.ZerosLike()
        self.traced, self.subsample = options.traced, options.subsample
        self.gate = Gate(options.gated, options.traced)

    def construct(self, x, y, factor_a, factor_g, statistics, gates):
        return y

    def bprop(self, x, y, factor_a, factor_g, statistics, gates, out, dout):
        if self.gate.is_open(gates):
            a, g, told = self.measured(self.sample(x), y, self.cast(self.sample(dout), ms.float32), gates)
        else:
            a, g, told = self.zeros_like(factor_a), self.zeros_like(factor_g), self.gate.closed(self.positions(y))
        return self.zeros_like(x), dout, a, g, told * MEASUREMENT_SCALE, self.zeros_like(gates)

    def measured(self, x, y, d, gates):
        """Factors of one call, and what it tells, ``(6,)``."""
        trace_a = self.input_trace(x, d) if self.traced else None
        trace_g = self.output_trace(d) if self.traced else None
        told = self.gate(gates, self.positions(y), trace_a, trace_g)
        return self.input_factor(x, told), self.output_factor(d, told), told

    def sample(self, rows):
        """Every ``subsample``-th row of a tensor, from the first on."""
        return rows if self.subsample == 1 else rows[::self.subsample]

    def input_factor(self, x, told):
        """A of one call times ``MEASUREMENT_SCALE``, shaped as ``factor_a``; 0 where ``told`` says not measured.

        Args:
            told: statistics of the call, ``(6,)``, see :mod:`thor.layers.gates`.
        """
        raise NotImplementedError

    def output_factor(self, d, told):
        """G of one call, likewise, before ``batch_size^2 / loss_scale^2``."""
        raise NotImplementedError

    def input_trace(self, x, d):
        """Trace of A of one call, ``(1,)``, without ``MEASUREMENT_SCALE``."""
        raise NotImplementedError

    def output_trace(self, d):
        """Trace of G of one call, likewise."""
        raise NotImplementedError

    def positions(self, y):
        """Output positions per sample that share the weight (H * W of a convolution)."""
        return 1.0


class Recorder(nn.Cell):
    """Owns a layer's factor parameters and hands them to the measure, always in float32."""

    def __init__(self, measure: nn.Cell, factors: dict[str, Parameter]):
        super().__init__(auto_prefix=False)
        self.measure = measure
        self.factors = ParameterTuple(factors.values())
        self.gates = (Tensor(0.0, ms.float32),)
        self.row = -1
        self.slice = ops.Slice()

    def bind(self, gates: Parameter, row: int) -> None:
        """Measure only what the network's ``gates`` ``(n_layers, 4)`` let through; ``row`` is the layer's."""
        self.gates = ParameterTuple((gates,))
        self.row = row

    def add_flags_recursive(self, **flags):
        """Ignore mixed precision, whose casts would round factors to float16."""
        kept = {name: value for name, value in flags.items() if name not in PRECISION_FLAGS}
        return super().add_flags_recursive(**kept) if kept else self

    def construct(self, x, y):
        x, factors, gates = ops.stop_gradient(x), self.factors, self.gates[0]
        if self.row >= 0:
            gates = ops.stop_gradient(self.slice(gates, (self.row, 0), (1, 4)))
        if len(factors) == 2:
            return self.measure(x, y, factors[0], factors[1], gates)
        return self.measure(x, y, factors[0], factors[1], factors[2], gates)  # unpacking with * compiles slowly


class Tap(nn.Cell):
    """A linear operator ``(x, weight)`` that measures its factors while ``recording``.

    ``recording`` is a Python constant of the compiled graph: the stale graph contains no trace of it.
    """

    def __init__(self, operator, measure: nn.Cell, factors: dict[str, Parameter]):
        super().__init__(auto_prefix=False)
        self.operator = operator
        self.recorder = Recorder(measure, factors)
        self.recording = True

    def observe(self, x, y):
        """Pass ``y`` through, measuring when recording."""
        return self.recorder(x, y) if self.recording else y

    def construct(self, x, weight):
        return self.observe(x, self.operator(x, weight))


_measures: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


def shared_measure(backend: Backend, key: tuple, create: Callable[[], nn.Cell]) -> nn.Cell:
    """The measure of all layers of a network that are measured alike.

    MindSpore parses and differentiates the backward pass of each cell anew, over the whole graph: fifty-four of them
    cost ResNet-50 a quarter of its compilation, the five that differ next to nothing.

    Args:
        backend: of the network.
        key: what the measure is made of, its class among it.
    """
    known = _measures.setdefault(backend, {})
    if key not in known:
        known[key] = create()
    return known[key]


def create_factors(weight: Parameter, **shapes: tuple) -> dict[str, Parameter]:
    """Factor parameters beside ``weight``, by role; zero, or the running average where one is kept.

    Their gradients are the measurements. The role ``statistics`` is always there, see :mod:`thor.layers.gates`.
    """
    prefix, _, _ = weight.name.rpartition(".")
    prefix = prefix + "." if prefix else ""
    return {role: Parameter(initializer("zeros", shape, ms.float32), name=f"{prefix}factor_{role}")
            for role, shape in {**shapes, "statistics": (STATISTICS,)}.items()}


def install(cell: nn.Cell, attribute: str, tap: Tap) -> Tap:
    """Put a tap where the cell keeps its operator."""
    names = {id(parameter): parameter.name for parameter in tap.get_parameters()}
    precision = {name: value for name, value in cell.get_flags().items() if name in PRECISION_FLAGS}
    if precision:
        tap.add_flags_recursive(**precision)
    delattr(cell, attribute)
    setattr(cell, attribute, tap)
    for parameter in tap.get_parameters():
        parameter.name = names[id(parameter)]
    return tap
