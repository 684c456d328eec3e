"""What a refresh of some of the layers costs beside one of all: ``step_time --refresh-layers N``."""
from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks import common, workload
from benchmarks.floor import floor_seconds, network_floor


def measure(work: workload.Work, count: int, warmup: int, repeats: int) -> dict[str, Any]:
    """Stale steps, refreshes of ``count`` layers evenly spread, and of all, in turn; one THOR, one graph."""
    from thor.curvature import UpdatePolicy

    class Held(UpdatePolicy):
        """Refreshes the layers whose gates are open, and leaves the gates as they are."""

        gated = True

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
    sides = {"stale": refresh_of(step, batch, None), "some": refresh_of(step, batch, chosen),
             "all": refresh_of(step, batch, range(len(layers)))}
    seconds = common.measure_in_turn(sides, warmup, repeats)
    rates = {"matrix_product_flops": common.matrix_product_rate(), "copy_bytes": common.copy_rate()}

    def floor_of(places) -> float:
        floor = floor_seconds(network_floor([layers[i] for i in places], work.split_dim), *rates.values())
        return floor["refresh"] - floor["stale"]

    some, whole = seconds["some"] - seconds["stale"], seconds["all"] - seconds["stale"]
    return {"layers": len(layers), "refreshed": chosen, "share_of_layers": count / len(layers),
            "share_of_floor": floor_of(chosen) / floor_of(range(len(layers))),
            "partial_share": common.ratio(some, whole), "rates": rates, "work": vars(work), "warmup": warmup,
            "repeats": repeats, "machine": common.machine(),
            "seconds": {name: list(values) for name, values in seconds.items()}}


def refresh_of(step: Any, batch: tuple, places: Any):
    """A call of the train step that refreshes the layers at ``places``; None is a stale step."""
    from mindspore import Tensor, ops

    optimizer = step.optimizer
    at = Tensor([0 if places is not None else 1], optimizer.global_step.dtype)
    gates = optimizer.refresh_blocks.choice.gates
    rows = gates.asnumpy().copy()
    rows[:, :2] = 0.0
    rows[list(places or ()), :2] = 1.0
    rows = Tensor(rows)

    def call():
        ops.assign(optimizer.global_step, at)
        ops.assign(gates, rows)
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
        f"cost of refreshing some to that of all {common.spread(numbers['partial_share'])}; share of the layers "
        f"{numbers['share_of_layers']:.3f}, of the work {numbers['share_of_floor']:.3f}"])
