"""What one forward pass of a network meets: rows of data, multiplications, activations."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import mindspore as ms
from mindspore import Tensor, nn

from thor.registration import weight_of


@dataclass
class Trace:
    """Counts over all cells that were called.

    Attributes:
        rows: rows of data behind a weight's factors by its ``id``, over all uses: batch times output positions of a
            convolution, rows of a matrix product, looked-up ids of an embedding.
        flop: operations of the products with a weight, by its ``id``; products of activations are not seen.
        activations: numbers in the outputs of the cells that hold no other cell.
    """

    rows: dict[int, int] = field(default_factory=dict)
    flop: dict[int, float] = field(default_factory=dict)
    activations: int = 0


def trace(network: Any, forward: Callable[[], Any]) -> Trace:
    """Count what ``forward``, which calls ``network`` with one batch, does in PyNative mode."""
    found = Trace()
    cells = [cell for _, cell in network.cells_and_names()]
    hooks = [cell.register_forward_hook(lambda cell, _, out: count(found, cell, out)) for cell in cells]
    mode = ms.get_context("mode")
    try:
        ms.set_context(mode=ms.PYNATIVE_MODE)
        network.set_train(False)
        forward()
    finally:
        ms.set_context(mode=mode)
        for hook in hooks:
            hook.remove()
    return found


def count(found: Trace, cell: Any, out: Any) -> None:
    """Add one call of a cell to what was found."""
    if not cell.name_cells() and isinstance(out, Tensor):
        found.activations += out.size
    weight = weight_of(cell)
    if weight is None or weight.ndim < 2:
        return
    rows = out.size // _weight_width(cell)
    found.rows[id(weight)] = found.rows.get(id(weight), 0) + rows
    if not isinstance(cell, nn.Embedding):
        found.flop[id(weight)] = found.flop.get(id(weight), 0.0) + 2.0 * rows * weight.size


def _weight_width(cell: Any) -> int:
    """Features of an output: filters, units, or the embedding's width."""
    return cell.embedding_size if isinstance(cell, nn.Embedding) else cell.weight.shape[0]
