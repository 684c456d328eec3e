"""The command line of the self-check.

``python -m thor.selfcheck`` prints a table and exits with 0 if all is right, 1 if something is off, 2 if the device
cannot be used. It checks the operators of the device's backend in seconds. ``--train`` also trains a small network in
every graph, compiled and inside a data sink, and ends with a report of the machine. ``--ranks 2`` starts two processes,
one a device, and checks that they train as one; the devices must be there.
"""
from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from textwrap import shorten

import mindspore as ms

from thor.backends import Backend, create_backend
from thor.selfcheck.operators import Result, check_operators
from thor.selfcheck.report import describe_machine, format_rows
from thor.selfcheck.training import Trained, check_training

HINT = ("Errors near 1e-3 mean products in reduced precision (TF32, HF32, float16); switch it off with\n"
        "mindspore.device_context.gpu.op_precision.matmul_allow_tf32(False) or\n"
        "mindspore.device_context.ascend.op_precision.precision_mode('must_keep_origin_dtype')")
PORT = 8125


def main(arguments: list[str] | None = None, backend: Backend | None = None) -> int:
    """Command line; ``backend`` replaces the device's own. Returns the exit status."""
    options = parse(arguments)
    started = int(os.environ.get("MS_WORKER_NUM", "1"))  # by msrun
    if options.ranks > 1 and started == 1:
        return launch(options)
    reason = _choose_device(options.device, options.mode, started)
    if reason:
        print(reason, file=sys.stderr)
        return 2
    backend = backend or create_backend()
    precision = getattr(backend, "precision", "float32")
    print(f"MindSpore {ms.__version__}, device {ms.get_context('device_target')}, backend {backend.name}, "
          f"{precision} products, {options.mode} mode; errors are relative to float64 NumPy")
    off = count = 0
    if started == 1:
        results = check_operators(backend, precision)
        print(_format_table(results))
        off, count = sum(not result.ok for result in results), len(results)
    if options.train:
        runs = check_training(precision)
        print(_format_runs(runs))
        off, count = off + sum(not run.ok for run in runs), count + len(runs)
        print(format_rows(describe_machine(ms.get_context("device_target"))))
    print(f"{off} of {count} checks are off\n{HINT}" if off else f"all {count} checks passed")
    return 1 if off else 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line; several ranks always train."""
    parser = argparse.ArgumentParser(prog="python -m thor.selfcheck",
                                     description="Check a device against float64 NumPy.")
    parser.add_argument("--device", choices=("CPU", "GPU", "Ascend"),
                        help="default: MindSpore's present target")
    parser.add_argument("--mode", choices=("graph", "pynative"), default="graph", help="default: graph")
    parser.add_argument("--train", action="store_true", help="train a small network in every graph, too")
    parser.add_argument("--ranks", type=int, default=1, metavar="N", help="train on N devices; default: 1")
    options = parser.parse_args(arguments)
    if options.ranks not in (1, 2, 4, 8):
        parser.error(f"--ranks={options.ranks}; must be 1, 2, 4 or 8, which divide the batch; use 2")
    options.train = options.train or options.ranks > 1
    return options


def _choose_device(target: str | None, mode: str, started: int) -> str:
    """Set device and mode, then meet the other ranks; one line where the device cannot be used, else ""."""
    place = os.environ.get("DEVICE_ID", "") if started > 1 and target != "CPU" else ""  # msrun's, on this machine
    if target and (target != ms.get_context("device_target") or place):
        try:
            ms.set_device(target, *([int(place)] if place else []))
        except (RuntimeError, ValueError) as error:
            reason = shorten(str(error).split(". ")[0], 120)
            return (f"--device={target}; must be a device MindSpore {ms.__version__} can use here ({reason}); "
                    "use --device CPU or install its driver and MindSpore")
    ms.set_context(mode=ms.GRAPH_MODE if mode == "graph" else ms.PYNATIVE_MODE)
    if ms.get_context("device_target") == "GPU":
        ms.device_context.gpu.op_precision.conv_allow_tf32(False)  # on by default, and keeps 10 bits of a product
    if started > 1:
        from mindspore.communication import init

        init()
        ms.set_auto_parallel_context(parallel_mode=ms.ParallelMode.DATA_PARALLEL, gradients_mean=True)
    return ""


def launch(options: argparse.Namespace) -> int:
    """Start the ranks with msrun and show the first one's output; the exit status."""
    binaries = Path(sys.executable).parent
    program = Path(__file__).with_name("__main__.py")
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PATH": f"{binaries}:{os.environ.get('PATH', '')}",
                   "PYTHONPATH": f"{root}:{os.environ.get('PYTHONPATH', '')}"}
    words = ["--train", "--mode", options.mode, "--ranks", str(options.ranks)]
    words += ["--device", options.device] if options.device else []
    with tempfile.TemporaryDirectory() as logs:
        command = [str(binaries / "msrun"), f"--worker_num={options.ranks}", f"--local_worker_num={options.ranks}",
                   f"--master_port={PORT}", "--join=True", f"--log_dir={logs}", str(program), *words]
        status = subprocess.run(command, env=environment, cwd=logs, capture_output=True, check=False).returncode
        first = Path(logs) / "worker_0.log"
        print(first.read_text(encoding="utf-8") if first.exists() else f"msrun started nothing, status {status}")
    return status


def _format_table(results: list[Result]) -> str:
    """Operators, one a line."""
    width = max(len(result.case.shape) for result in results)
    lines = [f"{'operator':21}  {'shape':{width}}  {'error':>8}  {'bound':>8}  ok"]
    for result in results:
        lines.append(f"{result.case.operator:21}  {result.case.shape:{width}}  {result.error:8.1e}  "
                     f"{result.case.bound:8.1e}  {'yes' if result.ok else 'NO'}  {result.note}".rstrip())
    return "\n".join(lines)


def _format_runs(runs: list[Trained]) -> str:
    """Training runs, one a line."""
    width = max(len(run.name) for run in runs)
    lines = [f"{'training':{width}}  {'error':>8}  {'bound':>8}  ok"]
    for run in runs:
        result = f"{run.error:8.1e}  {run.bound:8.1e}  {'yes' if run.ok else 'NO'}  {run.note}"
        lines.append(f"{run.name:{width}}  {result}".rstrip())
    return "\n".join(lines)
