"""Inversion of all layers' blocks in few calls: one per block size."""
from __future__ import annotations

import mindspore as ms
from mindspore import nn, ops

from thor.backends.base import Backend


class BlockInverter(nn.Cell):
    """Damped inverses of many factors, batched across layers.

    Args:
        backend: the device's operators.
        shapes: ``(n_blocks, size, size)`` of each factor, in the order :meth:`construct` receives them.
    """

    def __init__(self, backend: Backend, shapes: tuple):
        super().__init__(auto_prefix=False)
        self.backend = backend
        self.shapes = shapes
        sizes = sorted({shape[-1] for shape in shapes})
        self.members = tuple(tuple(i for i, shape in enumerate(shapes) if shape[-1] == size) for size in sizes)
        self.places = tuple(self._place(i, sizes) for i in range(len(shapes)))

    def _place(self, index: int, sizes: list) -> tuple[int, int, int]:
        """Batch, first and last block of factor ``index``."""
        batch = sizes.index(self.shapes[index][-1])
        start = sum(self.shapes[i][0] for i in self.members[batch] if i < index)
        return batch, start, start + self.shapes[index][0]

    def construct(self, factors, dampings):
        """Invert; returns ``(inverses, accepted)``, tuples as long as ``factors``."""
        batches = ()
        for members in self.members:
            blocks, damping = (), ()
            for i in members:
                blocks = blocks + (factors[i],)
                damping = damping + (ops.ones((self.shapes[i][0], 1, 1), ms.float32) * dampings[i],)
            batches = batches + (self.backend.damped_inverse(ops.concat(blocks), ops.concat(damping)),)
        inverses, accepted = (), ()
        for batch, start, stop in self.places:
            inverses = inverses + (batches[batch][0][start:stop],)
            accepted = accepted + (batches[batch][1][start:stop],)
        return inverses, accepted
