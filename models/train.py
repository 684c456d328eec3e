"""Train a network: ``python -m models.train --config FILE [--dry_run] [--section.key value ...]``."""
from __future__ import annotations

if __name__ == "__main__":  # before anything starts a thread
    from models.interruption import hold_signals

    hold_signals()

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.command_line import LoadError, loading, one_line, parse, parser, quiet_mindspore, run
from models.config import Config
from models.files import WriteError, replacing
from models.interruption import INTERRUPTION
from models.run_folder import RunFolder, open_run_folder
from models.sinks import has_sinks, plan_sinks
from models.task import Task

if TYPE_CHECKING:
    from mindspore.train import Callback

    from models.session import Session


def main(words: Sequence[str] | None = None) -> int:
    """Train as the command line says; the exit status."""
    quiet_mindspore()
    made = _parser()

    def entry() -> None:
        options, config = parse(made, words)
        if options.profile is not None and not options.dry_run:
            made.error("--profile is read by --dry_run alone; give both or none")
        if options.dry_run:
            from models.dry_run import dry_run

            dry_run(config, options.profile)
        else:
            train(config)
    return run(entry)


def _parser() -> argparse.ArgumentParser:
    made = parser("python -m models.train", "Train a network; everything goes to a run folder.")
    made.add_argument("--dry_run", action="store_true", help="build everything, say what the run would take, and end")
    made.add_argument("--profile", metavar="FILE",
                      help="with --dry_run: model the time, too, from this profile of a device, see models.planner")
    return made


def configuration(words: Sequence[str] | None = None) -> Config:
    """What the command line asks for; the launcher of several processes calls it too, before it starts them.

    Raises:
        ConfigError: one line about what cannot be used.
        SystemExit: status 2 and the usage for words of no such form.
    """
    return parse(_parser(), words)[1]


def train(config: Config) -> dict[str, float]:
    """Train, evaluate and report; returns the results that are also in results.json.

    Raises:
        ConfigError, LoadError: one line about what cannot be used. A run that could not be set up has written
            nothing; one that diverged keeps what it wrote.
    """
    started = time.perf_counter()
    with loading():
        from models.session import create_session

        session = create_session(config)
        folder = _shared_folder(session) if session.ranks.count > 1 else open_run_folder(config)
        done = restore(session, folder)
    _announce(session, folder, done)
    results = fit(session, folder, done)
    results["seconds"] = time.perf_counter() - started
    INTERRUPTION.over()
    if session.ranks.is_first:
        folder.finish(results)
        print(report(session.task, results, folder))
    return results


def _shared_folder(session: Session) -> RunFolder:
    """The run folder the first of several processes opens; the others only read from it."""
    first = open_run_folder(session.config) if session.ranks.is_first else None
    told = {} if first is None else {"path": str(first.path), "resumes": first.resumes,
                                     "start_from": first.start_from and str(first.start_from)}
    told = json.loads(session.ranks.agree(json.dumps(told) if told else ""))
    return first or RunFolder(Path(told["path"]), told["resumes"], told["start_from"] and Path(told["start_from"]))


def restore(session: Session, folder: RunFolder, delete: bool = True) -> int:
    """Load the checkpoint the run begins with; the number of batches already done.

    Args:
        delete: what a kill left beyond ``train.checkpoint_keep``.
    """
    from models import checkpoint

    if folder.start_from is not None and folder.start_from.is_file():
        return checkpoint.restore(session, folder.start_from)
    if folder.start_from is None and not folder.resumes:
        return 0
    return checkpoint.restore_newest(session, folder.start_from or folder.checkpoints, delete)


def _announce(session: Session, folder: RunFolder, done: int) -> None:
    """Say where the run is and how it begins; THOR's table of parameters goes to its folder."""
    if not session.ranks.is_first:
        return
    if session.instruction_set:
        print(session.instruction_set)
    if has_sinks(session.config):
        length = plan_sinks(session.config, session.batches_per_epoch, done).size
        print(f"sinks of {length} steps, one of which ends with every epoch and every checkpoint")
    print(f"run folder {folder.path}")
    for line in session.begun_with:
        print(line)
    if folder.resumes:
        print(f"going on after batch {done} (--train.resume never starts anew)")
    if folder.start_from:
        print(f"going on after batch {done} of this number of devices, from {folder.start_from}")
    if session.config.optimizer.second_order:
        from models.optimizers import thor_within

        table = folder.path / "parameters.txt"
        with replacing(table) as part:
            part.write_text(thor_within(session.optimizer).registration_table() + "\n", encoding="utf-8")
        print(f"how THOR updates each parameter: {table}")
    sys.stdout.flush()


def fit(session: Session, folder: RunFolder, done: int) -> dict[str, float]:
    """Run the epochs that are left after ``done`` batches; loss and accuracies on the held-out data."""
    from models.callbacks import ScalarLog, build_callbacks
    from models.callbacks.stopping import stopping
    from models.data import dataset_error_line

    callbacks = build_callbacks(session, folder)
    try:
        with stopping(callbacks):
            results = _fit(session, callbacks, done)
    except WriteError:
        raise
    except OSError as error:
        raise LoadError(f"{one_line(error)}; the same command goes on with the newest checkpoint") from error
    except RuntimeError as error:
        line = dataset_error_line(error)
        if not line:
            raise
        raise LoadError(line) from error
    finally:
        for callback in callbacks:
            if isinstance(callback, ScalarLog):
                callback.close()
    return {name: float(value) for name, value in results.items()}


def _fit(session: Session, callbacks: list[Callback], done: int) -> dict[str, Any]:
    from models.callbacks import EarlyStop, KeepBest, TrainingState
    from models.callbacks.owed import end_epoch

    state, stop = (next(callback for callback in callbacks if isinstance(callback, kind))
                   for kind in (TrainingState, EarlyStop))
    if session.owed_loss is not None and done % session.batches_per_epoch == 0:
        end_epoch(state, callbacks, session.owed_loss)
    sinks = plan_sinks(session.config, session.batches_per_epoch, done)
    if sinks.done < sinks.epochs and stop.ended_at is None:
        session.model.train(sinks.epochs, session.train_set, callbacks, session.config.train.sink, sinks.size,
                            sinks.done)
    ended = {} if stop.ended_at is None else {"stopped_early_at_step": stop.ended_at}
    state.skipped.check_any_applied(stop.ended_at or state.total)
    if ended and session.ranks.is_first:
        print(stop.line())
    best = next((callback.results() for callback in callbacks if isinstance(callback, KeepBest)), {})
    return {**(state.evaluation or session.evaluate()), "skipped_updates": state.skipped.total, **best, **ended}


def report(task: Task, results: dict[str, float], folder: RunFolder) -> str:
    """The block of lines a run ends with."""
    from models.checkpoint_file import BEST, checkpoints

    minutes, seconds = divmod(round(results["seconds"]), 60)
    skipped = [("skipped updates", f"{results['skipped_updates']:g}")] if results.get("skipped_updates") else []
    ema = results.get(f"ema_{task.accuracy}")
    averaged = [] if ema is None else [("averaged weights", f"{task.accuracy} {ema:.4f} (--weights ema)")]
    rows = [*task.report(results), *averaged, *skipped, ("wall-clock time", f"{minutes} min {seconds} s"),
            ("run folder", str(folder.path))]
    rows += [(name, str(path)) for name, path in (("metrics", folder.path / "metrics.csv"),
                                                  ("curves", folder.path / "curves.png")) if path.exists()]
    rows += [("checkpoint", str(path)) for path in checkpoints(folder.checkpoints)[:1]]
    if "best_step" in results:
        best = f"{results['best_accuracy']:.4f} at step {results['best_step']:g}"
        rows.append(("best checkpoint", f"{folder.checkpoints / BEST} ({best})"))
    return "\n".join(["results", *(f"  {name:<16} {value}" for name, value in rows)])


if __name__ == "__main__":
    sys.exit(main())
