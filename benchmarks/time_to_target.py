"""Time to a test accuracy: THOR against momentum, Adam, AdamW and LAMB on the same network and data.

Seconds to the target = steps to the target x seconds a step. The two are measured apart:

* Steps come from training runs, which may run on a busy machine or be stopped and gone on with. Every optimizer
  gets the same number of settings (``time_to_target.yaml``); setting 1 of all is run before setting 2 of any.
  A run ends at the first evaluation that reaches the target; evaluations come after every
  ``evaluate_every_steps``. Finished runs are kept in ``--state`` and not run again.
* Seconds a step are taken of all optimizers in turn (A B A B), in one process, on the same batch, compiled
  before. THOR's is that of a stale and of a refresh step, each as often as it came up to the target.

An optimizer's result is that of its setting with the fewest seconds. Evaluation and compilation do not count.
The same is told for 1 and 2 % less than the target.

``python -m benchmarks.time_to_target --json time_to_target.json --picture time_to_target.png``
"""
from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks import common
from benchmarks.common import BenchmarkError
from benchmarks.target_results import curves, line, report, summary
from models.turns import measure_in_turn, step_at

HERE = Path(__file__).parent
KEYS = ("config", "target", "evaluate_every_steps", "settings")


def main(words: Sequence[str] | None = None) -> int:
    """Run what is left of the search; the exit status."""
    made = common.parser("time_to_target", "Training time to a test accuracy, THOR against first order.")
    made.add_argument("--search", metavar="FILE", default=str(HERE / "time_to_target.yaml"),
                      help="what is tried")
    made.add_argument("--state", metavar="FILE", default="time_to_target_runs.json", help="finished runs")
    made.add_argument("--data-path", metavar="DIR", help="folder of the dataset; default: the config's")
    made.add_argument("--optimizers", nargs="+", metavar="NAME", help="only these, by default all")
    made.add_argument("--max-steps", type=common.at_least(1), help="stop every run after so many (a trial)")
    made.add_argument("--tries", type=common.at_least(1), help="only the first so many settings of each")
    made.add_argument("--picture", metavar="PNG", help="also draw accuracy against steps and seconds")
    common.add_timing(made, warmup=5, repeats=21)
    options = made.parse_args(words)

    def measure() -> dict[str, Any]:
        for path in (options.state, options.picture):
            common.check_writable(path)
        search = read_search(Path(options.search))
        runs = run_all(search, options)
        numbers = {**summary(runs, time_steps(search, options), frequency(search), search["target"]),
                   "warmup": options.warmup, "repeats": options.repeats, "machine": common.machine()}
        if options.picture:
            from benchmarks.plot_runs import draw_curves

            draw_curves(curves(numbers), search["target"], Path(options.picture))
        return numbers
    return common.run_measurement(measure, report, options.json)


def read_search(path: Path) -> dict[str, Any]:
    """The search file, checked: known keys, the same number of settings for every optimizer."""
    try:
        search = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise BenchmarkError(f"{path}: not YAML ({error})") from error
    if not isinstance(search, dict) or set(search) != set(KEYS):
        raise BenchmarkError(f"{path}: must have exactly the keys {', '.join(KEYS)}")
    counts = {name: len(settings) for name, settings in search["settings"].items()}
    if "thor" not in counts or len(counts) < 2 or len(set(counts.values())) != 1:
        raise BenchmarkError(f"{path}: settings={counts}; must be thor and others, "
                             "each with as many settings")
    if any("optimizer.frequency" in setting for setting in search["settings"]["thor"]):
        raise BenchmarkError(f"{path}: optimizer.frequency; must be the same in all settings; set it in the config")
    return {**search, "config": str((path.parent / search["config"]).resolve())}


def plan(search: dict[str, Any], only: list[str] | None,
         tries: int | None = None) -> list[tuple[str, dict[str, Any]]]:
    """(optimizer, setting) in the order of running: the first setting of all, the second of all, ..."""
    settings = search["settings"]
    unknown = [name for name in only or () if name not in settings]
    if unknown:
        raise BenchmarkError(f"--optimizers {' '.join(unknown)}: must be among {', '.join(settings)}")
    names = only or list(settings)
    rounds = len(settings[names[0]])
    return [(name, settings[name][i]) for i in range(min(rounds, tries or rounds)) for name in names]


def run_all(search: dict[str, Any], options: argparse.Namespace) -> list[dict[str, Any]]:
    """Every planned run, from the state file or now."""
    finished = read_state(options.state)
    runs = []
    for name, setting in plan(search, options.optimizers, options.tries):
        identity = {"optimizer": name, "setting": setting, "seed": options.seed, "target": search["target"],
                    "max_steps": options.max_steps, "data_path": options.data_path,
                    "config": Path(search["config"]).read_text(encoding="utf-8"),
                    "evaluate_every_steps": search["evaluate_every_steps"]}
        run = next((run for run in finished if run["identity"] == identity), None)
        if run is None:
            run = {"identity": identity, **train(search, name, setting, options)}
            finished.append(run)
            common.write_json(options.state, {"runs": finished})
        print(line(run), flush=True)
        runs.append(run)
    return runs


def read_state(path: str) -> list[dict[str, Any]]:
    """Finished runs of earlier calls."""
    if not Path(path).exists():
        return []
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))["runs"]
    except (ValueError, KeyError, TypeError) as error:
        raise BenchmarkError(f"--state={path}; not a file of finished runs; "
                             "remove it or choose another") from error


def overrides(name: str, setting: dict[str, Any], options: argparse.Namespace) -> list[str]:
    """A setting as command line words of the zoo."""
    words = [f"--optimizer.name={name}", f"--seed={options.seed}"]
    words += [f"--{key}={value}" for key, value in setting.items()]
    return words + ([f"--data.path={options.data_path}"] if options.data_path else [])


def load(search: dict[str, Any], name: str, setting: dict[str, Any], options: argparse.Namespace) -> Any:
    """The zoo's session of an optimizer and a setting."""
    from models.command_line import quiet_mindspore
    from models.config import ConfigError, load_config

    quiet_mindspore()
    try:
        config = load_config(search["config"], overrides(name, setting, options))
        from models.session import create_session

        return create_session(config)
    except (ConfigError, OSError, ValueError, RuntimeError) as error:
        raise BenchmarkError(f"{name} {setting}: {error}") from error


def train(search: dict[str, Any], name: str, setting: dict[str, Any],
          options: argparse.Namespace) -> dict[str, Any]:
    """Train until the target or the end of the schedule; steps and accuracies."""
    session = load(search, name, setting, options)
    limit = session.config.train.epochs * session.batches_per_epoch
    return train_session(session, search["target"], search["evaluate_every_steps"],
                         min(limit, options.max_steps or limit))


def train_session(session: Any, target: float, every: int, limit: int) -> dict[str, Any]:
    """``limit`` steps at most, an evaluation after ``every`` so many and at the end."""
    step, accuracies, reached = 0, [], False
    batches = iter(())
    while step < limit and not reached:
        loss = math.nan
        for _ in range(min(every, limit - step)):
            batch = next(batches, None)
            if batch is None:
                batches = iter(session.train_set.create_tuple_iterator(num_epochs=1))
                batch = next(batches)
            loss = session.step(*batch)
            step += 1
        if not math.isfinite(float(loss.asnumpy())):
            break
        accuracies.append([step, float(session.evaluate()["top_1_accuracy"])])
        reached = accuracies[-1][1] >= target
    return {"steps": step, "reached": reached, "accuracies": accuracies}


def frequency(search: dict[str, Any]) -> int:
    """Steps from one of THOR's refreshes to the next, the same in all its settings."""
    from models.config import load_config

    return load_config(search["config"]).optimizer.frequency


def time_steps(search: dict[str, Any], options: argparse.Namespace) -> dict[str, np.ndarray]:
    """Seconds of one step of every optimizer, in turn; THOR's as ``stale`` and ``refresh``."""
    names = options.optimizers or list(search["settings"])
    sides, batch = {}, None
    for name in names:
        session = load(search, name, search["settings"][name][0], options)
        if batch is None:
            batch = next(iter(session.train_set.create_tuple_iterator(num_epochs=1)))
        if name == "thor":
            sides["stale"], sides["refresh"] = (step_at(session.step, session.optimizer, batch, place)
                                                for place in (1, 0))
        else:
            sides[name] = step_at(session.step, session.optimizer, batch)
    return measure_in_turn(sides, options.warmup, options.repeats)


if __name__ == "__main__":
    sys.exit(main())
