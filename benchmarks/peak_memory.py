"""Peak memory of two training steps, one of them with a refresh: THOR against LAMB, each in a process of its own.

``python -m benchmarks.peak_memory --model bert --layers 12 --hidden 768 --vocab-size 30522 --batch-size 8``
"""
from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from benchmarks import common, workload

SIDES = ("thor", "lamb")


def main(words: Sequence[str] | None = None) -> int:
    """Measure as the command line says; the exit status."""
    words = sys.argv[1:] if words is None else list(words)
    made = common.parser("peak_memory", "Peak memory of training steps, THOR against LAMB.")
    workload.add_work(made)
    made.add_argument("--side", choices=SIDES, help="only this one, here; prints its peak in MiB")
    options = made.parse_args(words)
    work = workload.chosen_work(options)
    if options.side:
        print(json.dumps(_peak_of(options.side, work)))
        return 0
    return common.run_measurement(lambda: measure(work, words), report, options.json)


def _peak_of(side: str, work: workload.Work) -> float:
    """Largest resident memory of this process after two steps, in MiB."""
    network = workload.create_network(work)
    batch = work.kind.create_batch(work)
    step = workload.create_thor_step(network, work) if side == "thor" else _create_lamb_step(network, work)
    for _ in range(2):
        step(*batch).asnumpy()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _create_lamb_step(network: Any, work: workload.Work) -> Any:
    """The zoo's LAMB on CPU."""
    from models.layerwise import Lamb
    from thor.train import make_train_step

    return make_train_step(work.kind.create_loss(network), Lamb(network.trainable_params(), workload.LEARNING_RATE))


def measure(work: workload.Work, words: Sequence[str]) -> dict[str, Any]:
    """Both sides, one after the other."""
    peaks = {}
    for side in SIDES:
        command = [sys.executable, "-m", "benchmarks.peak_memory", *words, "--side", side]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise common.BenchmarkError(f"--side={side} ended with status {done.returncode}: {done.stderr[-300:]}")
        peaks[side] = float(done.stdout.splitlines()[-1])
    return {"peak_mib": peaks, "peak_ratio": peaks["thor"] / peaks["lamb"], "work": vars(work),
            "machine": common.machine()}


def report(numbers: dict[str, Any]) -> str:
    """The table to print."""
    work = workload.Work(**numbers["work"])
    rows = [("optimizer", "peak MiB"), *((side, f"{peak:.0f}") for side, peak in numbers["peak_mib"].items())]
    return "\n".join([f"{work.describe()}, batch {work.batch_size}, split {work.split_dim}",
                      common.describe(numbers["machine"]), "", common.table(rows), "",
                      f"THOR takes {numbers['peak_ratio']:.2f} of LAMB's"])


if __name__ == "__main__":
    sys.exit(main())
