"""Which layers a refresh refreshes: traces, the policy's answer, the gates of the next refresh, a record."""
from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops

from thor.curvature.policies import UpdatePolicy
from thor.layers.gates import NO_BAND

KEPT, REFRESHED, STOPPED = 0, 1, 2


class LayerChoice(nn.Cell):
    """Asks the policy, keeps what it needs between refreshes, and sets the gates for the next.

    Args:
        layers: :class:`thor.curvature.refresh.MeasuredLayer` of each layer.
        gates: ``(n_layers, 4)``, see :mod:`thor.layers.gates`.
        traced: the statistics hold traces.
    """

    def __init__(self, policy: UpdatePolicy, layers: list, gates: Parameter, traced: bool):
        super().__init__(auto_prefix=False)
        self.policy, self.gates, self.traced = policy, gates, traced
        self.compares, self.early = policy.compares, policy.keep_below > 0
        of_layer = [i for i, layer in enumerate(layers) for _ in layer.block_factors]
        n_layers, n_factors = len(layers), len(of_layer)
        policy.prepare(n_factors)
        self.of_layer = Tensor(of_layer, ms.int32)
        self.fisher_rows = Tensor([layer.fisher_rows for layer in layers], ms.float32)
        self.trace_scale = Tensor([layer.trace_scale for layer in layers], ms.float32)
        self.has_band = Tensor([layer.uses == 1 for layer in layers])
        roles = [factor.role for layer in layers for factor in layer.block_factors]
        self.open_places = Tensor([4 * i + (0 if role == "a" else 1) for i, role in zip(of_layer, roles)], ms.int32)
        # a layer without an A of blocks (Embedding, BatchNorm) opens its gate of A with that of G
        first = [of_layer.index(i) for i in range(n_layers)]
        self.factor_places = Tensor([[a, a + of_layer.count(i) - 1] for i, a in enumerate(first)], ms.int32)

        def state(name: str, shape: tuple, dtype=ms.float32) -> Parameter:
            return Parameter(Tensor(np.zeros(shape), dtype), name=name, requires_grad=False)

        self.refreshes = state("refreshes_of_layer", (n_layers,), ms.int32)
        self.status = state("status_of_layer", (n_layers,), ms.int32)
        if traced:
            self.traces = state("trace_of_layer_at_refresh", (n_layers,))
            self.seen_traces = state("trace_of_layer", (n_layers,))
            self.seen_changes = state("change_of_layer", (n_layers,))
            self.conditions = state("condition_of_layer", (n_layers,))
        self.concat, self.gather = ops.Concat(), ops.Gather()

    def construct(self, told, measured, gradient_scale, damping, next_damping, distances):
        """``(wanted (n_factors,), refreshed (n_layers,))``, 1.0 for yes; arguments as in ``Refresh.construct``."""
        positions = told[:, 1] / told[:, 0]
        change, traces = self.change_of_traces(told, gradient_scale * positions * self.trace_scale, damping)
        wanted = measured > 0
        if not self.policy.gated:
            refreshed = self.of_layers(wanted)
            self.remember(refreshed, ops.zeros_like(refreshed), change, traces)
            return wanted.astype(ms.float32), refreshed
        opened = self.gather(self.gates.reshape(-1), self.open_places, 0) > 0
        distance, earlier = distances if self.compares else (ops.zeros_like(measured), ops.zeros_like(measured))
        chosen, open_next = self.policy.select(opened, self.gather(change, self.of_layer, 0), distance, earlier)
        wanted = ops.logical_and(wanted, chosen)
        refreshed = self.of_layers(wanted)
        traces = self.remember(refreshed, 1.0 - self.of_layers(open_next), change, traces)
        self.set_gates(open_next, traces, gradient_scale * positions * self.trace_scale, next_damping)
        return wanted.astype(ms.float32), refreshed

    def change_of_traces(self, told, scale, damping):
        """``(change, traces)`` of all layers, ``(n_layers,)`` both; not a number where a layer was not looked at."""
        calls = told[:, 0]
        if not self.traced:
            return ops.zeros_like(calls), ops.zeros_like(calls)
        traces = (told[:, 4] / calls) * (told[:, 5] / calls) * scale
        if self.policy.gated:
            looked_at = ops.logical_or(self.gates[:, 0] > 0, self.gates[:, 1] > 0)
            traces = ops.select(looked_at, traces, ops.full_like(traces, np.nan))
        change = trace_change(traces, self.traces + 0.0, damping * self.fisher_rows)
        known = ops.logical_or(self.refreshes > 0, ops.isnan(traces))
        return ops.select(known, change, ops.full_like(change, np.inf)), traces

    def of_layers(self, flags):
        """1.0 for each layer of which any factor is flagged, ``(n_layers,)``."""
        return ops.maximum(*self.both(flags.astype(ms.float32)))

    def both(self, values):
        """The values ``(n_factors,)`` of each layer's A and G, ``(n_layers,)`` both."""
        return self.gather(values, self.factor_places[:, 0], 0), self.gather(values, self.factor_places[:, 1], 0)

    def remember(self, refreshed, closed, change, traces):
        """Count refreshes and record what was seen; the traces of all layers at their last refresh."""
        done = refreshed > 0
        ops.assign(self.refreshes, self.refreshes + done.astype(ms.int32))
        status = ops.select(closed > 0, STOPPED * ops.ones_like(refreshed), ops.zeros_like(refreshed))
        ops.assign(self.status, ops.select(done, REFRESHED * ops.ones_like(refreshed), status).astype(ms.int32))
        if not self.traced:
            return None
        latest = ops.select(ops.logical_and(done, ops.isfinite(traces)), traces, self.traces + 0.0)
        ops.assign(self.traces, latest)
        ops.assign(self.seen_traces, finite_or_negative(traces))
        ops.assign(self.seen_changes, finite_or_negative(change))
        return latest

    def record_condition(self, of_factors, refreshed):
        """Keep the worst condition number ``(n_factors,)`` of each layer that was refreshed."""
        worst = ops.maximum(*self.both(of_factors))
        return ops.assign(self.conditions, ops.select(refreshed > 0, worst, self.conditions + 0.0))

    def set_gates(self, open_next, traces, scale, damping):
        """Open the gates of the factors to look at next; inside the band of the trace nothing is measured.

        Args:
            traces: of each layer at its last refresh, ``(n_layers,)``; 0 where there was none.
            scale: the layer's trace divided by the product of its measured traces, ``(n_layers,)``.
            damping: that of the next refresh.
        """
        low, high = ops.full_like(scale, NO_BAND), ops.full_like(scale, -NO_BAND)
        if self.early:
            margin = self.policy.keep_below * ops.abs(traces + damping * self.fisher_rows)
            usable = ops.logical_and(ops.logical_and(self.has_band, traces > 0), ops.isfinite(scale))
            low = ops.select(usable, (traces - margin) / scale, low)
            high = ops.select(usable, (traces + margin) / scale, high)
        open_a, open_g = self.both(open_next.astype(ms.float32))
        return ops.assign(self.gates, ops.stack((open_a, open_g, low, high), 1))


def finite_or_negative(values):
    """``values`` with -1 where they are not finite."""
    return ops.select(ops.isfinite(values), values, -ops.ones_like(values))


def trace_change(now, before, ridge):
    """Delta = ||now + ridge| - |before + ridge|| / |before + ridge|; 0 / 0 is 0 (THOR, AAAI 2021, section 3.2).

    Args:
        now, before: traces of a layer's Fisher block, ``(n_layers,)``.
        ridge: trace of the damping, lam times its rows.
    """
    present, past = ops.abs(now + ridge), ops.abs(before + ridge)
    difference = ops.abs(present - past)
    return ops.select(difference == 0, difference, difference / past)
