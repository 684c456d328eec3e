"""Stale and refresh steps of THOR against momentum's step: one process, the same network, data and update.

``python -m benchmarks.step_time --model resnet50 --image-size 64 --batch-size 32 --json step_time.json``
``python -m benchmarks.step_time --model resnet50 --refresh-layers 10``
"""
from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any

from benchmarks import common, partial, workload
from models.turns import measure_in_turn, step_at


def main(words: Sequence[str] | None = None) -> int:
    """Measure as the command line says; the exit status."""
    made = common.parser("step_time", "Stale and refresh steps of THOR against momentum's step.")
    workload.add_work(made)
    common.add_timing(made, warmup=7, repeats=11)
    made.add_argument("--refresh-layers", type=common.at_least(1), metavar="N",
                      help="instead: what a refresh of N layers costs beside one of all")
    options = made.parse_args(words)

    work = workload.chosen_work(options)
    if options.refresh_layers:
        return common.run_measurement(
            lambda: partial.measure(work, options.refresh_layers, options.warmup, options.repeats), partial.report,
            options.json)
    return common.run_measurement(lambda: measure(work, options.warmup, options.repeats), report, options.json)


def measure(work: workload.Work, warmup: int, repeats: int) -> dict[str, Any]:
    """Build both sides with equal weights, compile, time in turn; all numbers."""
    from models.planner.work import floor_seconds, network_floor

    first_order, second_order = workload.create_network(work), workload.create_network(work)
    workload.copy_weights(first_order, second_order)
    rows = workload.data_rows(second_order, work)
    batch = work.kind.create_batch(work)
    workload.compile_something()
    momentum = workload.create_momentum_step(first_order, work)
    thor = workload.create_thor_step(second_order, work)
    sides = {"momentum": step_at(momentum, momentum.optimizer, batch),
             "stale": step_at(thor, thor.optimizer, batch, 1),
             "refresh": step_at(thor, thor.optimizer, batch, 0)}
    first = {name: seconds_of(call) for name, call in sides.items()}
    seconds = measure_in_turn(sides, warmup, repeats)
    layers = workload.layer_work(thor.optimizer.registration, rows)
    rates = {"matrix_product_flops": common.matrix_product_rate(), "copy_bytes": common.copy_rate()}
    floor = network_floor(layers, work.split_dim)
    return {**summary(seconds, work.frequency), **compile_summary(first, seconds), "work": vars(work),
            "warmup": warmup, "repeats": repeats, "machine": common.machine(), "rates": rates,
            "floor": vars(floor), "floor_s": floor_seconds(floor, *rates.values()),
            "seconds": {name: list(values) for name, values in seconds.items()}}


def seconds_of(call) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def summary(seconds: dict, frequency: int) -> dict[str, Any]:
    """Medians in seconds, ratios to momentum and their quartiles."""
    momentum, stale, refresh = seconds["momentum"], seconds["stale"], seconds["refresh"]
    sides = {"stale": stale, "refresh": refresh, "amortised": common.amortised(stale, refresh, frequency)}
    numbers = {f"{name}_s": float(sorted(values)[len(values) // 2]) for name, values in
               {"momentum": momentum, **sides}.items()}
    for name, values in sides.items():
        result = common.ratio(values, momentum)
        numbers[f"{name}_ratio"] = result["ratio"]
        numbers[f"{name}_ratio_quartiles"] = [result["low"], result["high"]]
    return numbers


def compile_summary(first: dict[str, float], seconds: dict) -> dict[str, float]:
    """First calls without the step in them: what compiling costs, and its ratio to momentum's."""
    compiled = {name: max(first[name] - float(min(seconds[name])), 1e-9) for name in first}
    return {"momentum_first_s": first["momentum"], "stale_first_s": first["stale"],
            "refresh_first_s": first["refresh"], **{f"{name}_compile_s": s for name, s in compiled.items()},
            "compile_ratio": (compiled["stale"] + compiled["refresh"]) / compiled["momentum"],
            "first_ratio": (first["stale"] + first["refresh"]) / first["momentum"]}


def report(numbers: dict[str, Any]) -> str:
    """The tables to print."""
    work, rates = numbers["work"], numbers["rates"]
    momentum, floor = numbers["momentum_s"], numbers["floor_s"]
    floors = {**{name: 1 + floor[name] / momentum for name in ("stale", "refresh")}}
    floors["amortised"] = common.amortised(floors["stale"], floors["refresh"], work["frequency"])
    rows = [("step", "seconds", "ratio to momentum (quartiles)", "floor of the ratio"),
            ("momentum", f"{momentum:.4f}", "1", "")]
    for name in ("stale", "refresh", "amortised"):
        low, high = numbers[f"{name}_ratio_quartiles"]
        result = {"ratio": numbers[f"{name}_ratio"], "low": low, "high": high}
        rows.append((name, f"{numbers[f'{name}_s']:.4f}", common.spread(result), f"{floors[name]:.3f}"))
    extra_stale = numbers["stale_s"] - momentum
    extra_refresh = numbers["refresh_s"] - numbers["stale_s"]
    counts = numbers["floor"]
    parts = [("extra work", "amount", "floor s", "measured s"),
             ("preconditioning", f"{counts['precondition_flop'] / 1e9:.2f} GFLOP",
              f"{floor['precondition']:.4f}", f"{extra_stale:.4f}  stale - momentum"),
             ("covariances", f"{counts['covariance_flop'] / 1e9:.2f} GFLOP",
              f"{floor['covariance']:.4f}", ""),
             ("im2col", f"{counts['im2col_bytes'] / 1e9:.3f} GB", f"{floor['im2col']:.4f}", ""),
             ("inverses", f"{counts['inverse_flop'] / 1e9:.2f} GFLOP", f"{floor['inverse']:.4f}", ""),
             ("these three", "", f"{floor['refresh'] - floor['stale']:.4f}",
              f"{extra_refresh:.4f}  refresh - stale")]
    compiles = ", ".join(f"{name} {numbers[f'{name}_compile_s']:.1f} s"
                         for name in ("momentum", "stale", "refresh"))
    return "\n".join([
        f"{workload.Work(**work).describe()}, batch {work['batch_size']}, split {work['split_dim']}, frequency "
        f"{work['frequency']}; {numbers['repeats']} rounds in turn after {numbers['warmup']}",
        common.describe(numbers["machine"]),
        f"matrix product {rates['matrix_product_flops'] / 1e9:.0f} GFLOP/s, "
        f"copy {rates['copy_bytes'] / 1e9:.1f} GB/s",
        "", common.table(rows), "", common.table(parts), "",
        f"compile: {compiles}; both graphs of THOR to momentum's {numbers['compile_ratio']:.2f} "
        f"(first calls whole {numbers['first_ratio']:.2f})"])


if __name__ == "__main__":
    sys.exit(main())
