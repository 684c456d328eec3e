"""Parameters that are loaded into a compiled step.

``set_data`` and ``load_param_into_net`` give a parameter other memory. A graph that branches, as every step does that
may skip an update, goes on with the memory it was compiled with (MindSpore 2.7 to 2.10, CPU): it neither sees what was
loaded nor shows what it learns. A step that was loaded into is therefore compiled anew.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import mindspore as ms
from mindspore import Parameter, Tensor, nn, ops


class ReloadWatch:
    """Notices where the parameters of a cell have other memory than after the cell's last call.

    On the CPU, in graph mode; on other devices memory may move by itself, and loading is not watched.

    Args:
        cell: called from Python, compiled as a whole.
    """

    def __init__(self, cell: nn.Cell):
        self.cell = cell
        self.parameters: list[Parameter] = []
        self.places: list[int] = []

    def call(self, call: Callable, inputs: tuple) -> Any:
        """``call(*inputs)`` of the cell, compiled anew where its parameters' memory is another."""
        if self.places and self.places != self._now():
            self.cell.compile_cache.clear()
        outputs = call(*inputs)
        if ms.get_context("mode") == ms.GRAPH_MODE and ms.get_context("device_target") == "CPU":
            self.parameters = self.parameters or list(self.cell.get_parameters())
            self.places = self._now()
        return outputs

    def _now(self) -> list[int]:
        return [parameter.data_ptr() for parameter in self.parameters]


@contextmanager
def lent(weights: Iterable[Parameter], values: Iterable[Parameter]) -> Iterator[None]:
    """``weights`` hold ``values`` inside, and their own again afterwards.

    They are assigned, not set: the memory stays. In PyNative mode, too, MindSpore's optimizers go on with the memory
    they know, and would update what ``set_data`` has left behind.
    """
    own = [(weight, weight.asnumpy().copy()) for weight in weights]
    try:
        for (weight, _), value in zip(own, values):
            ops.assign(weight, Tensor(value.asnumpy(), weight.dtype))
        yield
    finally:
        for weight, value in own:
            ops.assign(weight, Tensor(value))
