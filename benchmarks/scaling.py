"""The same steps on one process and on two, each pinned to a core, beside the planner's prediction.

``python -m benchmarks.scaling --json scaling.json [--config CONFIG] [--batch-size 64] [--section.key value ...]``

One process trains on the whole batch, two on half of it each, in both modes of curvature. The profile for the
prediction is measured in the same run: rates by one process with half the batch, the link by all-reduces of the two.
Data are random.

Bytes a refresh sends: factors travel as the triangles of their blocks before they are inverted. MindSpore's own THOR
all-reduces the inverses as whole matrices: ``4 (a^2 + g^2)`` bytes a layer with factors of a and g rows (an embedding:
``4 (vocabulary + width^2)``), which its devices pad further; on a ring of R each device sends ``2 (R - 1) / R`` of it.
"""
from __future__ import annotations

import argparse
import dataclasses
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    sys.path[0] = str(ROOT)  # msrun starts this file, not the module

from benchmarks import common, zoo_runs  # noqa: E402

RANKS = 2
CONFIG = ROOT / "configs" / "resnet" / "resnet18_fashion_mnist.yaml"
WARMUP, REPEATS = 3, 11
TIMEOUT = 1200  # seconds
STEPS = ("first_order", "stale", "refresh")
MODES = {"data": STEPS, "hybrid": ("refresh",)}  # what differs between them


def main(words: Sequence[str] | None = None) -> int:
    """Measure as the command line says; the exit status."""
    made = create_parser()
    options, overrides = made.parse_known_args(words)
    if options.batch_size % RANKS:
        made.error(f"--batch-size={options.batch_size}; must be even, half a process; use {options.batch_size + 1}")
    if options.as_rank:
        _run_rank(options, overrides)
        return 0
    return common.run_measurement(lambda: measure(options, overrides), report, options.json)


def create_parser() -> argparse.ArgumentParser:
    """The options; all others belong to the configuration."""
    made = common.parser("scaling", "One process and two, each pinned to a core, beside the planner's prediction.")
    made.add_argument("--config", default=str(CONFIG), help="network and settings; its data are not needed")
    made.add_argument("--batch-size", type=common.at_least(2), default=64, help="samples a step over all processes")
    made.add_argument("--warmup", type=common.at_least(1), default=WARMUP, help="calls a step that are discarded")
    made.add_argument("--repeats", type=common.at_least(1), default=REPEATS, help="calls a step that are timed")
    made.add_argument("--profile", metavar="FILE", help="also write the measured profile there")
    made.add_argument("--as-rank", metavar="FOLDER", help=argparse.SUPPRESS)
    return made


def measure(options: argparse.Namespace, overrides: Sequence[str]) -> dict[str, Any]:
    """Run one process, then two; all numbers."""
    if options.profile and not Path(options.profile).absolute().parent.is_dir():
        raise common.BenchmarkError(f"--profile={options.profile}; its folder does not exist; create it or choose "
                                    "another file")
    config = zoo_runs.load(options.config, overrides)
    if not config.optimizer.second_order:
        raise common.BenchmarkError(f"optimizer.name={config.optimizer.name!r}; must be thor, thor_robust, kfac or "
                                    "spngd; choose another --config")
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < RANKS:
        raise common.BenchmarkError(f"{len(cores)} core is free for {RANKS} processes; must be at least {RANKS}; run "
                                    "it where there are more")
    with tempfile.TemporaryDirectory() as folder:
        words = [str(ROOT / "benchmarks" / "scaling.py"), *own_words(options), "--as-rank", folder, *overrides]
        start([sys.executable, *words], folder, cores)
        launcher = [str(Path(sys.executable).with_name("msrun")), f"--worker_num={RANKS}",
                    f"--local_worker_num={RANKS}", f"--master_port={free_port()}", "--join=True", "--log_dir=logs"]
        start([*launcher, *words], folder, cores)
        one, two = (json.loads((Path(folder) / f"{count}_0.json").read_text()) for count in (1, RANKS))
    numbers = {"one": one, "two": two, "batch_size": options.batch_size, "config": str(options.config),
               "machine": common.machine(), "warmup": options.warmup, "repeats": options.repeats}
    return {**numbers, **predict(options, config, one, two)}


def own_words(options: argparse.Namespace) -> list[str]:
    """What a rank must know of the command line."""
    return ["--config", str(Path(options.config).absolute()), "--batch-size", str(options.batch_size), "--warmup",
            str(options.warmup), "--repeats", str(options.repeats)]


def start(command: list[str], folder: str, cores: list[int]) -> None:
    """Run a command to its end; its last lines are the error if it fails."""
    found_first = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"  # msrun calls "python"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": found_first, "GLOG_v": "4",
                   "SCALING_CORES": ",".join(map(str, cores[:RANKS]))}
    try:
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        raise common.BenchmarkError(f"{Path(command[0]).name} has not ended after {TIMEOUT} s") from None
    if done.returncode:
        logs = [path.read_text(errors="replace") for path in sorted((Path(folder) / "logs").glob("worker_*.log"))]
        lines = (done.stderr + "".join(logs)).splitlines()
        told = [line for line in lines if "Error: " in line] or lines[-5:]
        raise common.BenchmarkError(f"{Path(command[0]).name} failed: {told[-1] if told else 'without a word'}")


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def _run_rank(options: argparse.Namespace, overrides: Sequence[str]) -> None:
    """What each process does: pin itself, time its steps, write them to ``options.as_rank``."""
    cores = [int(core) for core in os.environ["SCALING_CORES"].split(",")]
    os.sched_setaffinity(0, {cores[int(os.environ.get("RANK_ID", "0"))]})  # before MindSpore counts the cores
    from models.planner import measure as planner
    from models.ranks import started
    from models.session import start

    config = zoo_runs.load(options.config, overrides)
    parallel = dataclasses.replace(config.parallel, device_num=started(), all_reduce_fusion_config=None)
    ranks = start(dataclasses.replace(config, parallel=parallel))
    numbers: dict[str, Any] = {}
    if ranks.count == 1:
        whole, half = (at_batch(config, options.batch_size // parts) for parts in (1, RANKS))
        numbers["data"] = _median_steps(whole, options, STEPS)
        numbers["half"] = _median_steps(half, options, (*STEPS, "inverse"))
        numbers["copy_bytes"] = planner.copy_rate()
    else:
        for mode, names in MODES.items():
            parallel = dataclasses.replace(config.parallel, curvature=mode)
            numbers[mode] = _median_steps(at_batch(dataclasses.replace(config, parallel=parallel),
                                                   options.batch_size // ranks.count), options, names)
        numbers["link"] = dataclasses.asdict(planner.measure_link(ranks.count))
    (Path(options.as_rank) / f"{ranks.count}_{ranks.rank}.json").write_text(json.dumps(numbers))


def at_batch(config: Any, batch_size: int) -> Any:
    """The configuration with another batch, on the CPU."""
    from models.planner.zoo import on_cpu

    return dataclasses.replace(on_cpu(config), data=dataclasses.replace(config.data, batch_size=batch_size))


def _median_steps(config: Any, options: argparse.Namespace, names: Sequence[str]) -> dict[str, float]:
    """Median seconds of some of :func:`models.planner.measure.step_calls`, called in turn."""
    from models.planner.measure import step_calls
    from models.turns import measure_in_turn

    sides = step_calls(config)
    times = measure_in_turn({name: sides[name] for name in names}, options.warmup, options.repeats)
    return {name: float(np.median(seconds)) for name, seconds in times.items()}


def predict(options: argparse.Namespace, config: Any, one: dict, two: dict) -> dict[str, Any]:
    """The profile of the run and what the planner makes of it."""
    from models.planner.measure import assumed, description, profile_of
    from models.planner.profile import dump_profile
    from models.planner.report import numbers
    from models.planner.report import report as planned
    from models.planner.search import make_plans
    from models.planner.zoo import job_of

    job = job_of(at_batch(config, options.batch_size // RANKS), Path(options.config).stem)
    profile = dataclasses.replace(
        profile_of(job, one["half"], one["copy_bytes"], assumed("CPU")), devices_per_node=RANKS,
        intra_node_latency=two["link"]["latency"], intra_node_bandwidth=two["link"]["bandwidth"],
        inter_node_latency=two["link"]["latency"], inter_node_bandwidth=two["link"]["bandwidth"],
        description=description(job, RANKS, cores=1))
    if options.profile:
        Path(options.profile).write_text(dump_profile(profile), encoding="utf-8")
    plans = [make_plans(job, profile, RANKS)]
    return {"planned": numbers(job, profile, plans), "planner_report": planned(job, profile, plans)}


def efficiency(one: dict[str, float], two: dict[str, float]) -> dict[str, float]:
    """Of each step that ``two`` has: the time of one process over that of all, a process."""
    return {name: one[name] / seconds / RANKS for name, seconds in two.items()}


def report(numbers: dict[str, Any]) -> str:
    """The tables to print."""
    one, two, batch = numbers["one"], numbers["two"], numbers["batch_size"]
    plans = {plan["mode"]: plan for plan in numbers["planned"]["plans"]}
    rows = [("step, ms", f"1 process, batch {batch}", f"{RANKS} processes, batch {batch // RANKS} each", "efficiency",
             "predicted", "predicted / measured")]
    for mode, names in MODES.items():
        shared = efficiency(one["data"], two[mode])
        for name in names:
            predicted = plans[mode]["step"][name]
            rows.append((f"{name.replace('_', ' ')}{f', {mode}' if name == 'refresh' else ''}",
                         f"{1e3 * one['data'][name]:.1f}", f"{1e3 * two[mode][name]:.1f}", f"{shared[name]:.2f}",
                         f"{1e3 * predicted:.1f}", f"{predicted / two[mode][name]:.2f}"))
    data, hybrid = (plans[mode]["traffic"] for mode in ("data", "hybrid"))
    whole = data["inverses whole, instead"]
    sent = [("a refresh sends, each process", "KiB", "of upstream's"),
            ("data: triangles of factors", f"{data['factors'] / 1024:.1f}", f"{data['factors'] / whole:.3f}"),
            ("hybrid: and inverses of owners", f"{(hybrid['factors'] + hybrid['inverses']) / 1024:.1f}",
             f"{(hybrid['factors'] + hybrid['inverses']) / whole:.3f}"),
            ("upstream: whole matrices of inverses", f"{whole / 1024:.1f}", "1")]
    link = two["link"]
    return "\n".join([
        common.describe(numbers["machine"]),
        f"{Path(numbers['config']).name}; medians of {numbers['repeats']} calls in turn after {numbers['warmup']}; "
        f"link alpha {1e6 * link['latency']:.0f} us, beta {link['bandwidth'] / 1e6:.0f} MB/s",
        "", common.table(rows), "", common.table(sent), "", numbers["planner_report"]])


if __name__ == "__main__":
    sys.exit(main())
