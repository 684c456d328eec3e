"""BERT's TFRecord files, read in Python: MindSpore's reader takes any length, type and damage, and names no record."""
from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from models.bert.columns import COLUMNS, length_fault
from models.bert.example import read_features
from models.bert.framing import count_records, records

REMEDY = "make or copy the data again"


class TFRecords:
    """The records of some files, one after another; of R devices, each has as many consecutive ones.

    Where the records do not divide evenly, the last devices begin again with the first records.

    Args:
        files: of one kind; all are walked through here, which takes a microsecond or two a record.
        num_shards, shard_id: devices, and which one; None for all records.

    Raises:
        ValueError: a file is truncated or no TFRecord file.
    """

    def __init__(self, files: list[Path], num_shards: int | None = None, shard_id: int | None = None) -> None:
        self.files = files
        self.counts = np.array([count_records(file) for file in files], np.int64)
        self.total = int(self.counts.sum())
        self.length = -(-self.total // (num_shards or 1))
        self.start = self.length * (shard_id or 0)

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[tuple[np.ndarray, ...]]:
        """The columns of each record, int64 or float32, and its place among all records."""
        lengths: dict[str, int] = {}
        for step in range(self.start, self.start + self.length):
            place = step % self.total
            if step == self.start or place == 0:
                contents = self._contents(place)
            where, content = next(contents, ("", None))
            if content is None:
                raise ValueError(f"{self.where(place)}: is no longer there; the file was changed during the run")
            row = read_example(content, where)
            found = {name: len(values) for name, values in zip(COLUMNS, row)}
            if found != lengths:
                _check_lengths(found, lengths, where)
                lengths = found
            yield *row, np.int64(place)

    def where(self, place: int) -> str:
        """The name of the record at a place among all."""
        ends = np.cumsum(self.counts)
        index = int(np.searchsorted(ends, place, "right"))
        return f"{self.files[index]}: record {place - int(ends[index] - self.counts[index]) + 1}"

    def _contents(self, place: int) -> Iterator[tuple[str, bytes]]:
        """Name and bytes of the records from a place on."""
        for file, count in zip(self.files, self.counts.tolist()):
            if place < count:
                for number, content in records(file, place + 1):
                    yield f"{file}: record {number}", content
            place -= min(place, count)


def _check_lengths(found: dict[str, int], before: dict[str, int], where: str) -> None:
    fault = length_fault(found)
    if fault:
        raise ValueError(f"{where}: {fault}; {REMEDY}")
    for name, length in before.items():
        if found[name] != length:
            raise ValueError(f"{where}: has {found[name]} {name}, the records before have {length}; must be the same "
                             f"in all; {REMEDY}")


def read_example(content: bytes, where: str) -> list[np.ndarray]:
    """The columns ``(n,)`` of a tf.train.Example in the order of ``COLUMNS``; others in it are left out.

    Raises:
        ValueError: it is none, or a column is missing or of another type; the line begins with ``where``.
    """
    try:
        features = read_features(content)
    except ValueError:
        raise ValueError(f"{where}: is no tf.train.Example; {REMEDY}") from None
    row = []
    for name, kind in COLUMNS.items():
        values = features.get(name)
        if values is None:
            raise ValueError(f"{where}: has no {name}; must have {', '.join(COLUMNS)}; {REMEDY}")
        floats = kind == np.float32
        if (values.dtype == np.float32) != floats and values.size:
            raise ValueError(f"{where}: {name} must be {'floats' if floats else 'integers'}; {REMEDY}")
        row.append(values)
    return row
