"""What a refresh of some of the layers costs beside one of all: ``step_time --refresh-layers N``."""
from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks import common, workload
from models.turns import measure_in_turn


def measure(work: workload.Work, count: int, warmup: int, repeats: int) -> dict[str, Any]:
    """Stale steps, refreshes of ``count`` layers evenly spread, and of all, in turn; one THOR, one graph.

    The other layers are stopped (their gates are closed) or kept (their traces are measured, and found unchanged).
    """
    from models.planner.work import floor_seconds, network_floor
    from thor.curvature import UpdatePolicy

    class Held(UpdatePolicy):
        """Refreshes the layers whose gates are open, and leaves the gates as they are."""

        gated = True
        traced = True

        def select(self, opened, change, distance, earlier_distance):
            return opened, opened

    network = workload.create_network(work)
    rows = workload.data_rows(network, work)
    batch = work.kind.create_batch(work)
    step = workload.create_thor_step(network, work, Held(work.frequency))
    layers = workload.layer_work(step.optimizer.registration, rows)
    if count > len(layers):
        raise common.BenchmarkError(f"--refresh-layers={count}; must be at most {len(layers)}, all layers of "
                                    f"{work.describe()}")
    chosen = np.linspace(0, len(layers) - 1, count).round().astype(int).tolist()
    every = range(len(layers))
    sides = {"stale": _refresh_of(step, batch, None), "some, others stopped": _refresh_of(step, batch, chosen),
             "some, others kept": _refresh_of(step, batch, chosen, keep=True), "all": _refresh_of(step, batch, every)}
    seconds = measure_in_turn(sides, warmup, repeats)
    rates = {"matrix_product_flops": common.matrix_product_rate(), "copy_bytes": common.copy_rate()}

    def floor_of(places) -> float:
        floor = floor_seconds(network_floor([layers[i] for i in places], work.split_dim), *rates.values())
        return floor["refresh"] - floor["stale"]

    over = {name: seconds[name] - seconds["stale"] for name in seconds if name != "stale"}
    return {"layers": len(layers), "refreshed": chosen, "share_of_layers": count / len(layers),
            "share_of_floor": floor_of(chosen) / floor_of(every),
            "partial_share": common.ratio(over["some, others stopped"], over["all"]),
            "partial_share_kept": common.ratio(over["some, others kept"], over["all"]), "rates": rates,
            "work": vars(work), "warmup": warmup, "repeats": repeats, "machine": common.machine(),
            "seconds": {name: list(values) for name, values in seconds.items()}}


def _refresh_of(step: Any, batch: tuple, places: Any, keep: bool = False):
    """A call of the train step that refreshes the layers at ``places``; None is a stale step.

    Args:
        keep: the other layers are kept for what their traces are, instead of stopped.
    """
    from mindspore import Tensor, ops

    optimizer = step.optimizer
    at = Tensor([0 if places is not None else 1], optimizer.global_step.dtype)
    layers = [layer.name for layer in optimizer.registration.layers if layer.has_kronecker_factors]
    chosen = [layers[place] for place in places or ()]

    def call():
        ops.assign(optimizer.global_step, at)
        optimizer.curvature.choice.open_only(chosen, others_kept=keep)
        return step(*batch).asnumpy()
    return call


def report(numbers: dict[str, Any]) -> str:
    """The table to print."""
    work = workload.Work(**numbers["work"])
    medians = {name: float(np.median(values)) for name, values in numbers["seconds"].items()}
    rows = [("step", "seconds", "over stale")]
    rows += [(name, f"{value:.4f}", f"{value - medians['stale']:.4f}") for name, value in medians.items()]
    return "\n".join([
        f"{work.describe()}, batch {work.batch_size}, split {work.split_dim}; {len(numbers['refreshed'])} of "
        f"{numbers['layers']} layers refreshed; {numbers['repeats']} rounds in turn after {numbers['warmup']}",
        common.describe(numbers["machine"]), "", common.table(rows), "",
        f"cost of refreshing some to that of all: {common.spread(numbers['partial_share'])} where the others are "
        f"stopped, {common.spread(numbers['partial_share_kept'])} where they are kept for their traces; share of the "
        f"layers {numbers['share_of_layers']:.3f}, of the work {numbers['share_of_floor']:.3f}"])
