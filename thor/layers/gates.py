"""Gates: which factors of which layers a refresh measures, decided before anything is paid for.

``gates`` is one parameter for a network, ``(n_layers, 4)``, a row ``(open_a, open_g, low, high)`` for each layer
that has factors. A factor is measured when its gate is open and the trace of the layer's measurement,
tr A tr G, lies outside ``[low, high]``: inside, the layer has changed too little to be refreshed. Where both gates are
closed, the trace need not be measured, either.
Update policies close gates and set the band, see :mod:`thor.curvature.policies`.

What a call of a layer tells, its *statistics* ``(6,)``, arrives beside the factors:
``(calls, positions, measured_a, measured_g, trace_a, trace_g)``, each summed over the calls of the layer.
"""
from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops

STATISTICS = 6
MEASURED_A, MEASURED_G = 2, 3  # places among the statistics
NO_BAND = float(np.finfo(np.float32).max)  # not infinite: gates are parameters, and parameters ought to be finite
OPEN = (1.0, 1.0, NO_BAND, -NO_BAND)


def create_gates(n_layers: int) -> Parameter:
    """Gates of ``n_layers`` layers, all open and without a band."""
    return Parameter(Tensor(np.tile(np.float32(OPEN), (n_layers, 1))), name="curvature_gates", requires_grad=False)


class Gate(nn.Cell):
    """The statistics of a call, ``(6,)``, from the gates and the traces of the measurement.

    Args:
        gated: read the gates; otherwise everything is measured.
        traced: pass the traces on; otherwise they are told as 0.
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

    def closed(self, positions):
        """The statistics of a call that is not looked at."""
        return Tensor([1.0, positions, 0.0, 0.0, 0.0, 0.0], ms.float32)

    def construct(self, gates, positions, trace_a, trace_g):
        """``positions`` is a number; the traces have shape ``(1,)``."""
        if not self.traced and not self.gated:
            return Tensor([1.0, positions, 1.0, 1.0, 0.0, 0.0], ms.float32)
        calls, opened = Tensor([1.0, positions], ms.float32), self.opened(gates)
        if not self.traced:
            return self.concat((calls, opened, Tensor([0.0, 0.0], ms.float32)))
        if not self.gated:
            return self.concat((calls, opened, trace_a, trace_g))
        low = self.slice(gates, (0, 2), (1, 1)).reshape(1)
        high = self.slice(gates, (0, 3), (1, 1)).reshape(1)
        trace = trace_a * trace_g
        inside = ops.logical_and(trace >= low, trace <= high)  # a trace that is not a number is outside
        measured = opened * (1.0 - inside.astype(ms.float32))
        return self.concat((calls, measured, trace_a, trace_g))
