"""Which layers a refresh refreshes, where not all: traces, the policy's answer, the gates of the next refresh."""
from __future__ import annotations

from collections.abc import Sequence

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops

from thor.curvature.policies import UpdatePolicy
from thor.curvature.record import RefreshRecord
from thor.damping import trace_of_damping
from thor.layers.base import Layer
from thor.layers.tap import CALLS, GATE_KEPT, GATE_OPEN, GATE_STOPPED, NO_BAND, TRACE_A, TRACE_G


class LayerChoice(nn.Cell):
    """Asks the policy, and sets the gates for the next refresh.

    Args:
        layers: those with factors.
        gates: ``(n_layers, 4)``, see :mod:`thor.layers.tap`; None where nothing is gated.
        record: of the refreshes so far.
        relative_damping: see :mod:`thor.damping`.
    """

    def __init__(self, policy: UpdatePolicy, layers: Sequence[Layer], gates: Parameter | None, record: RefreshRecord,
                 relative_damping: bool):
        super().__init__(auto_prefix=False)
        self.policy, self.gates, self.record, self.traced = policy, gates, record, record.traced
        self.relative_damping = relative_damping
        self.uses_band = policy.keep_below > 0
        of_layer = [i for i, layer in enumerate(layers) for _ in layer.factors]
        policy.prepare(len(of_layer))
        self.of_layer = Tensor(of_layer, ms.int32)  # (n_factors,)
        self.fisher_rows = Tensor([layer.fisher_rows for layer in layers], ms.float32)
        self.has_band = Tensor([len(layer.cells) == 1 for layer in layers])
        of_inputs = [factor.of_inputs for layer in layers for factor in layer.factors]
        self.gate_of_factor = Tensor([4 * i + (not is_a) for i, is_a in zip(of_layer, of_inputs)], ms.int32)
        # a layer without an A of blocks (Embedding, BatchNorm) opens its gate of A with that of G
        first = [of_layer.index(i) for i in range(len(layers))]
        self.factors_of_layer = Tensor([[a, a + of_layer.count(i) - 1] for i, a in enumerate(first)], ms.int32)
        if self.traced:
            self.traces = Parameter(Tensor(np.zeros(len(layers)), ms.float32), name="trace_of_layer_at_refresh",
                                    requires_grad=False)
        self.concat, self.gather = ops.Concat(), ops.Gather()

    def measure_always(self) -> None:
        """Leave the choice to what is known after gradients were averaged over devices or micro-batches.

        Otherwise a layer whose trace has hardly changed is not even measured.
        """
        self.uses_band = False

    def open_only(self, names: Sequence[str], others_kept: bool) -> None:
        """Let the next refresh look at the named layers only; to be called between steps.

        Args:
            others_kept: the other layers are looked at and kept for their traces, instead of not looked at.

        Raises:
            ValueError: a name is none of a layer with factors.
        """
        unknown = sorted(set(names) - set(self.record.names))
        if unknown:
            raise ValueError(f"layers={unknown[0]!r}; must be names of layers with factors; "
                             f"use some of {', '.join(self.record.names)}")
        others = GATE_KEPT if others_kept else GATE_STOPPED
        rows = [GATE_OPEN if name in names else others for name in self.record.names]
        ops.assign(self.gates, Tensor(rows, ms.float32))

    def construct(self, statistics, measured_calls, scale, damping, next_damping, distances):
        """Choose, and open the gates of the next refresh.

        Args:
            statistics: of all layers, seven of ``(n_layers,)``.
            measured_calls: calls that measured each factor, ``(n_factors,)``.
            scale: what each layer's product of measured traces is multiplied with, ``(n_layers,)``.
            damping: lam of this step, ``next_damping`` that of the next refresh, ``()``.
            distances: of each factor from the last two, ``(n_factors,)`` both; read where the policy compares.

        Returns:
            1.0 for each factor to refresh, ``(n_factors,)``; and of each layer, ``(n_layers,)``: 1.0 if refreshed,
            1.0 if it is not to be looked at in the next refresh, its change and its trace.
        """
        change, traces = self.change_of_traces(statistics, scale, damping)
        wanted = measured_calls > 0
        if not self.policy.gated:
            refreshed = self.any_of_layer(wanted)
            self.remember(refreshed, traces)
            return wanted.astype(ms.float32), (refreshed, ops.zeros_like(refreshed), change, traces)
        opened = self.gather(self.gates.reshape(-1), self.gate_of_factor, 0) > 0
        none = ops.zeros_like(measured_calls)
        distance, earlier = distances if self.policy.compares else (none, none)
        chosen, open_next = self.policy.select(opened, self.gather(change, self.of_layer, 0), distance, earlier)
        wanted = ops.logical_and(wanted, chosen)
        refreshed = self.any_of_layer(wanted)
        self.set_gates(open_next, self.remember(refreshed, traces), scale, next_damping)
        return wanted.astype(ms.float32), (refreshed, 1.0 - self.any_of_layer(open_next), change, traces)

    def change_of_traces(self, statistics, scale, damping):
        """``(change, traces)`` of all layers, ``(n_layers,)`` both; not a number where a layer was not looked at."""
        calls = statistics[CALLS]
        if not self.traced:
            return ops.zeros_like(calls), ops.zeros_like(calls)
        traces = (statistics[TRACE_A] / calls) * (statistics[TRACE_G] / calls) * scale
        if self.policy.gated:
            looked_at = ops.logical_or(self.gates[:, 0] > 0, self.gates[:, 1] > 0)
            traces = ops.select(looked_at, traces, ops.full_like(traces, np.nan))
        change = trace_change(traces, self.traces + 0.0, self.ridge(damping))
        known = ops.logical_or(self.record.refreshes > 0, ops.isnan(traces))
        return ops.select(known, change, ops.full_like(change, np.inf)), traces

    def ridge(self, damping):
        """The damping's part of each layer's trace, ``(n_layers,)``."""
        return trace_of_damping(damping, self.fisher_rows, self.relative_damping)

    def any_of_layer(self, flags):
        """1.0 for each layer of which any factor is flagged, ``(n_layers,)``."""
        return ops.maximum(*self.of_a_and_g(flags.astype(ms.float32)))

    def of_a_and_g(self, values):
        """The values ``(n_factors,)`` of each layer's A and G, ``(n_layers,)`` both."""
        return (self.gather(values, self.factors_of_layer[:, 0], 0),
                self.gather(values, self.factors_of_layer[:, 1], 0))

    def remember(self, refreshed, traces):
        """The traces of all layers at their last refresh, this one among them."""
        if not self.traced:
            return None
        latest = ops.select(ops.logical_and(refreshed > 0, ops.isfinite(traces)), traces, self.traces + 0.0)
        ops.assign(self.traces, latest)
        return latest

    def set_gates(self, open_next, traces, scale, damping):
        """Open the gates of the factors to look at next; inside the band of the trace nothing is measured.

        Args:
            traces: of each layer at its last refresh, ``(n_layers,)``; 0 where there was none.
            scale: the layer's trace divided by the product of its measured traces, ``(n_layers,)``.
            damping: that of the next refresh.
        """
        low, high = ops.full_like(scale, NO_BAND), ops.full_like(scale, -NO_BAND)
        if self.uses_band:
            margin = self.policy.keep_below * ops.abs(traces + self.ridge(damping))
            usable = ops.logical_and(ops.logical_and(self.has_band, traces > 0), ops.isfinite(scale))
            low = ops.select(usable, (traces - margin) / scale, low)
            high = ops.select(usable, (traces + margin) / scale, high)
        open_a, open_g = self.of_a_and_g(open_next.astype(ms.float32))
        return ops.assign(self.gates, ops.stack((open_a, open_g, low, high), 1))


def trace_change(now, before, ridge):
    """Delta = ||now + ridge| - |before + ridge|| / |before + ridge|; 0 / 0 is 0 (THOR, AAAI 2021, section 3.2).

    Args:
        now, before: traces of a layer's Fisher block, ``(n_layers,)``.
        ridge: trace of the damping.
    """
    present, past = ops.abs(now + ridge), ops.abs(before + ridge)
    difference = ops.abs(present - past)
    return ops.select(difference == 0, difference, difference / past)
