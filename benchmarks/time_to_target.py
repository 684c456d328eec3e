"""Training time to a test accuracy: THOR against momentum, Adam, AdamW and LAMB on the same network and data.

Every optimizer gets the same number of settings (``time_to_target.yaml``); setting 1 of all is run before
setting 2 of any. Time is that of training steps, compilation included, evaluation not. Finished runs are kept
in ``--state`` and not run again: the same command goes on where it was stopped.

``python -m benchmarks.time_to_target --json time_to_target.json``
"""
from __future__ import annotations

import argparse
import json
import math
import sys
import time
from pathlib import Path
from typing import Any, Sequence

import yaml

from benchmarks import common
from benchmarks.common import BenchmarkError

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
    options = made.parse_args(words)

    def entry() -> None:
        common.check_writable(options.json)
        common.check_writable(options.state)
        search = read_search(Path(options.search))
        runs = run_all(search, options)
        numbers = {**summary(runs), "target": search["target"], "machine": common.machine()}
        print(report(numbers))
        common.write_json(options.json, numbers)
    return common.run(entry)


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
    return {**search, "config": str((path.parent / search["config"]).resolve())}


def plan(search: dict[str, Any], only: list[str] | None) -> list[tuple[str, dict[str, Any]]]:
    """(optimizer, setting) in the order of running: the first setting of all, the second of all, ..."""
    settings = search["settings"]
    unknown = [name for name in only or () if name not in settings]
    if unknown:
        raise BenchmarkError(f"--optimizers {' '.join(unknown)}: must be among {', '.join(settings)}")
    names = only or list(settings)
    return [(name, settings[name][i]) for i in range(len(settings[names[0]])) for name in names]


def run_all(search: dict[str, Any], options: argparse.Namespace) -> list[dict[str, Any]]:
    """Every planned run, from the state file or now."""
    finished = read_state(options.state)
    runs = []
    for name, setting in plan(search, options.optimizers):
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


def train(search: dict[str, Any], name: str, setting: dict[str, Any],
          options: argparse.Namespace) -> dict[str, Any]:
    """Train until the target or the end of the schedule; seconds of training, steps and accuracies."""
    from models.command_line import quiet_mindspore
    from models.config import ConfigError, load_config

    quiet_mindspore()
    try:
        config = load_config(search["config"], overrides(name, setting, options))
        from models.session import create_session

        session = create_session(config)
    except (ConfigError, OSError, ValueError, RuntimeError) as error:
        raise BenchmarkError(f"{name} {setting}: {error}") from error
    limit = config.train.epochs * session.batches_per_epoch
    return train_session(session, search["target"], search["evaluate_every_steps"],
                         min(limit, options.max_steps or limit))


def train_session(session: Any, target: float, every: int, limit: int) -> dict[str, Any]:
    """``limit`` steps at most, an evaluation after ``every`` so many and at the end."""
    seconds, step, accuracies, reached = 0.0, 0, [], False
    batches = iter(())
    while step < limit and not reached:
        start = time.perf_counter()
        loss = math.nan
        for _ in range(min(every, limit - step)):
            batch = next(batches, None)
            if batch is None:
                batches = iter(session.train_set.create_tuple_iterator(num_epochs=1))
                batch = next(batches)
            loss = session.step(*batch)
            step += 1
        finite = math.isfinite(float(loss.asnumpy()))
        seconds += time.perf_counter() - start
        if not finite:
            break
        accuracies.append([step, float(session.evaluate()["top_1_accuracy"])])
        reached = accuracies[-1][1] >= target
    return {"seconds": seconds, "steps": step, "reached": reached, "accuracies": accuracies}


def line(run: dict[str, Any]) -> str:
    """A finished run in one line."""
    best = max((accuracy for _, accuracy in run["accuracies"]), default=0.0)
    end = "reached the target" if run["reached"] else "did not reach the target"
    setting = " ".join(f"{key.rpartition('.')[0].rpartition('.')[2] or key}.{key.rpartition('.')[2]}={value}"
                       for key, value in run["identity"]["setting"].items())
    return (f"{run['identity']['optimizer']:<9} {run['seconds']:7.1f} s {run['steps']:5d} steps, best "
            f"{100 * best:.2f} %, {end}: {setting}")


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Shortest time of each optimizer, and THOR's relative to the best of the others; None if not reached."""
    best: dict[str, float | None] = {}
    for run in runs:
        name = run["identity"]["optimizer"]
        best.setdefault(name, None)
        if run["reached"]:
            best[name] = min(run["seconds"], best[name] or math.inf)
    others = [seconds for name, seconds in best.items() if name != "thor" and seconds is not None]
    thor = best.get("thor")
    return {"best_s": best, "time_ratio": thor / min(others) if thor and others else None,
            "settings_each": len(runs) // max(len(best), 1), "runs": runs}


def report(numbers: dict[str, Any]) -> str:
    """The table to print."""
    rows = [("optimizer", "seconds to the target", "reached by")]
    for name, seconds in numbers["best_s"].items():
        own = [run["reached"] for run in numbers["runs"] if run["identity"]["optimizer"] == name]
        rows.append((name, "-" if seconds is None else f"{seconds:.1f}",
                     f"{sum(own)} of {len(own)} settings"))
    ratio = numbers["time_ratio"]
    return "\n".join(["", f"target {100 * numbers['target']:g} % test accuracy",
                      common.describe(numbers["machine"]), "", common.table(rows), "",
                      "THOR to the best of the others: "
                      + ("not both reached the target" if ratio is None else f"{ratio:.2f}")])


if __name__ == "__main__":
    sys.exit(main())
