"""What each rank of the two-process tests runs: ``tests/helpers/rank_program.py OUTPUT CASE...``."""
from __future__ import annotations

import sys
from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn

from thor import THOR
from thor.convert import wrap_train_cell
from thor.curvature import TracePolicy
from thor.train import make_train_step

BATCH, STEPS = 8, 20
CASES = {
    "data": {},
    "hybrid": {"share_inverses": True, "split_indices": (0, 1)},  # in a train cell of a user's
    "trace": {"update": lambda: TracePolicy(4, 0.05), "share_inverses": True},
    "overflow": {},  # with gradients that are summed
    "unequal": {},  # six samples and two: of two ranks, or micro-batches
}
SMALL = ("overflow", "unequal")  # what they are about needs no particular layers


class Network(nn.Cell):
    """A convolution, an embedding, LayerNorm and a Dense layer of 145 columns in two blocks."""

    def __init__(self):
        super().__init__()
        rng = np.random.default_rng(0)

        def weight(*shape):
            return Tensor(0.3 * rng.standard_normal(shape).astype(np.float32))

        self.conv = nn.Conv2d(1, 4, 3, weight_init=weight(4, 1, 3, 3))
        self.table = nn.Embedding(9, 1, embedding_table=weight(9, 1))
        self.norm = nn.LayerNorm((145,))
        self.last = nn.Dense(145, 5, weight_init=weight(5, 145), bias_init="zeros")
        self.loss = nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean")

    def construct(self, images, ids, labels):
        maps = self.conv(images)
        rows = ms.ops.concat((maps.reshape(maps.shape[0], -1), self.table(ids).reshape(-1, 1)), 1)
        return self.loss(self.last(self.norm(rows)), labels)


class Pair(nn.Cell):
    """A convolution and a Dense layer, for a policy to choose among; numbers to embed are not looked at."""

    def __init__(self):
        super().__init__()
        rng = np.random.default_rng(0)
        conv, last = (Tensor(0.3 * rng.standard_normal(shape).astype(np.float32)) for shape in ((4, 1, 3, 3), (5, 144)))
        self.conv = nn.Conv2d(1, 4, 3, weight_init=conv)
        self.last = nn.Dense(144, 5, weight_init=last, bias_init="zeros")
        self.loss = nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean")

    def construct(self, images, ids, labels):
        maps = self.conv(images)
        return self.loss(self.last(maps.reshape(maps.shape[0], -1)), labels)


class Small(nn.Cell):
    """A Dense layer; numbers to embed are not looked at."""

    def __init__(self):
        super().__init__()
        weight = 0.3 * np.random.default_rng(0).standard_normal((5, 36)).astype(np.float32)
        self.dense = nn.Dense(36, 5, weight_init=Tensor(weight), bias_init="zeros")
        self.loss = nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean")

    def construct(self, images, ids, labels):
        return self.loss(self.dense(images.reshape(images.shape[0], -1)), labels)


class Ready(nn.TrainOneStepCell):
    """A train cell as clients write their own, with the reducer MindSpore gave it."""

    def construct(self, *inputs):
        loss = self.network(*inputs)
        gradients = self.grad(self.network, self.weights)(*inputs, ms.ops.ones_like(loss))
        return ms.ops.depend(loss, self.optimizer(self.grad_reducer(gradients)))


def train(case: str, rank: int, ranks: int) -> dict[str, np.ndarray]:
    """Weights and inverses after 20 steps of a case on this rank's part of every batch.

    Gradients are averaged over ranks, or, in the case ``overflow``, summed at a learning rate smaller by their number.
    """
    options = {name: value() if callable(value) else value for name, value in CASES[case].items()}
    network = Small() if case in SMALL else Pair() if case == "trace" else Network()
    rate = 0.05 / ranks if case == "overflow" else 0.05
    if ranks > 1:
        ms.set_auto_parallel_context(gradients_mean=case != "overflow")
    optimizer = THOR(network, rate, 0.1, 0.9, batch_size=BATCH // ranks, frequency=4, split_dim=128, **options)
    manager = ms.amp.DynamicLossScaleManager(64.0, 2, 1000) if case == "overflow" else None
    if case == "hybrid":
        step = wrap_train_cell(Ready(network, optimizer), optimizer)
    else:
        step = make_train_step(network, optimizer, manager, 2 if case == "unequal" and ranks == 1 else 1)
    rng = np.random.default_rng(5)
    for number in range(STEPS):
        images = rng.standard_normal((BATCH, 1, 6, 6)).astype(np.float32)
        ids, labels = rng.integers(0, 9, BATCH).astype(np.int32), rng.integers(0, 5, BATCH).astype(np.int32)
        if case == "overflow" and number in (4, 6):
            images[0] = np.inf  # the part of rank 0
        parts = [slice(rank * BATCH // ranks, (rank + 1) * BATCH // ranks)]
        if case == "unequal":
            parts = [slice(0, 6), slice(6, 8)] if ranks == 1 else [slice(0, 6) if rank == 0 else slice(6, 8)]
        for own in parts:
            step(Tensor(images[own]), Tensor(ids[own]), Tensor(labels[own]))
    state = {f"weight.{p.name}": p.asnumpy() for p in optimizer.weights}
    state.update({f"inverse.{layer}.{role}": blocks for layer, roles in optimizer.inverses().items()
                  for role, blocks in roles.items()})
    state["steps"] = optimizer.global_step.asnumpy()
    state["refreshes"] = np.array([row.refreshes for row in optimizer.curvature_report()])
    return state


def main(output: str, cases: list[str]) -> None:
    from mindspore.communication import get_group_size, get_rank, init

    ms.set_context(mode=ms.GRAPH_MODE)
    ms.set_device("CPU")
    init()
    ms.set_auto_parallel_context(parallel_mode=ms.ParallelMode.DATA_PARALLEL)
    for case in cases:
        np.savez(Path(output) / f"{case}_{get_rank()}.npz", **train(case, get_rank(), get_group_size()))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
