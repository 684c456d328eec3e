"""Checkpoint files: which files of a folder are checkpoints, and what of one can be trusted.

MindSpore ends a checkpoint that it writes with ``crc_check`` with 17 bytes: the word ``crc_num`` and the CRC-32 of all
bytes before it. It reads a file without them as it is, only with a warning; here such a file is refused.
"""
from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np

BATCHES, SAMPLES, SEED, DIGEST = "run.batches", "run.samples_a_batch", "run.seed", "run.config"
OWED = "run.owed_loss"  # loss of the last batch, where an epoch ends with it that is still to be evaluated
STEPS = {"global_step": 0, "step_of_last_refresh": -1}  # parameters that count steps, and the least they can be
COUNTERS = ("skipped_updates", "overflowed_updates")  # parameters that count from 0
_NAME = re.compile(r"step-([0-9]+)\.ckpt")
_WORD, _DIGITS = b"crc_num", 10


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in ``folder``, newest first: files named ``step-DIGITS.ckpt``, nothing else."""
    found = {path: _NAME.fullmatch(path.name) for path in folder.glob("step-*.ckpt")}
    numbers = {path: int(match[1]) for path, match in found.items() if match and path.is_file()}
    return sorted(numbers, key=lambda path: numbers[path], reverse=True)


def read(path: Path) -> dict[str, Any]:
    """The contents of the checkpoint ``path`` of a training run.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it cannot be read, is damaged, or not of a training run.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"checkpoint={path}; is not a file; give one of a run's checkpoints folder")
    try:
        contents = ms.load_checkpoint(str(path), crc_check=True)
    except (ValueError, TypeError, RuntimeError):
        raise ValueError(f"checkpoint={path}; is truncated or damaged") from None
    missing = [key for key in (BATCHES, SEED, DIGEST) if key not in contents]
    if missing:
        raise ValueError(f"checkpoint={path}; has no {missing[0]}, so it is not one of a training run")
    check_sealed(path, contents)
    for key, least in ((BATCHES, 0), (SAMPLES, 1), (SEED, 0)):
        if key in contents:
            contents[key] = _count(path, key, contents[key], least)
    return contents


def check_sealed(path: Path | str, contents: Any) -> None:
    """ValueError if the checkpoint ``path`` with these ``contents`` is of a training run and has lost its checksum."""
    with open(path, "rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - len(_WORD) - _DIGITS))
        sealed = file.read(len(_WORD)) == _WORD
    if BATCHES in contents and not sealed:
        raise ValueError(f"checkpoint={path}; has lost its checksum, without which damage is not seen; use another one")


def _count(path: Path, key: str, value: Any, least: int) -> int:
    value = value.asnumpy().tolist() if isinstance(value, ms.Tensor) else value
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        number = least - 1
    if number < least or number != value:
        raise ValueError(f"checkpoint={path}; {key} is {value}, not an int >= {least}; it is damaged or not of a run")
    return number


def check_value(path: Path | str, name: str, value: ms.Tensor) -> None:
    """ValueError if a parameter of the checkpoint ``path`` is not finite, or counts fewer steps than there can be."""
    array, least = value.asnumpy(), STEPS.get(name.rpartition(".")[2])
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError(f"checkpoint={path}; {name} is not finite; it is of a run that diverged, or damaged")
    if least is not None and (array < least).any():
        raise ValueError(f"checkpoint={path}; {name} is {array.min()}, less than {least}; it is damaged")
