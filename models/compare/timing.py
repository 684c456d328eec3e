"""Seconds a step of several optimizers in turn: ``python -m models.compare.timing --output FILE LABEL=CONFIG ...``.

All run in one process and take turns (A B C, A B C), so that other work on the machine slows all of them alike.
"""
from __future__ import annotations

import argparse
import functools
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from models.command_line import loading, quiet_mindspore
from models.command_line import run as run_entry
from models.config import Config, load_config
from models.turns import measure_in_turn

ROUNDS, STEPS, WARM_UP = 7, 5, 8


def main(words: Sequence[str] | None = None) -> int:
    """The command line; the exit status."""
    made = argparse.ArgumentParser(prog="python -m models.compare.timing", description=__doc__.splitlines()[0])
    made.add_argument("--output", required=True, type=Path, metavar="FILE", help="JSON: seconds of each round by label")
    made.add_argument("configs", nargs="+", metavar="LABEL=CONFIG")
    options = made.parse_args(words)
    quiet_mindspore()

    def entry() -> None:
        pairs = [pair.partition("=") for pair in options.configs]
        seconds = measure({label: load_config(path) for label, _, path in pairs})
        options.output.write_text(json.dumps(seconds, indent=1) + "\n", encoding="utf-8")
    return run_entry(entry)


def _steps_of_a_turn(config: Config) -> int:
    """A whole interval between two refreshes of curvature, or a few steps where there are none."""
    return config.refresh_interval if config.optimizer.second_order else STEPS


def steps_of_the_run(session: Any) -> int:
    """Optimizer steps its schedules are made for."""
    return session.config.train.epochs * session.batches_per_epoch // session.config.train.accumulate_steps


def measure(configs: dict[str, Config]) -> dict[str, list[float]]:
    """Seconds a step, one value a round, of each optimizer on the first batch of the first one.

    Raises:
        ConfigError, LoadError: one line about what cannot be used.
    """
    from models.session import create_session

    with loading():
        sessions = {label: create_session(config) for label, config in configs.items()}
        first = next(iter(sessions.values()))
        batch = next(iter(first.train_set.create_tuple_iterator(num_epochs=1)))
    lengths = {label: min(_steps_of_a_turn(configs[label]), steps_of_the_run(session))
               for label, session in sessions.items()}
    for label, session in sessions.items():
        turn(session, batch, min(max(WARM_UP, lengths[label]), steps_of_the_run(session)))
        print(f"compiled {label}", flush=True)
    sides = {label: functools.partial(turn, session, batch, lengths[label]) for label, session in sessions.items()}
    seconds = measure_in_turn(sides, 0, ROUNDS)
    return {label: (times / lengths[label]).tolist() for label, times in seconds.items()}


def turn(session: Any, batch: Sequence[Any], steps: int) -> None:
    """Take the first ``steps`` steps of a run, micro-batches of one step together, and wait for the last one's loss."""
    from mindspore import Tensor, ops

    counter = session.optimizer.global_step
    ops.assign(counter, Tensor([0], counter.dtype))
    for _ in range(steps * session.config.train.accumulate_steps):
        loss = session.step(*batch)
    loss.asnumpy()


if __name__ == "__main__":
    sys.exit(main())
