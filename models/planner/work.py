"""What a step of THOR must cost beyond a step of momentum: operations counted from the network's real layers.

The planner divides them by measured rates; the benchmarks hold measured times against them.

For a layer with gradient ``(groups, rows, columns)``, blocks of A and G of sizes ``a_i`` and ``g_j`` and
``n`` rows of data (batch x positions), per group:

- preconditioning: ``2 columns sum(g_j^2) + 2 rows sum(a_i^2)``, every step;
- covariances: ``n (sum(a_i^2) + sum(g_j^2))``, half of a full product because they are symmetric;
- inverses: ``sum(a_i^3) + sum(g_j^3)``, a third for the Cholesky factor and two for the inverse from it;
- im2col: ``4 n columns`` bytes written, none for a 1x1 kernel.

An embedding's factor over its rows, the vocabulary, is a diagonal: there the terms of ``g_j`` are left out, and
its blocks stand at the columns. LayerNorm's curvature costs no matrix product and is not counted.
"""
from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True)
class LayerWork:
    """One preconditioned weight.

    Args:
        groups, rows, columns: of its gradient.
        samples: rows of data behind its factors: batch times output positions, or looked-up ids.
        kernel_size: taps of the kernel, 1 for Dense.
        diagonal_rows: the factor over the rows is a diagonal, as an embedding's.
    """

    groups: int
    rows: int
    columns: int
    samples: int
    kernel_size: int = 1
    diagonal_rows: bool = False


@dataclass(frozen=True)
class Floor:
    """Operations and bytes of the parts of a step."""

    precondition_flop: float = 0.0
    covariance_flop: float = 0.0
    inverse_flop: float = 0.0
    im2col_bytes: float = 0.0

    def __add__(self, other: Floor) -> Floor:
        return Floor(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))


def block_sizes(dim: int, split_dim: int | None) -> list[int]:
    """Rows of each diagonal block of a matrix of ``dim`` rows."""
    size = dim if split_dim is None else min(dim, split_dim)
    return [min(size, dim - first) for first in range(0, dim, size)]


def layer_floor(layer: LayerWork, split_dim: int | None) -> Floor:
    """Operations of one layer."""
    of_a = block_sizes(layer.columns, split_dim)
    of_g = [] if layer.diagonal_rows else block_sizes(layer.rows, split_dim)
    squares_a, squares_g = sum(s ** 2 for s in of_a), sum(s ** 2 for s in of_g)
    return Floor(
        precondition_flop=layer.groups * 2.0 * (layer.columns * squares_g + layer.rows * squares_a),
        covariance_flop=layer.groups * float(layer.samples) * (squares_a + squares_g),
        inverse_flop=layer.groups * float(sum(s ** 3 for s in of_a + of_g)),
        im2col_bytes=4.0 * layer.groups * layer.samples * layer.columns if layer.kernel_size > 1 else 0.0)


def network_floor(layers: list[LayerWork], split_dim: int | None) -> Floor:
    """Operations of all layers."""
    return sum((layer_floor(layer, split_dim) for layer in layers), Floor())


def floor_seconds(floor: Floor, flop_rate: float, byte_rate: float) -> dict[str, float]:
    """Seconds of each part at the given rates (per second), and of a stale and of a refresh step."""
    parts = {"precondition": floor.precondition_flop / flop_rate,
             "covariance": floor.covariance_flop / flop_rate, "inverse": floor.inverse_flop / flop_rate,
             "im2col": floor.im2col_bytes / byte_rate}
    return {**parts, "stale": parts["precondition"], "refresh": sum(parts.values())}


def layer_work(registration: Any, rows: dict[int, int]) -> list[LayerWork]:
    """The layers THOR preconditions with blocks.

    Args:
        registration: what :func:`thor.registration.tap_network` returned.
        rows: rows of data behind each weight's factors, by its ``id``.
    """
    return [work_of(layer, rows[id(layer.weight)]) for layer in registration.layers
            if layer.has_kronecker_factors]


def work_of(layer: Any, samples: int) -> LayerWork:
    """A :class:`thor.layers.Layer` with Kronecker factors and ``samples`` rows of data."""
    kernel = math.prod(layer.weight.shape[2:])
    diagonal_rows = all(factor.role != "a" for factor in layer.factors)
    columns = layer.matrix[2] + (layer.bias is not None)
    return LayerWork(*layer.matrix[:2], columns, samples, kernel, diagonal_rows)
