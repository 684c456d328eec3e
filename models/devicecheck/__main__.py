"""``python -m models.devicecheck --target GPU|Ascend --config FILE``: does this compile for the device?

Compiles the graphs of the configuration's train step on a machine without the device, with stubs for its driver,
up to the choice of kernels; nothing is computed and no dataset is read.
"""
from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from models.command_line import LoadError, one_line, parse, parser, positive, run
from models.config import Config, load_config
from models.config.errors import invalid
from models.devicecheck.environment import device_environment
from models.devicecheck.outcome import Outcome, operators_without_kernel, table
from models.devicecheck.plugin import TARGETS, MissingPlugin
from models.devicecheck.stub_build import FOLDER_VARIABLE, BuildError, stub_folder

SECOND_ORDER, FIRST_ORDER = ("second_order", "stale", "sink"), ("step", "sink")
NOTES = f"Stubs are compiled once (gcc) and kept in ~/.cache/mindspore-thor; {FOLDER_VARIABLE} names another folder."


def main(words: Sequence[str] | None = None) -> int:
    """Compile as the command line says; 0 if all graphs compiled, 1 if not."""
    words = list(sys.argv[1:] if words is None else words)
    made = create_parser()
    outcomes: list[Outcome] = []
    status = run(lambda: outcomes.extend(check(made, words)))
    return status or int(not all(outcome.ok for outcome in outcomes))


def create_parser() -> argparse.ArgumentParser:
    """The options beside those of every entry."""
    made = parser("python -m models.devicecheck", "Compile a train step for a GPU or an Ascend device, without one.")
    made.epilog = f"{made.epilog} {NOTES}"
    made.add_argument("--target", required=True, choices=TARGETS)
    made.add_argument("--graphs", metavar="LIST", help=f"of {','.join(SECOND_ORDER)}, or {','.join(FIRST_ORDER)} of a "
                      "first-order optimizer; all by default")
    made.add_argument("--ranks", type=positive, help="Ascend: simulate one of so many processes (default: "
                      "parallel.device_num); a GPU's collectives are not simulated")
    made.add_argument("--rank", type=int, default=0, help="which of them (default: 0)")
    made.add_argument("--sequence", type=positive, default=128, help="BERT: tokens of a sentence pair (default: 128)")
    made.add_argument("--masked", type=positive, default=20, help="BERT: masked tokens of it (default: 20)")
    return made


def check(made: argparse.ArgumentParser, words: list[str]) -> list[Outcome]:
    """Compile and print; the outcomes."""
    options, config = parse(made, words)
    _, overrides = made.parse_known_args(words)
    graphs = _chosen_graphs(options.graphs, config)
    ranks = _chosen_ranks(options, config)
    overrides += ["--device.target", options.target, "--parallel.device_num", str(ranks)]
    load_config(options.config, overrides)
    try:
        folder = stub_folder(options.target)
    except (MissingPlugin, BuildError) as error:
        raise LoadError(one_line(error)) from None
    where = f"rank {options.rank} of {ranks}" if ranks > 1 else "one device"
    print(f"{options.config} for {options.target}, {where}, stubs in {folder}", flush=True)
    job = {"config": str(Path(options.config).resolve()), "overrides": overrides, "graphs": graphs,
           "sequence": options.sequence, "masked": options.masked}
    outcomes = []
    for outcome in _compile_all(job, device_environment(options.target, folder, options.rank, ranks)):
        lines = table([outcome]).splitlines()
        print("\n".join(lines if not outcomes else lines[1:]), flush=True)
        outcomes.append(outcome)
    print(operators_without_kernel(outcomes, options.target) or f"{sum(outcome.ok for outcome in outcomes)} of "
          f"{len(outcomes)} graphs compile", flush=True)
    return outcomes


def _chosen_graphs(text: str | None, config: Config) -> list[str]:
    """The graphs to compile."""
    known = SECOND_ORDER if config.optimizer.second_order else FIRST_ORDER
    graphs = list(known) if text is None else [name.strip() for name in text.split(",")]
    for name in graphs:
        if name not in known:
            raise invalid("graphs", name, f"of {', '.join(known)} with optimizer.name={config.optimizer.name}",
                          "leave it out for all of them")
    return graphs


def _chosen_ranks(options: argparse.Namespace, config: Config) -> int:
    """How many processes train together."""
    ranks = options.ranks or (config.parallel.device_num if options.target == "Ascend" else 1)
    if ranks > 1 and options.target == "GPU":
        raise invalid("ranks", ranks, "1 on GPU, whose collectives are not simulated", "leave it out")
    if not 0 <= options.rank < ranks:
        raise invalid("rank", options.rank, f"an int from 0 to {ranks - 1}", f"there are {ranks} ranks")
    return ranks


def _compile_all(job: dict[str, Any], environment: dict[str, str]) -> Iterator[Outcome]:
    """The outcome of each graph of a job, as soon as it is known; see ``models.devicecheck.worker``.

    Raises:
        LoadError: MindSpore did not start with the stubs.
    """
    root = Path(__file__).resolve().parents[2]
    paths = [environment.get("PYTHONPATH"), str(root), os.getcwd()]  # here lie modules a configuration may import
    environment = {**environment, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    with tempfile.TemporaryDirectory() as here, tempfile.TemporaryFile("w+") as errors:  # MindSpore writes where it is
        worker = subprocess.Popen([sys.executable, "-m", "models.devicecheck.worker"], cwd=here, env=environment,
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True)
        with worker:
            worker.stdin.write(json.dumps(job) + "\n")
            worker.stdin.flush()
            for line in worker.stdout:
                if line.startswith("{"):
                    yield Outcome(**json.loads(line))
        if worker.returncode:
            errors.seek(0)
            last = next((line for line in reversed(errors.read().splitlines()) if line.strip()), "no message")
            raise LoadError(f"MindSpore ended with status {worker.returncode} before all graphs were compiled: {last}")


if __name__ == "__main__":
    sys.exit(main())
