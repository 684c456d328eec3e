"""Which tap serves which cell type; users add their own."""
from __future__ import annotations

from typing import Callable

from mindspore import nn

from thor.layers.base import TappedLayer
from thor.layers.conv import tap_conv2d
from thor.layers.dense import tap_dense
from thor.layers.embedding import tap_embedding
from thor.layers.norm import tap_batch_norm, tap_layer_norm

TapFactory = Callable[..., TappedLayer]

_FACTORIES: dict[type, TapFactory] = {
    nn.Dense: tap_dense,
    nn.Conv2d: tap_conv2d,
    nn.Embedding: tap_embedding,
    nn.LayerNorm: tap_layer_norm,
    nn.BatchNorm1d: tap_batch_norm,
    nn.BatchNorm2d: tap_batch_norm,
    nn.BatchNorm3d: tap_batch_norm,
}


def register_layer(cell_type: type, factory: TapFactory) -> None:
    """Precondition cells of ``cell_type`` (and its subclasses) with ``factory``.

    Args:
        cell_type: a subclass of ``mindspore.nn.Cell``.
        factory: called as ``factory(cell, backend, options, shared)``; installs a tap in the cell and returns
            its :class:`TappedLayer`, or raises :class:`NotTapped` with the reason. ``shared`` is ``None`` or
            the layer that already owns the cell's weight (a tied weight), to which the tap is added. The
            library's own factories serve cells with the same operators: a linear cell of yours that
            multiplies with ``self.matmul(x, self.weight)`` is registered with ``tap_dense``.

    Raises:
        TypeError: ``cell_type`` is not a Cell class.
    """
    if not (isinstance(cell_type, type) and issubclass(cell_type, nn.Cell)):
        raise TypeError(f"cell_type={cell_type!r}; must be a subclass of mindspore.nn.Cell; pass the class itself")
    _FACTORIES[cell_type] = factory


def find_factory(cell: nn.Cell) -> TapFactory | None:
    """The factory of the cell's nearest registered base class, or ``None``."""
    for base in type(cell).__mro__:
        if base in _FACTORIES:
            return _FACTORIES[base]
    return None


def weight_of(cell: nn.Cell):
    """The parameter whose gradient a tap of this cell would precondition, or ``None``."""
    for name in ("weight", "embedding_table", "gamma"):
        weight = getattr(cell, name, None)
        if weight is not None:
            return weight
    return None
