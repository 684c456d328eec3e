"""Optimizer state of THOR beyond momentum's, by counting parameters.

``python -m benchmarks.memory --model resnet50 --split-dim 128 --json memory.json``
"""
from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from benchmarks import common, workload


def main(words: Sequence[str] | None = None) -> int:
    """Count as the command line says; the exit status."""
    made = common.parser("memory", "Optimizer state of THOR beyond momentum's, in MiB.")
    workload.add_work(made, timed=False)
    options = made.parse_args(words)

    work = workload.chosen_work(options)
    return common.run_measurement(lambda: measure(work), report, options.json)


def measure(work: workload.Work) -> dict[str, Any]:
    """Count the parameters of both train steps; all numbers."""
    momentum = workload.create_momentum_step(workload.create_network(work), work)
    network = workload.create_network(work)
    weights = {id(parameter) for parameter in network.get_parameters()}
    thor = workload.create_thor_step(network, work)
    layers = thor.optimizer.registration.layers
    factors = {id(factor) for layer in layers for factor in layer.factor_parameters.values()}
    state = [p for p in thor.get_parameters() if id(p) not in weights]
    own_weights = _bytes_of(p.shape for p in network.get_parameters() if id(p) in weights)
    first_order = _bytes_of(p.shape for p in momentum.get_parameters()) - own_weights
    in_factors = _bytes_of(p.shape for p in state if id(p) in factors)
    beyond = _bytes_of(p.shape for p in state) - first_order
    dense = _bytes_of(shape for layer in layers for shape in _dense_shapes(layer))
    return {"state_mib": beyond / common.MEBIBYTE, "momentum_state_mib": first_order / common.MEBIBYTE,
            "factors_mib": in_factors / common.MEBIBYTE, "rest_mib": (beyond - in_factors) / common.MEBIBYTE,
            "weights_mib": own_weights / common.MEBIBYTE, "dense_copy_mib": dense / common.MEBIBYTE,
            "work": vars(work), "machine": common.machine()}


def _bytes_of(shapes: Iterable[tuple]) -> int:
    """Bytes of float32 (or int32) arrays of these shapes."""
    return sum(4 * math.prod(shape) for shape in shapes)


def _dense_shapes(layer: Any) -> list[tuple]:
    """Shapes of one copy of the layer's factors as whole matrices; the vocabulary's stays a vector."""
    if not layer.has_kronecker_factors:
        return []
    groups = layer.matrix[0]
    vectors = [parameter.shape for role, parameter in layer.factor_parameters.items()
               if role != "statistics" and parameter.ndim == 1]
    return vectors + [(groups, factor.dim // groups, factor.dim // groups) for factor in layer.factors]


def report(numbers: dict[str, Any]) -> str:
    """The table to print."""
    work = workload.Work(**numbers["work"])
    rows = [("state", "MiB"), ("weights", f"{numbers['weights_mib']:.1f}"),
            ("momentum's state", f"{numbers['momentum_state_mib']:.1f}"),
            ("THOR's beyond momentum's", f"{numbers['state_mib']:.1f}"),
            ("  factors", f"{numbers['factors_mib']:.1f}"),
            ("  inverses and the rest", f"{numbers['rest_mib']:.1f}"),
            ("one copy of whole factors", f"{numbers['dense_copy_mib']:.1f}")]
    return "\n".join([f"{work.describe()}, split {work.split_dim}", common.describe(numbers["machine"]), "",
                      common.table(rows)])


if __name__ == "__main__":
    sys.exit(main())
