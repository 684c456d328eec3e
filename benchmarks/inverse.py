"""All damped inverses of a network in one graph against SciPy's LAPACK, potrf and potri, block by block.

``python -m benchmarks.inverse --model resnet50 --json inverse.json``
"""
from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks import common, workload
from models.turns import measure_in_turn


def main(words: Sequence[str] | None = None) -> int:
    """Measure as the command line says; the exit status."""
    made = common.parser("inverse", "All damped inverses of a network in one graph against LAPACK.")
    workload.add_work(made, timed=False)
    common.add_timing(made, warmup=6, repeats=21)
    options = made.parse_args(words)

    work = workload.chosen_work(options)
    return common.run_measurement(lambda: measure(work, options.warmup, options.repeats), report, options.json)


def measure(work: workload.Work, warmup: int, repeats: int) -> dict[str, Any]:
    """Time both sides on the same blocks in turn; all numbers."""
    step = workload.create_thor_step(workload.create_network(work), work)
    counts = _block_counts(step.optimizer.registration.layers)
    blocks = [random_blocks(count, size, work.seed) for size, count in sorted(counts.items())]
    damping = [np.full((len(b), 1, 1), workload.DAMPING ** 0.5, np.float32) for b in blocks]
    graph = _create_graph(step.optimizer.backend, blocks, damping)
    seconds = measure_in_turn({"graph": graph, "lapack": lambda: invert_by_lapack(blocks, damping)},
                                     warmup, repeats)
    error = max(relative_error(a, b) for a, b in zip(graph(), invert_by_lapack(blocks, damping)))
    result = common.ratio(seconds["graph"], seconds["lapack"])
    return {"inverse_s": float(np.median(seconds["graph"])), "lapack_s": float(np.median(seconds["lapack"])),
            "inverse_ratio": result["ratio"], "inverse_ratio_quartiles": [result["low"], result["high"]],
            "error": error, "blocks": {str(size): count for size, count in sorted(counts.items())},
            "work": vars(work), "warmup": warmup, "repeats": repeats, "machine": common.machine()}


def _block_counts(layers: list) -> Counter:
    """Blocks of each size over all layers."""
    counts: Counter = Counter()
    for layer in layers:
        for factor in layer.factors if layer.has_kronecker_factors else ():
            counts[factor.parameter.shape[-1]] += factor.parameter.shape[0]
    return counts


def random_blocks(count: int, size: int, seed: int) -> np.ndarray:
    """Second moments of ``2 size`` standard normal rows, ``(count, size, size)``."""
    rows = np.random.default_rng([seed, size]).standard_normal((count, 2 * size, size), np.float32)
    return np.matmul(rows.transpose(0, 2, 1), rows) / np.float32(2 * size)


def _create_graph(backend: Any, blocks: list[np.ndarray], damping: list[np.ndarray]):
    """A compiled graph that inverts every batch with the backend's operator; a call gives the inverses."""
    import mindspore as ms

    class Graph(ms.nn.Cell):
        """Blocks and damping in turn to inverses."""

        def construct(self, *inputs):
            inverses = ()
            for i in range(len(inputs) // 2):
                inverses = inverses + (backend.damped_inverse(inputs[2 * i], inputs[2 * i + 1])[0],)
            return inverses

    graph = Graph(auto_prefix=False)
    inputs = [ms.Tensor(array) for pair in zip(blocks, damping) for array in pair]
    return lambda: [inverse.asnumpy() for inverse in graph(*inputs)]


def invert_by_lapack(blocks: list[np.ndarray], damping: list[np.ndarray]) -> list[np.ndarray]:
    """The reference: add the damping, potrf, potri; the lower triangle holds the inverse."""
    from scipy.linalg.lapack import spotrf, spotri

    results = []
    for batch, damp in zip(blocks, damping):
        inverse = np.empty_like(batch)
        for i, block in enumerate(batch):
            damped = np.array(block, order="F")
            np.fill_diagonal(damped, damped.diagonal() + damp[i, 0, 0])
            inverse[i] = spotri(spotrf(damped, lower=1, overwrite_a=1)[0], lower=1, overwrite_c=1)[0]
        results.append(inverse)
    return results


def relative_error(inverses: np.ndarray, lower: np.ndarray) -> float:
    """Largest difference of the lower triangles, relative to the largest entry."""
    return float(np.abs(np.tril(inverses) - np.tril(lower)).max() / np.abs(np.tril(lower)).max())


def report(numbers: dict[str, Any]) -> str:
    """The table to print."""
    low, high = numbers["inverse_ratio_quartiles"]
    blocks = ", ".join(f"{count} of {size}" for size, count in numbers["blocks"].items())
    result = {"ratio": numbers["inverse_ratio"], "low": low, "high": high}
    rows = [("side", "seconds", "ratio (quartiles)"),
            ("LAPACK potrf + potri, block by block", f"{numbers['lapack_s']:.4f}", "1"),
            ("damped_inverse in a graph", f"{numbers['inverse_s']:.4f}", common.spread(result))]
    head = f"{numbers['work']['model']}, blocks: {blocks}"
    return "\n".join([head, common.describe(numbers["machine"]), "",
                      common.table(rows), "", f"largest relative difference {numbers['error']:.1e}"])


if __name__ == "__main__":
    sys.exit(main())
