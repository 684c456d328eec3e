"""The graphs of a train step, compiled without running one."""
from __future__ import annotations

from collections.abc import Callable, Sequence

from mindspore import Tensor, nn

from thor.optimizer import SECOND_ORDER, STALE
from thor.train import TwoGraphStep

STEP, SINK = "step", "sink"
GRAPHS = (SECOND_ORDER, STALE, STEP, SINK)


class SinkGraph(nn.Cell):
    """A graph around a train step that fetches its batch, as ``Model.train`` builds it for the data sink.

    MindSpore's own (``_DataWrapper`` of ``mindspore.train.dataset_helper``) needs an open queue on the device; this
    one has the same operators.

    Args:
        step: the train step.
        batch: tensors of the batch's types and shapes.
    """

    def __init__(self, step: nn.Cell, batch: Sequence[Tensor]):
        super().__init__(auto_prefix=False)
        from mindspore.ops.operations import GetNext

        self.next = GetNext([tensor.dtype for tensor in batch], [tensor.shape for tensor in batch], len(batch), "data")
        self.step = step
        self.add_flags(sink_mode=True)

    def construct(self):
        return self.step(*self.next())


def graphs_of(step: nn.Cell) -> dict[str, Callable[[Sequence[Tensor]], None]]:
    """What compiles each graph of a train step for a batch, by name.

    THOR's step has ``second_order``, ``stale`` and ``sink``, any other ``step`` and ``sink``.
    """
    two = next((cell for _, cell in step.cells_and_names() if isinstance(cell, TwoGraphStep)), None)

    def sink(batch: Sequence[Tensor]) -> None:
        SinkGraph(step, batch).set_train().compile()

    if two is None:
        return {STEP: lambda batch: step.compile(*batch), SINK: sink}

    def one(graph: str) -> Callable[[Sequence[Tensor]], None]:
        def compile_one(batch: Sequence[Tensor]) -> None:
            with two.optimizer.using_graph(graph):
                getattr(two, graph).compile(*batch)
        return compile_one
    return {SECOND_ORDER: one(SECOND_ORDER), STALE: one(STALE), SINK: sink}
