"""Train a network: ``python -m models.train --config FILE [--section.key value ...]``."""
from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Sequence

from models.command_line import LoadError, loading, parse, parser, quiet_mindspore, run
from models.config import Config
from models.run_folder import RunFolder, open_run_folder

if TYPE_CHECKING:
    from models.session import Session


def main(words: Sequence[str] | None = None) -> int:
    """Train as the command line says; the exit status."""
    quiet_mindspore()
    made = parser("python -m models.train", "Train a network; everything goes to a run folder.")
    return run(lambda: train(parse(made, words)[1]))


def train(config: Config) -> dict[str, float]:
    """Train, evaluate and report; returns the results that are also in results.json.

    Raises:
        ConfigError, LoadError: one line about what cannot be used; nothing has been written then.
    """
    started = time.perf_counter()
    with loading():
        from models.session import create_session

        session = create_session(config)
        folder = open_run_folder(config)
        done = restore(session, folder)
    fit(session, folder, done)
    results = {name: float(value) for name, value in session.evaluate().items()}
    results["seconds"] = time.perf_counter() - started
    folder.finish(results)
    print(report(results, folder))
    return results


def restore(session: Session, folder: RunFolder) -> int:
    """Load the checkpoint the run begins with; the number of batches already done."""
    from models import checkpoint

    if folder.start_from is not None:
        return checkpoint.restore(session, folder.start_from)
    if folder.resumes:
        return checkpoint.restore_newest(session, folder.checkpoints)
    return 0


def fit(session: Session, folder: RunFolder, done: int) -> None:
    """Run the epochs that are left after ``done`` batches."""
    from models.callbacks import build_callbacks
    from models.data import dataset_error_line

    options = session.config.train
    callbacks = build_callbacks(session, folder)
    try:
        session.model.train(options.epochs, session.train_set, callbacks, options.sink, options.sink_size,
                            initial_epoch=done // session.batches_per_epoch)
    except RuntimeError as error:
        line = dataset_error_line(error)
        if not line:
            raise
        raise LoadError(line) from error


def report(results: dict[str, float], folder: RunFolder) -> str:
    """The block of lines a run ends with."""
    minutes, seconds = divmod(round(results["seconds"]), 60)
    rows = [("test accuracy", f"{100 * results['top_1_accuracy']:.2f} %")]
    if "top_5_accuracy" in results:
        rows.append(("top-5 accuracy", f"{100 * results['top_5_accuracy']:.2f} %"))
    rows += [("test loss", f"{results['loss']:.4f}"),
             ("wall-clock time", f"{minutes} min {seconds} s"),
             ("run folder", str(folder.path))]
    pictures = [path for path in sorted(folder.path.iterdir()) if path.suffix in (".csv", ".png")]
    rows += [(path.stem, str(path)) for path in pictures]
    newest = max(folder.checkpoints.glob("*.ckpt"), key=os.path.getmtime, default=None)
    if newest is not None:
        rows.append(("checkpoint", str(newest)))
    return "\n".join(["results", *(f"  {name:<16} {value}" for name, value in rows)])


if __name__ == "__main__":
    sys.exit(main())
