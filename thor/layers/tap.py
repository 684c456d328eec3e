"""Taps: they stand where a layer keeps its linear operator, and measure its two Kronecker factors.

A tap computes exactly what the operator computes. In a step that refreshes curvature its backward pass also measures
the factors, and returns them as the *gradients of its factor parameters*. Factors thus arrive with the gradients of
the step, with no side effect: they are reduced over devices, accumulated over micro-batches, and dropped on overflow
just as gradients are, in graph and in PyNative mode.

Beside its factors a call of a layer tells its *statistics*, a row of the columns below, each summed over the calls.
What is measured at all, *gates* decide before anything is paid for: one parameter for a network, ``(n_layers, 4)``, a
row ``(open_a, open_g, low, high)`` for each layer with factors. A factor is measured when its gate is open and the
trace of the measurement, tr A tr G, lies outside ``[low, high]``: inside, the layer has changed too little to be
refreshed. Update policies close gates and set the band, see :mod:`thor.curvature.policies`.
"""
from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import Parameter, ParameterTuple, Tensor, nn, ops

CALLS, POSITIONS, ROWS, MEASURED_A, MEASURED_G, TRACE_A, TRACE_G = range(7)  # columns of the statistics
STATISTICS = 7

NO_BAND = float(np.finfo(np.float32).max)  # not infinite: gates are parameters, and parameters ought to be finite
GATE_OPEN = (1.0, 1.0, NO_BAND, -NO_BAND)
GATE_STOPPED = (0.0, 0.0, NO_BAND, -NO_BAND)
GATE_KEPT = (1.0, 1.0, -NO_BAND, NO_BAND)  # looked at, and found unchanged whatever its trace

# Measurements are scaled by a power of two, exact in float32, so that they weigh nothing in a global
# gradient norm that a hand-written loop may clip with. It cancels in factor / calls.
MEASUREMENT_SCALE = 2.0 ** -30

PRECISION_FLAGS = ("fp16", "bf16", "fp32")


class Gate(nn.Cell):
    """The statistics of a call, ``(7,)``, from the gates of its layer and the traces of the measurement.

    Args:
        gated: read the gates; otherwise everything is measured.
        traced: pass the traces on; otherwise they are 0.
    """

    def __init__(self, gated: bool, traced: bool):
        super().__init__(auto_prefix=False)
        self.gated, self.traced = gated, traced
        self.always = Tensor([1.0, 1.0], ms.float32)
        self.concat, self.slice = ops.Concat(), ops.Slice()

    def opened(self, gates):
        """``(open_a, open_g)`` from the layer's ``gates`` ``(1, 4)``, ``(2,)``."""
        return self.slice(gates, (0, 0), (1, 2)).reshape(2) if self.gated else self.always

    def is_open(self, gates):
        """Whether the layer is looked at; a constant where it always is, so that nothing is compiled for it."""
        return self.opened(gates).sum() > 0 if self.gated else True

    def passed_by(self, positions, rows):
        """The statistics of a call that is not looked at."""
        return Tensor([1.0, positions, rows, 0.0, 0.0, 0.0, 0.0], ms.float32)

    def construct(self, gates, positions, rows, trace_a, trace_g):
        """``positions`` and ``rows`` are numbers; the traces have shape ``(1,)``."""
        if not self.traced and not self.gated:
            return Tensor([1.0, positions, rows, 1.0, 1.0, 0.0, 0.0], ms.float32)
        calls, opened = Tensor([1.0, positions, rows], ms.float32), self.opened(gates)
        if not self.traced:
            return self.concat((calls, opened, Tensor([0.0, 0.0], ms.float32)))
        if not self.gated:
            return self.concat((calls, opened, trace_a, trace_g))
        low = self.slice(gates, (0, 2), (1, 1)).reshape(1)
        high = self.slice(gates, (0, 3), (1, 1)).reshape(1)
        trace = trace_a * trace_g
        inside = ops.logical_and(trace >= low, trace <= high)  # a trace that is not a number is outside
        kept_open = opened * (1.0 - inside.astype(ms.float32))
        return self.concat((calls, kept_open, trace_a, trace_g))


def deferred(cell: nn.Cell):
    """``cell.measured``, of six tensors, for a bprop to call, so that the bprop can be differentiated in turn.

    A loss with a gradient in it (penalties, differential equations) differentiates the backward pass. MindSpore parses
    what a bprop calls ahead, and then finds its branches gone ("The func graph is empty"); a function chosen by the
    types of its inputs it parses when it gets there. It unpacks none: their number is fixed.
    """
    measured = ops.MultitypeFuncGraph("measured")

    @measured.register("Tensor", "Tensor", "Tensor", "Tensor", "Tensor", "Tensor")
    def measure(x, y, d, first, second, gates):
        return cell.measured(x, y, d, first, second, gates)

    return measured


class Measure(nn.Cell):
    """Identity on the operator's output whose backward pass measures factors.

    It knows nothing of a particular layer: layers that are measured alike share one, see
    :meth:`thor.layers.base.LayerContext.measure`. A kind of layer derives from it and defines, for one call with input
    ``x``, output gradient ``d`` (float32) and its ``statistics``,

    - ``input_factor(x, statistics)``: A times ``MEASUREMENT_SCALE``, shaped as ``factor_a``; where the statistics say
      so it is not computed but 0, see :meth:`thor.backends.base.Backend.covariance_operator`;
    - ``output_factor(d, statistics)``: G, likewise, before ``samples^2 / loss_scale^2``;
    - ``input_trace(x, d)`` and ``output_trace(d)``: their traces, ``(1,)``, without ``MEASUREMENT_SCALE``;
    - ``positions(y)``, where it is not 1.
    """

    def __init__(self, context):
        super().__init__(auto_prefix=False)
        self.cast, self.reshape, self.zeros_like = ops.Cast(), ops.Reshape(), ops.ZerosLike()
        self.traced, self.subsample = context.traced, context.options.subsample
        self.gate = Gate(context.gated, context.traced)
        self.deferred = deferred(self)

    def construct(self, x, y, factor_a, factor_g, statistics, gates):
        return y

    def bprop(self, x, y, factor_a, factor_g, statistics, gates, out, dout):
        a, g, row = self.deferred(x, y, ops.stop_gradient(dout), factor_a, factor_g, gates)
        return self.zeros_like(x), dout, a, g, row, self.zeros_like(gates)

    def measured(self, x, y, d, factor_a, factor_g, gates):
        """The gradients of ``factor_a``, ``factor_g`` and of the statistics."""
        if self.gate.is_open(gates):
            rows, of_rows = (x, d) if self.subsample == 1 else (x[::self.subsample], d[::self.subsample])
            a, g, row = self.factors(rows, y, self.cast(of_rows, ms.float32), gates, float(x.shape[0]))
        else:
            a, g = self.zeros_like(factor_a), self.zeros_like(factor_g)
            row = self.gate.passed_by(self.positions(y), float(x.shape[0]))
        return a, g, row * MEASUREMENT_SCALE

    def factors(self, x, y, d, gates, rows):
        """A and G of one call, and its statistics ``(7,)``; ``rows`` of data it had before a subsample was taken."""
        trace_a = self.input_trace(x, d) if self.traced else None
        trace_g = self.output_trace(d) if self.traced else None
        statistics = self.gate(gates, self.positions(y), rows, trace_a, trace_g)
        return self.input_factor(x, statistics), self.output_factor(d, statistics), statistics

    def positions(self, y):
        """Output positions per sample that share the weight (H * W of a convolution)."""
        return 1.0


class Recorder(nn.Cell):
    """Hands a layer's factor parameters to the measure, always in float32.

    The parameters are the optimizer's: hidden from the network, whose parameters stay what they were.

    Args:
        parameters: factor parameters and statistics of the layer.
        gates: of the network, ``(n_layers, 4)``, of which ``row`` is the layer's; None measures always.
    """

    def __init__(self, measure: nn.Cell, parameters: tuple[Parameter, ...], gates: Parameter | None, row: int):
        super().__init__(auto_prefix=False)
        self.measure = measure
        object.__setattr__(self, "parameters", ParameterTuple(parameters))
        object.__setattr__(self, "gates", (Tensor(0.0, ms.float32),) if gates is None else ParameterTuple((gates,)))
        self.gated, self.row = gates is not None, row
        self.slice = ops.Slice()

    def add_flags_recursive(self, **flags):
        """Ignore mixed precision, whose casts would round factors to float16."""
        kept = {name: value for name, value in flags.items() if name not in PRECISION_FLAGS}
        return super().add_flags_recursive(**kept) if kept else self

    def construct(self, x, y):
        x, parameters, gates = ops.stop_gradient(x), self.parameters, self.gates[0]
        if self.gated:
            gates = ops.stop_gradient(self.slice(gates, (self.row, 0), (1, 4)))
        if len(parameters) == 2:
            return self.measure(x, y, parameters[0], parameters[1], gates)
        # unpacking with * compiles slowly
        return self.measure(x, y, parameters[0], parameters[1], parameters[2], gates)


class Tap(nn.Cell):
    """A linear operator ``(x, weight)`` that measures its factors while ``recording``.

    ``recording`` is a Python constant of the compiled graph: the stale graph contains no trace of it. A copy (of a
    network, ``copy.deepcopy``) is the operator alone: it has no factors, and the next conversion takes it for untapped.

    Args:
        own_shape: of the layer's weight, where the cell calls the operator with other operands, too: those, of other
            shapes, are not measured. None: every call is with the weight.
    """

    weight_argument = 1  # of the operator

    def __init__(self, operator, recorder: Recorder, own_shape: tuple | None = None):
        super().__init__(auto_prefix=False)
        self.operator = operator
        self.recorder = recorder
        self.own_shape = own_shape
        self.recording = True

    def __getstate__(self):
        base, state = super().__getstate__()
        cells = type(self._cells)((name, cell) for name, cell in self._cells.items() if name != "recorder")
        return base, {**state, "_cells": cells, "recorder": None, "recording": False}

    def observe(self, x, weight, y):
        """Pass ``y`` through, measuring when recording, where the operand is the layer's weight."""
        # one expression: mixed precision O1 takes statements apart, and loses names of this module
        return self.recorder(x, y) if self.recording and self.own_shape in (None, weight.shape) else y

    def construct(self, x, weight):
        return self.observe(x, weight, self.operator(x, weight))


def install(cell: nn.Cell, attribute: str, tap: Tap) -> None:
    """Put a tap where the cell keeps its operator; parameters of an operator that has some keep their names."""
    names = {id(parameter): parameter.name for parameter in tap.get_parameters()}
    precision = {name: value for name, value in cell.get_flags().items() if name in PRECISION_FLAGS}
    if precision:
        tap.add_flags_recursive(**precision)
    delattr(cell, attribute)
    setattr(cell, attribute, tap)
    for parameter in tap.get_parameters():
        parameter.name = names[id(parameter)]


def untap(network: nn.Cell) -> None:
    """Give all cells of a network their own operators back."""
    for _, cell in list(network.cells_and_names()):
        for name, child in list(cell.name_cells().items()):
            if isinstance(child, Tap):
                operator = child.operator
                delattr(cell, name)
                setattr(cell, name, operator)
