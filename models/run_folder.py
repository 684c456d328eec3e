"""The folder of a run: a new one for every run, or that of an interrupted run that goes on.

    RUN_DIR/resnet18_digits_thor/20250131-142501/
        config.yaml     the resolved configuration
        checkpoints/    see models.checkpoint
        results.json    written last; a run without it was interrupted

Importing this module does not import MindSpore.
"""
from __future__ import annotations

import csv
import dataclasses
import fcntl
import json
import os
import time
from pathlib import Path
from typing import IO, Any

from models.config import Config, ConfigError, config_tree, dump_config, load_config
from models.config.errors import invalid
from models.files import replacing

CONFIG, CHECKPOINTS, RESULTS, LOCK = "config.yaml", "checkpoints", "results.json", ".lock"
METRICS = "metrics.csv"
DEVICES = "parallel.device_num"


@dataclasses.dataclass
class RunFolder:
    """Where a run writes.

    Attributes:
        path: the folder.
        resumes: whether the run goes on with the newest usable checkpoint in ``checkpoints``.
        start_from: checkpoint of another run, or its folder of checkpoints, to begin a new run with, or None.
    """

    path: Path
    resumes: bool = False
    start_from: Path | None = None
    lock: IO | None = None

    @property
    def checkpoints(self) -> Path:
        """Folder of the run's checkpoints."""
        return self.path / CHECKPOINTS

    def finish(self, results: dict[str, Any]) -> None:
        """Write ``results`` and with it that the run has come to its end."""
        with replacing(self.path / RESULTS) as part:
            part.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


def open_run_folder(config: Config, dry: bool = False) -> RunFolder:
    """The folder ``config.train.resume`` asks for, locked against other processes until this one ends.

    A folder is resumed only when its config equals ``config``, so nothing a run has written is ever mixed
    with another configuration's. A run that differs only in the number of devices goes on in a new folder.

    Args:
        dry: neither make nor lock a folder, only find out which it would be.

    Raises:
        ConfigError: the path to resume from does not exist, has another configuration, is finished or in use.
    """
    resume = config.train.resume
    if resume == "never":
        return _new(config, dry)
    if resume == "auto":
        return _continued(config, dry) or _new(config, dry)
    path = Path(resume)
    if path.is_file():
        if config.train.init_from is not None:
            raise invalid("train.init_from", config.train.init_from, "left out with a checkpoint in train.resume",
                          "a run begins with the weights of one of them")
        return dataclasses.replace(_new(config, dry), start_from=path)
    if not path.is_dir():
        raise invalid("train.resume", resume, "auto, never, or the path of a run folder or checkpoint",
                      "there is nothing at that path")
    return _given(config, path, dry)


def metrics_rows(path: Path) -> list[dict[str, float | None]]:
    """Rows of a metrics.csv, empty fields as None; a line that is not whole ends them."""
    rows = []
    with open(path, newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            try:
                rows.append({name: None if value == "" else float(value) for name, value in row.items()})
            except (TypeError, ValueError):  # cut off by a kill: fields that are not there are None
                break
    return rows


def differing_keys(first: Config, second: Config) -> list[str]:
    """Dotted names of the settings that differ, leaving out train.resume and train.run_dir."""
    one, two = _flat(config_tree(first)), _flat(config_tree(second))
    return [key for key in one if one[key] != two[key] and key not in ("train.resume", "train.run_dir")]


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat = {}
    for key, value in tree.items():
        flat.update(_flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value})
    return flat


def _parent(config: Config) -> Path:
    return Path(config.train.run_dir) / f"{config.model.name}_{config.data.name}_{config.optimizer.name}"


def _new(config: Config, dry: bool) -> RunFolder:
    stamp, count = time.strftime("%Y%m%d-%H%M%S"), 1
    while not dry:
        path = _parent(config) / (stamp if count == 1 else f"{stamp}-{count}")
        try:
            path.mkdir(parents=True)
            break
        except FileExistsError:
            if not os.path.lexists(path):
                raise  # a link to nowhere is in the place of a folder above
            count += 1
    if dry:
        return RunFolder(_parent(config) / stamp)
    lock = _locked(path)
    (path / CHECKPOINTS).mkdir()
    with replacing(path / CONFIG) as part:
        part.write_text(dump_config(config), encoding="utf-8")
    return RunFolder(path, lock=lock)


def _continued(config: Config, dry: bool) -> RunFolder | None:
    """The newest unfinished run of this configuration, on any number of devices; None if there is none."""
    for path in sorted(_parent(config).glob("*"), reverse=True):
        differences = _differences(config, path) if _has_checkpoints(path) else None
        if differences not in ([], [DEVICES]):
            continue
        if _is_finished(path):
            return None  # whatever was interrupted before it has been done since
        lock = _locked(path, dry)
        if lock is None:
            continue
        if not differences:
            return RunFolder(path, resumes=True, lock=lock)
        lock.close()
        return dataclasses.replace(_new(config, dry), start_from=path / CHECKPOINTS)
    return None


def _given(config: Config, path: Path, dry: bool) -> RunFolder:
    differences = _differences(config, path)
    wanted = "an unfinished run of this configuration"
    remedy = "give one of its checkpoints to start a new run with"
    if differences is None:
        raise invalid("train.resume", str(path), "the folder of a run", f"it has no readable {CONFIG}")
    if differences:
        raise invalid("train.resume", str(path), wanted, f"it differs in {', '.join(differences)}; {remedy}")
    if _is_finished(path):
        raise invalid("train.resume", str(path), wanted, f"it is finished; {remedy}")
    if not _has_checkpoints(path):
        raise invalid("train.resume", str(path), "the folder of a run with a checkpoint", "start it anew")
    lock = _locked(path, dry)
    if lock is None:
        raise invalid("train.resume", str(path), "a run that no process is working on",
                      "wait for it or stop it")
    return RunFolder(path, resumes=True, lock=lock)


def _differences(config: Config, path: Path) -> list[str] | None:
    try:
        return differing_keys(config, load_config(path / CONFIG))
    except ConfigError:
        return None


def _is_finished(path: Path) -> bool:
    return (path / RESULTS).exists()


def _has_checkpoints(path: Path) -> bool:
    return any((path / CHECKPOINTS).glob("*"))


def _locked(path: Path, dry: bool = False) -> IO | None:
    """The lock of a run's folder, None where another process has it; a dry run makes no file of it."""
    lock = open(path / LOCK if not dry or (path / LOCK).exists() else os.devnull, "r" if dry else "a",
                encoding="utf-8")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return lock
    except OSError:
        lock.close()
        return None
