"""Checkpoint files: which files of a folder are checkpoints, and what of one can be trusted.

MindSpore ends a checkpoint that it writes with ``crc_check`` with 17 bytes: the word ``crc_num`` and the CRC-32 of all
bytes before it. It reads a file without them as it is, only with a warning; here such a file is refused.
"""
from __future__ import annotations

import logging
import math
import os
import re
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np

from models.wire import BYTES, VARINT, fields, varint

BATCHES, SAMPLES, SEED, DIGEST = "run.batches", "run.samples_a_batch", "run.seed", "run.config"
OWED = "run.owed_loss"  # loss of the last batch, where an epoch ends with it that is still to be evaluated
EARLY_STOP = "run.early_stop"  # what models.callbacks.early_stop has seen, JSON
NOTES = (EARLY_STOP,)  # texts that callbacks keep in every checkpoint
BEST = "best.ckpt"  # the file of the best held-out metric, and that metric in it
BEST_VALUE = "run.best_value"
# parameters that count steps, and the least they can be
STEPS = {"global_step": 0, "step_of_last_refresh": -1, "averaged_step": 0}
COUNTERS = ("skipped_updates", "overflowed_updates")  # parameters that count from 0
OBSERVED = ("gradient_norm",)  # parameters that are only looked at
_NAME = re.compile(r"step-([0-9]+)\.ckpt")
_WIDTHS = {b"Bool": 1, b"Int8": 1, b"UInt8": 1, b"Int16": 2, b"UInt16": 2, b"Float16": 2, b"BFloat16": 2, b"Int32": 4,
           b"UInt32": 4, b"Float32": 4, b"Int64": 8, b"UInt64": 8, b"Float64": 8}  # bytes of a value
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
        contents = load(path)
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


def load(path: Path | str) -> dict[str, Any]:
    """``mindspore.load_checkpoint``, which logs a line of its own before it raises, without that line.

    Raises:
        ValueError: a tensor has another number of bytes than its shape says, which MindSpore does not compare.
    """
    _check_shapes(path)
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        return ms.load_checkpoint(str(path), crc_check=True)
    finally:
        logging.disable(before)


def _check_shapes(path: Path | str) -> None:
    """Walk through the messages of a checkpoint: values of a tag and a tensor of dimensions, type and bytes."""
    wanted: dict[bytes, int] = {}
    found: dict[bytes, int] = {}
    with open(path, "rb") as file:
        content = memoryview(file.read())
    sealed = bytes(content[-len(_WORD) - _DIGITS:-_DIGITS]) == _WORD
    for number, kind, value in fields(content[:-len(_WORD) - _DIGITS] if sealed else content):
        parts = {part: field for part, field_kind, field in fields(value) if field_kind == BYTES} \
            if (number, kind) == (1, BYTES) else {}
        if 1 in parts and 2 in parts:
            tensor = list(fields(parts[2]))
            width = _WIDTHS.get(next((bytes(field) for part, _, field in tensor if part == 2), b""))
            shape = [varint(field, 0)[0] for part, kind, field in tensor if (part, kind) == (1, VARINT)]
            if width is not None:
                name, size = bytes(parts[1]), sum(len(field) for part, _, field in tensor if part == 3)
                wanted[name] = width * (math.prod(shape) if size == 0 or shape != [0] else 1)  # [0] is a scalar's, too
                found[name] = found.get(name, 0) + size
    if wanted != found:
        raise ValueError("a tensor has another number of bytes than its shape says")
