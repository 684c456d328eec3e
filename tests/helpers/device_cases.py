"""What is compiled for each device: train steps of small networks, of every optimizer, of shipped configurations."""
from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops
from mindspore.amp import DynamicLossScaleManager, FixedLossScaleManager

import models.resnet.network as resnet
from models.config import load_config
from models.config.companions import OPTIMIZERS, SECOND_ORDER
from models.devicecheck.graphs import graphs_of
from models.devicecheck.job import compile_config
from models.optimizers import create_loss_scale_manager, create_optimizer
from tests.helpers import CONFIGS
from tests.helpers.device_networks import (
    BATCH,
    WIDTH,
    Images,
    Rows,
    Words,
    images_batch,
    loss_fn,
    rows_batch,
    words_batch,
)
from tests.helpers.train_cells import OwnScale
from thor import THOR
from thor.convert import mixed_precision_network, wrap_train_cell
from thor.curvature import FrobeniusPolicy, TracePolicy, UpdatePolicy
from thor.train import make_train_step

RANK, RANKS = 3, 8
ONE_SIZE = ("--optimizer.split_dim", "8")  # of all blocks, so that they are inverted once
SMALL_RESNET = (*ONE_SIZE, "--model.base_width", "4", "--data.image_size", "32", "--data.batch_size", "2")
SMALL_BERT = (*ONE_SIZE, "--model.bert.layers", "1", "--model.bert.hidden_size", "16", "--model.bert.heads", "2",
              "--model.bert.intermediate_size", "32", "--model.bert.vocab_size", "50", "--data.batch_size", "2")
SMALL_GPT = tuple(word.replace(".bert.", ".gpt.") for word in SMALL_BERT)


@dataclasses.dataclass(frozen=True)
class Case:
    """Something that is compiled.

    Attributes:
        name: in the names of tests.
        compile: compiles one of its graphs on a device that was not used before; the device's number.
        graphs: names of its graphs.
        device_id: the device it has to run on.
        fails: the operator that has no kernel, "" where everything compiles.
    """

    name: str
    compile: Callable[[str], int]
    graphs: tuple[str, ...]
    device_id: int = 0
    fails: str = ""


def cases(target: str) -> list[Case]:
    """The cases of GPU or Ascend."""
    made = [*policies(target), *optimizers(target), *shipped(target), missing_kernel(target)]
    return [*made, ready_cell(target), rank()] if target == "Ascend" else made


def policies(target: str) -> list[Case]:
    """Every kind of layer and policy, groups, loss scales, accumulation, and levels of mixed precision.

    The sink graph holds the other two, and takes twice as long: one target compiles it of each. What the others need by
    themselves, shipped configurations show.
    """
    sink, second_order = ("sink",), ("second_order",)
    level = "O0" if target == "GPU" else "O3"  # ResNet-50 measures half precision on GPU
    blocks = {"batchnorm_blocks": True, "fold_bias": True, "pi_correction": True, "running_average": 0.5}
    return [
        custom(target, f"images, growing policy, groups, {level}", Images, images_batch, level,
               graphs=sink if target == "GPU" else second_order, update=UpdatePolicy(((0, 2), (4, 3))), groups=[
                   {"params": ["norm.gamma", "norm.beta"], "lr": [0.1, 0.2], "weight_decay": 0.0},
                   {"params": ["pointwise.weight"], "lr": 0.3, "weight_decay": [0.1, 0.2]}],
               graft="sgd", kl_clip=0.001, **blocks),
        custom(target, "words, trace policy, O2, dynamic scale", Words, words_batch, "O2",
               DynamicLossScaleManager(2.0 ** 10), graphs=sink if target == "Ascend" else second_order,
               update=TracePolicy(2), rule="normalized" if target == "GPU" else "orthogonal"),
        custom(target, "rows, frobenius policy, O3, fixed scale, accumulated", Rows, rows_batch, "O3",
               FixedLossScaleManager(128.0, drop_overflow_update=True), 2,
               graphs=second_order if target == "GPU" else ("stale", "sink"), update=FrobeniusPolicy(1),
               enable_clip_grad=True, use_nesterov=True, clip_norm=1.0, relative_damping=True),
    ]


def use(target: str) -> None:
    """The first device, and whole graphs: operator by operator is the default of MindSpore 2.7.

    On a host of few cores MindSpore refuses graphs that branch on Ascend, unless it has five threads (docs/devices.md).
    """
    ms.set_device(target, 0)
    if target == "Ascend":
        ms.runtime.dispatch_threads_num(5)
    ms.set_context(mode=ms.GRAPH_MODE)


def custom(target: str, name: str, network: type, batch: Callable[[], tuple], level: str = "O0", manager: Any = None,
           accumulate_steps: int = 1, *, graphs: tuple[str, ...], **options: Any) -> Case:
    """THOR on a network of the tests."""
    def compile_graph(graph: str) -> int:
        use(target)
        net = network()
        optimizer = THOR(net, 0.02, 0.1, 0.9, 1e-4, batch_size=BATCH, split_dim=WIDTH, **{"frequency": 2, **options})
        mixed = mixed_precision_network(net, loss_fn(), optimizer, level, None)
        graphs_of(make_train_step(mixed, optimizer, manager, accumulate_steps))[graph](batch())
        return ms.get_context("device_id")
    return Case(name, compile_graph, graphs)


def ready_cell(target: str) -> Case:
    """A train cell of the user's that changes the scale of its loss."""
    def compile_graph(graph: str) -> int:
        use(target)
        net = Rows()
        optimizer = THOR(net, 0.02, 0.1, 0.9, batch_size=BATCH, split_dim=WIDTH)
        cell = OwnScale(nn.WithLossCell(net, loss_fn()), optimizer)
        graphs_of(wrap_train_cell(cell, optimizer))[graph](rows_batch())
        return ms.get_context("device_id")
    return Case("rows, ready train cell", compile_graph, ("second_order",))


def optimizers(target: str) -> list[Case]:
    """Every first-order optimizer of the zoo; kfac and spngd are settings of THOR, see policies.

    With groups they need no other operators, and lookahead(thor) needs those of ranger and THOR: one target compiles
    those.
    """
    firsts = [name for name in OPTIMIZERS if name not in SECOND_ORDER]
    groups = ("--optimizer.groups", "[{match: bias, lr_factor: 2, weight_decay: 0}, {match: gamma, lr_factor: 3}]")
    plain = [optimizer_case(target, name) for name in firsts]
    if target == "Ascend":
        return [*plain, optimizer_case(target, "lookahead(thor)")]
    return [*plain, *(optimizer_case(target, name, *groups) for name in ("radam", "heun", "dcasgd"))]


def optimizer_case(target: str, name: str, *overrides: str) -> Case:
    """The sink graph of an optimizer of models.optimizers on a Dense layer and a BatchNorm."""
    def compile_graph(graph: str) -> int:
        use(target)
        net = Rows()
        config = load_config(None, ["--optimizer.name", name, "--data.batch_size", str(BATCH),
                                    "--optimizer.weight_decay", "1e-4", "--optimizer.clip_norm", "1", *overrides])
        optimizer = create_optimizer(config, net, 10)
        step = make_train_step(nn.WithLossCell(net, loss_fn()), optimizer, create_loss_scale_manager(config))
        graphs_of(step)[graph](rows_batch())
        return ms.get_context("device_id")
    return Case(f"optimizer {name}{' with groups' * bool(overrides)}", compile_graph, ("sink",))


def shipped(target: str) -> list[Case]:
    """Shipped configurations, with fewer and narrower layers.

    Ascend compiles the second-order graph of BERT-base, GPU that of ResNet-50; what else there is to measure, policies
    have. NEZHA's curvature is that of BERT-base. GPT's, whose layers are fused, is compiled for both.
    """
    device, second_order, stale = target.lower(), ("second_order",), ("stale",)
    gpt = "gpt/gpt2_small_ascend_8p.yaml" if target == "Ascend" else "gpt/gpt2_small.yaml"
    return [
        configured("ResNet-50 of ImageNet", f"resnet/resnet50_imagenet_{device}_1p.yaml", "--optimizer.split_indices",
                   "null", *SMALL_RESNET, graphs=second_order if target == "GPU" else stale),
        configured("BERT-base", f"bert/bert_base_{device}_8p.yaml", "--optimizer.split_indices", "null",
                   "--parallel.device_num", "1", *SMALL_BERT, graphs=stale if target == "GPU" else second_order),
        configured("NEZHA, fast_gelu", f"bert/bert_nezha_{device}_8p.yaml", "--parallel.device_num", "1",
                   "--model.bert.activation", "fast_gelu", "--train.amp_level", "O2", *SMALL_BERT, graphs=stale),
        configured("GPT-2", gpt, "--device.target", target, "--optimizer.split_indices", "null",
                   "--parallel.device_num", "1", "--train.amp_level", "O2", *SMALL_GPT, graphs=second_order),
    ]


def configured(name: str, path: str, *overrides: str, graphs: tuple[str, ...], device_id: int = 0) -> Case:
    """Graphs of a shipped configuration; its ResNet-50 has one bottleneck block instead of sixteen."""
    def compile_graph(graph: str) -> int:
        resnet.DEPTHS[50] = (resnet.Bottleneck, (1,))
        return compile_config(load_config(CONFIGS / path, overrides), graph, sequence=16, masked=4)
    return Case(name, compile_graph, graphs, device_id)


def rank() -> Case:
    """One of eight ranks on Ascend that share the inverses; where they do not, the rest of this is compiled."""
    case = configured(f"rank {RANK} of {RANKS}, hybrid", "resnet/resnet18_digits.yaml", "--model.name", "plain",
                      "--device.target", "Ascend", "--parallel.device_num", str(RANKS), "--parallel.curvature",
                      "hybrid", *ONE_SIZE, "--data.batch_size", "2", graphs=("second_order",), device_id=RANK)
    return dataclasses.replace(case, compile=as_rank(case.compile))


def as_rank(compile_graph: Callable[[str], int]) -> Callable[[str], int]:
    """``compile_graph`` in a process that is one of several."""
    def compile_as_rank(graph: str) -> int:
        os.environ.update(RANK_ID=str(RANK), DEVICE_ID=str(RANK), RANK_SIZE=str(RANKS), MS_WORKER_NUM=str(RANKS))
        return compile_graph(graph)
    return compile_as_rank


class Missing(nn.Cell):
    """An operator the target has no kernel for."""

    def __init__(self, target: str):
        super().__init__()
        self.operator = ops.BatchMatMul() if target == "GPU" else ops.operations.Cholesky()
        self.inputs = 2 if target == "GPU" else 1

    def construct(self, x):
        return self.operator(x, x) if self.inputs == 2 else self.operator(x[0])


def missing_kernel(target: str) -> Case:
    """Products of bfloat16 on GPU, Cholesky factors on Ascend: a check that the check can see."""
    def compile_graph(graph: str) -> int:
        use(target)
        Missing(target).compile(Tensor(np.ones((2, 4, 4)), ms.bfloat16 if target == "GPU" else ms.float32))
        return ms.get_context("device_id")
    return Case("missing kernel", compile_graph, ("step",), fails="BatchMatMul" if target == "GPU" else "Cholesky")
