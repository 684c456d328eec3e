"""What a preparation wrote down of its files: sizes and checksums, compared before MindSpore opens them.

MindSpore's reader ends the process, or reads on, where a byte of a MindRecord file or of its index was changed.
"""
from __future__ import annotations

import functools
import sys
import zlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from models.bert.corpus import CORPUS, HELD_OUT, TRAIN, WORK
from models.bert.corpus.notes import damaged, read_json

BLOCK = 1 << 20
LONGEST = 200  # characters of a file's name
MINDRECORD, INDEX = ".mindrecord", ".db"
PROGRAM = "models.bert.prepare"


def read_note(path: Path) -> dict[str, Any]:
    """A corpus.json.

    Raises:
        CorpusError: it is damaged or of another program.
    """
    note = read_json(path, {})
    for key in ("bytes", "crc32"):
        values = note.get(key, {})
        if not isinstance(values, dict) or not all(map(_is_entry, values, values.values())):
            raise damaged(path)
    return note


def _is_entry(name: str, value: Any) -> bool:
    return isinstance(value, int) and name.startswith((f"{TRAIN}/", f"{HELD_OUT}/")) and name.isprintable() and \
        len(name) < LONGEST


def remedy(program: str = PROGRAM) -> str:
    """What to do where the data of ``program`` are missing or damaged."""
    return f"make the data with python -m {program}"


def check_files(root: Path, files: Iterable[Path], workers: int, program: str = PROGRAM) -> None:
    """Compare ``files``, and all sizes, with the corpus.json in ``root``, if there is one.

    MindRecord files that have no checksum are read unchecked; one line on stderr says so.

    Args:
        root: folder of the data.
        files: that are to be opened; MindRecord files have their index beside them.
        workers: threads that read.
        program: that makes such data.

    Raises:
        ValueError: a file is not as it was written.
    """
    if (root / WORK).exists():
        raise ValueError(f"{root}: its preparation was interrupted; run the same python -m {program} again")
    note = read_note(root / CORPUS) if (root / CORPUS).is_file() else {}
    for name, size in note.get("bytes", {}).items():
        found = (root / name).stat().st_size if (root / name).exists() else 0
        if found != size:
            raise ValueError(f"{root / name}: has {found} bytes, {size} were written; it is truncated or changed; "
                             f"delete {root} and {remedy(program)}")
    opened = [part for file in files if file.suffix == MINDRECORD for part in (file, Path(f"{file}{INDEX}"))]
    sums = {root / name: crc for name, crc in note.get("crc32", {}).items()}
    if any(file not in sums for file in opened):
        _say_unchecked(opened[0].parent, program)
    for name, crc in checksums([file for file in opened if file in sums], workers).items():
        if crc != sums[name]:
            raise ValueError(f"{name}: its contents are not those that were written; it is damaged; delete {root} and "
                             f"{remedy(program)}")


@functools.cache  # once a process
def _say_unchecked(folder: Path, program: str) -> None:
    print(f"{folder}: has no checksums, damaged MindRecord files are not noticed; data that {program} makes anew have "
          "them", file=sys.stderr)


def checksums(files: list[Path], workers: int) -> dict[Path, int]:
    """CRC-32 of each file, read by ``workers`` threads."""
    with ThreadPoolExecutor(workers) as pool:
        return dict(zip(files, pool.map(_crc32, files)))


def note_of(output: Path, workers: int) -> dict[str, dict[str, int]]:
    """What corpus.json keeps of the files in the folders train and held_out."""
    files = [file for split in (TRAIN, HELD_OUT) for file in sorted((output / split).iterdir())]
    sums = checksums(files, workers)
    return {"bytes": {str(file.relative_to(output)): file.stat().st_size for file in files},
            "crc32": {str(file.relative_to(output)): sums[file] for file in files}}


def _crc32(file: Path) -> int:
    crc = 0
    with open(file, "rb", buffering=0) as stream:
        for block in iter(partial(stream.read, BLOCK), b""):
            crc = zlib.crc32(block, crc)
    return crc
