"""What each rank of the two-process tests runs: ``python -m tests.helpers.rank_program OUTPUT RANKS CASE...``."""
from __future__ import annotations

import sys
from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn

from thor import THOR
from thor.curvature import TracePolicy
from thor.train import make_train_step, wrap_train_cell

BATCH, STEPS = 8, 20
CASES = {
    "data": {},
    "hybrid": {"share_inverses": True, "split_indices": (0, 2)},
    "trace": {"update": lambda: TracePolicy(4, 0.05), "share_inverses": True},
    "overflow": {},
    "sum": {},
    "ready": {"split_indices": (0, 2)},
}


class Network(nn.Cell):
    """A convolution, an embedding, LayerNorm and Dense layers, the last of 145 columns in two blocks."""

    def __init__(self):
        super().__init__()
        rng = np.random.default_rng(0)

        def weight(*shape):
            return Tensor(0.3 * rng.standard_normal(shape).astype(np.float32))

        self.conv = nn.Conv2d(1, 4, 3, weight_init=weight(4, 1, 3, 3))
        self.table = nn.Embedding(9, 1, embedding_table=weight(9, 1))
        self.norm = nn.LayerNorm((145,))
        self.middle = nn.Dense(145, 6, weight_init=weight(6, 145), bias_init="zeros")
        self.last = nn.Dense(6, 5, weight_init=weight(5, 6), bias_init="zeros")
        self.loss = nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean")

    def construct(self, images, ids, labels):
        maps = self.conv(images)
        rows = ms.ops.concat((maps.reshape(maps.shape[0], -1), self.table(ids).reshape(-1, 1)), 1)
        return self.loss(self.last(self.middle(self.norm(rows))), labels)


class Ready(nn.TrainOneStepCell):
    """A train cell as clients write their own, with the reducer MindSpore gave it."""

    def construct(self, *inputs):
        loss = self.network(*inputs)
        gradients = self.grad(self.network, self.weights)(*inputs, ms.ops.ones_like(loss))
        return ms.ops.depend(loss, self.optimizer(self.grad_reducer(gradients)))


def train(case: str, rank: int, ranks: int) -> dict[str, np.ndarray]:
    """Weights and inverses after 20 steps of a case on this rank's part of every batch.

    Gradients are averaged over ranks, or, in the case ``sum``, summed at a learning rate smaller by their number.
    """
    options = {name: value() if callable(value) else value for name, value in CASES[case].items()}
    network = Network()
    rate = 0.05
    if case == "sum":  # of the gradients; LayerNorm's update alone is not linear in them
        rate /= ranks
        for parameter in network.norm.trainable_params():
            parameter.requires_grad = False
    if ranks > 1:
        ms.set_auto_parallel_context(gradients_mean=case != "sum")
    optimizer = THOR(network, rate, 0.1, 0.9, batch_size=BATCH // ranks, frequency=4, split_dim=128, **options)
    manager = ms.amp.DynamicLossScaleManager(64.0, 2, 1000) if case == "overflow" else None
    if case == "ready":
        step = wrap_train_cell(Ready(network, optimizer), optimizer)
    else:
        step = make_train_step(network, optimizer, manager)
    rng = np.random.default_rng(5)
    for number in range(STEPS):
        images = rng.standard_normal((BATCH, 1, 6, 6)).astype(np.float32)
        ids, labels = rng.integers(0, 9, BATCH).astype(np.int32), rng.integers(0, 5, BATCH).astype(np.int32)
        if case == "overflow" and number in (4, 6):
            images[0] = np.inf  # the part of rank 0
        own = slice(rank * BATCH // ranks, (rank + 1) * BATCH // ranks)
        step(Tensor(images[own]), Tensor(ids[own]), Tensor(labels[own]))
    state = {f"weight.{p.name}": p.asnumpy() for p in optimizer.weights}
    state.update({f"inverse.{layer}.{role}": blocks for layer, roles in optimizer.inverses().items()
                  for role, blocks in roles.items()})
    state["steps"] = optimizer.global_step.asnumpy()
    state["refreshes"] = np.array([row.refreshes for row in optimizer.curvature_report()])
    return state


def main(output: str, ranks: int, cases: list[str]) -> None:
    rank = 0
    ms.set_context(mode=ms.GRAPH_MODE)
    if ranks > 1:
        from mindspore.communication import get_rank, init

        ms.set_device("CPU")
        init()
        rank = get_rank()
        ms.set_auto_parallel_context(parallel_mode=ms.ParallelMode.DATA_PARALLEL)
    for case in cases:
        np.savez(Path(output) / f"{case}_{ranks}_{rank}.npz", **train(case, rank, ranks))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3:])
