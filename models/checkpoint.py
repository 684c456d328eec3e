"""Checkpoints from which a run continues bit for bit.

A checkpoint is one MindSpore file, ``step-000123.ckpt``, with all parameters of the train step (weights,
momentum, factors, inverses, global step, loss scale) and, beside them, how many batches were seen and of how
many samples over all devices, the seed and a digest of the configuration. Data order and augmentation are
functions of seed and batch (models.data). Dropout is not restored with MindSpore's ``nn.Dropout``, whose generator
cannot be read; models.dropout keeps its state in a parameter.

    checkpoint.restore_newest(session, folder)  # number of batches seen, 0 if there is no checkpoint
    CheckpointCallback(session, folder)         # writes them

A ``session`` has config, step, train_set, batches_per_epoch and ranks, see models.session.
"""
from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn
from mindspore.train import Callback

from models.averages import PREFIX
from models.checkpoint_file import (
    BATCHES,
    COUNTERS,
    DIGEST,
    NOTES,
    OBSERVED,
    OWED,
    SAMPLES,
    SEED,
    STEPS,
    check_value,
    checkpoints,
    read,
)
from models.command_line import CAUSES, DivergedError
from models.config import Config, config_tree
from models.files import cannot_write
from models.interruption import INTERRUPTION

logger = logging.getLogger("models")

PART, MINDSPORE_PART = "part.ckpt", "part.tmp"  # what is written first: by this module, by MindSpore beneath it


def check_finite(cell: nn.Cell, batches: int) -> None:
    """DivergedError if a float parameter of ``cell`` holds NaN or infinity after ``batches`` batches.

    The loss alone does not tell: MindSpore's ReLU on CPU turns NaN into 0.
    """
    for _, parameter in cell.parameters_and_names():
        values = parameter.asnumpy()
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise DivergedError(f"parameter {parameter.name} is not finite after batch {batches}; {CAUSES} "
                                "lower the learning rate or raise the damping")


def config_digest(config: Config) -> str:
    """Short digest of every setting but train.resume and train.run_dir."""
    tree = config_tree(config)
    tree["train"] = {key: value for key, value in tree["train"].items() if key not in ("resume", "run_dir")}
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()[:16]


def save(session: Any, folder: Path, batches: int, owed_loss: float | None = None) -> Path:
    """Write the checkpoint after ``batches`` batches.

    Older checkpoints beyond ``config.train.checkpoint_keep`` are deleted afterwards.

    Args:
        session: the run.
        folder: of the checkpoints.
        batches: seen so far.
        owed_loss: loss of the last batch, where an epoch ends with it whose evaluation is still to come.

    Raises:
        DivergedError, WriteError: as ``write``; older checkpoints stay.
    """
    path = folder / f"step-{batches:06d}.ckpt"
    write(session, path, batches, {} if owed_loss is None else {OWED: owed_loss})
    return path


def write(session: Any, path: Path, batches: int, more: dict[str, Any]) -> None:
    """Write a checkpoint after ``batches`` batches to ``path``; it appears there only when it is whole.

    Args:
        more: what it holds beside the state of training.

    Raises:
        DivergedError: a parameter is not finite; nothing is written.
        WriteError: the disk is full, the folder is read-only or the like; what ``path`` held before stays.
    """
    check_finite(session.step, batches)
    try:
        with INTERRUPTION.writing():
            _write(session, path.parent, path, batches, more)
    except (OSError, RuntimeError, ValueError) as error:
        _remove(path.parent / MINDSPORE_PART)
        _remove(path.parent / PART)
        raise cannot_write(path, error, "checkpoint") from error


def _write(session: Any, folder: Path, path: Path, batches: int, more: dict[str, Any]) -> None:
    with contextlib.suppress(FileExistsError):  # mkdir(exist_ok=True) looks again, and the folder may be gone by then
        folder.mkdir()  # not its parents: where the run's folder was deleted, the run ends
    part = folder / PART
    part.unlink(missing_ok=True)
    part.touch()  # fails where MindSpore would write a line of its own
    part.unlink()
    facts = {BATCHES: batches, SAMPLES: _samples_a_batch(session), SEED: session.config.seed,
             DIGEST: config_digest(session.config), **session.notes, **more}
    with _silent():
        ms.save_checkpoint(session.step, str(part), append_dict=facts, crc_check=True)
    _to_disk(part)
    part.replace(path)
    _to_disk(folder)
    for old in checkpoints(folder)[session.config.train.checkpoint_keep:]:
        old.unlink()


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Keep what MindSpore logs off the screen: of a full disk it says more than one line, and then raises."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


def _to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def restore_newest(session: Any, folder: Path, delete: bool = True) -> int:
    """Restore the newest whole checkpoint in ``folder``; a warning names each newer one that is not.

    Args:
        delete: those beyond ``config.train.checkpoint_keep``.

    Returns:
        Batches seen so far, 0 if ``folder`` holds no checkpoint.

    Raises:
        ValueError: there are checkpoints but none can be used.
    """
    found = checkpoints(folder)
    for place, path in enumerate(found):
        try:
            batches = restore(session, path)
            for old in found[max(session.config.train.checkpoint_keep, place + 1):] if delete else ():
                _remove(old)  # left where a run was killed between writing one and deleting another
            return batches
        except ValueError as error:
            if path == found[-1]:
                raise ValueError(f"{error}; no checkpoint in {folder} can be used; set train.resume to never "
                                 f"to start anew") from None
            logger.warning("%s; using the next older one", error)
    return 0


def restore(session: Any, path: Path) -> int:
    """Give ``session.step`` the parameters in ``path`` and begin ``session.train_set`` with the next batch.

    Where batches had another number of samples then, on another number of devices, the same samples count as seen, and
    schedules go on at the same part of an epoch.

    Returns:
        Batches seen so far, of the present number of samples.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not a whole checkpoint, was written with another seed, whose order of data is another, or has
            no value for a parameter or one that is not finite or of another shape. Nothing is loaded then.
    """
    contents = read(path)
    if contents[SEED] != session.config.seed:
        raise ValueError(f"checkpoint={path}; was written with seed={contents[SEED]}, here seed={session.config.seed}; "
                         f"set seed to {contents[SEED]}")
    _load(session.step, contents, path)
    batches = rescaled(session, contents[BATCHES], contents.get(SAMPLES, _samples_a_batch(session)))
    if contents[DIGEST] != config_digest(session.config):
        logger.warning("checkpoint=%s; was written with another configuration; its weights, its state and "
                       "its place in the data are used", path)
    session.train_set.start_at(batches)
    session.owed_loss = float(contents[OWED].asnumpy()) if OWED in contents else None
    session.notes.update({name: contents[name] for name in NOTES if name in contents})
    return batches


def _samples_a_batch(session: Any) -> int:
    """Training samples of a batch over all devices."""
    return session.config.data.batch_size * session.ranks.count


def rescaled(session: Any, batches: int, samples: int) -> int:
    """``batches`` of ``samples`` in batches of the present size; what the optimizer counts in steps follows."""
    now = batches * samples // _samples_a_batch(session)
    for name, counter in session.step.parameters_dict().items() if now != batches else ():
        if name.rpartition(".")[2] in STEPS:
            steps = counter.asnumpy()
            counter.set_data(Tensor(np.where(steps < 0, steps, np.round(steps * (now / batches))), counter.dtype))
    return now


def _load(step: nn.Cell, contents: dict[str, Any], path: Path) -> None:
    parameters = {parameter.name: parameter for _, parameter in step.parameters_and_names()}
    for name, parameter in parameters.items():
        if name not in contents:
            _begin(contents, name, parameter)
        if name not in contents:
            raise ValueError(f"checkpoint={path}; has no {name}; it belongs to another network or optimizer")
        if contents[name].shape != parameter.shape or contents[name].dtype != parameter.dtype:
            raise ValueError(f"checkpoint={path}; {name} is {contents[name].dtype} {contents[name].shape}, "
                             f"here it is {parameter.dtype} {parameter.shape}; it belongs to another "
                             "network or optimizer")
        check_value(path, name, contents[name])
    left = ms.load_param_into_net(step, {name: contents[name] for name in parameters}, strict_load=True)[0]
    if left:
        raise ValueError(f"checkpoint={path}; {left[0]} could not be loaded")


def _begin(contents: dict[str, Any], name: str, parameter: Parameter) -> None:
    """Give ``contents`` what a parameter begins with that files may be written without: counts, averages."""
    weight = contents.get(name.removeprefix(PREFIX)) if name.startswith(PREFIX) else None
    if weight is not None:
        contents[name] = Parameter(Tensor(weight.asnumpy(), parameter.dtype), name=name)
    elif name.rpartition(".")[2] in (*COUNTERS, *OBSERVED, "averaged_step"):
        contents[name] = Parameter(Tensor(np.zeros(parameter.shape), parameter.dtype), name=name)


class CheckpointCallback(Callback):
    """Writes checkpoints every so many epochs and steps, as ``config.train`` says, and one at the end.

    Those at the end of an epoch are written when the callbacks before this one are done with the epoch.

    Args:
        session: the run.
        folder: where to write.
    """

    def __init__(self, session: Any, folder: Path) -> None:
        super().__init__()
        self.session = session
        self.folder = Path(folder)
        self.start = 0
        self.saved = 0

    def on_train_begin(self, run_context: Any) -> None:
        self.start = self.saved = self.session.train_set.get_init_step()

    def on_train_step_end(self, run_context: Any) -> None:
        batches, every = self._batches(run_context), self.session.config.train.checkpoint_every_steps
        at_epoch_end = batches % self.session.batches_per_epoch == 0
        if every and not at_epoch_end and batches % (every * self.session.config.train.accumulate_steps) == 0:
            self._save(batches)

    def on_train_epoch_end(self, run_context: Any) -> None:
        batches, options = self._batches(run_context), self.session.config.train
        epochs, rest = divmod(batches, self.session.batches_per_epoch)
        by_epoch = options.checkpoint_every_epochs and epochs % options.checkpoint_every_epochs == 0
        steps = options.checkpoint_every_steps * options.accumulate_steps
        if rest == 0 and (by_epoch or steps and batches % steps == 0):
            self._save(batches)

    def on_train_end(self, run_context: Any) -> None:
        self._save(self._batches(run_context))

    def _batches(self, run_context: Any) -> int:
        return self.start + run_context.original_args().cur_step_num

    def _save(self, batches: int) -> None:
        if batches != self.saved:
            save(self.session, self.folder, batches)
            self.saved = batches
