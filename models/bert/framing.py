"""The framing of TFRecord files: how many records there are, and the bytes of each, with their checksums.

A record is its length (uint64, little endian), 4 bytes of checksum, its bytes, and 4 bytes of checksum
(https://www.tensorflow.org/tutorials/load_data/tfrecord). Records are numbered from 1 on.
"""
from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path

from models.bert.crc32c import masked_crc32c

LENGTH, CHECKSUM = 8, 4
BUFFER = 1 << 20
REMEDY = "copy it again"


def count_records(file: Path) -> int:
    """Walk through the lengths of the records.

    Raises:
        ValueError: it does not end with the end of a record, or a length that led there is damaged.
    """
    count = place = 0
    with open(file, "rb", buffering=0) as stream:
        size = os.fstat(stream.fileno()).st_size
        while place < size:
            head = os.pread(stream.fileno(), LENGTH, place)
            place += LENGTH + CHECKSUM + int.from_bytes(head, "little") + CHECKSUM
            if len(head) < LENGTH or place > size:
                damaged = _first_damaged_length(file)
                raise length_error(file, damaged) if damaged else \
                    ValueError(f"{file}: ends within a record; it is truncated; {REMEDY}")
            count += 1
    return count


def records(file: Path, first: int = 1) -> Iterator[tuple[int, bytes]]:
    """(number, bytes) of the records from ``first`` on; ValueError at one whose checksum is wrong."""
    with open(file, "rb", BUFFER) as stream:
        size, number = os.fstat(stream.fileno()).st_size, 0
        while head := stream.read(LENGTH + CHECKSUM):
            number += 1
            length = int.from_bytes(head[:LENGTH], "little")
            if number < first:
                stream.seek(min(length, size) + CHECKSUM, os.SEEK_CUR)
                continue
            if not _is_sound(head) or length > size:
                raise length_error(file, number)
            content = stream.read(length + CHECKSUM)
            if len(content) < length + CHECKSUM:
                raise ValueError(f"{file}: ends within a record; it is truncated; {REMEDY}")
            if not _is_sound(content):
                raise ValueError(f"{file}: record {number} is damaged: its checksum is wrong; {REMEDY}")
            yield number, content[:-CHECKSUM]


def length_error(file: Path, number: int) -> ValueError:
    """What is said of a length whose checksum is wrong."""
    if number == 1:
        return ValueError(f"{file}: is no TFRecord file, or damaged where it begins; {REMEDY}")
    return ValueError(f"{file}: record {number} is damaged: the checksum of its length is wrong; {REMEDY}")


def _is_sound(content: bytes) -> bool:
    return struct.pack("<I", masked_crc32c(content[:-CHECKSUM])) == content[-CHECKSUM:]


def _first_damaged_length(file: Path) -> int:
    """Number of the first record whose length has a wrong checksum; 0 if there is none."""
    with open(file, "rb", BUFFER) as stream:
        size, number = os.fstat(stream.fileno()).st_size, 0
        while len(head := stream.read(LENGTH + CHECKSUM)) == LENGTH + CHECKSUM:
            number += 1
            if not _is_sound(head):
                return number
            stream.seek(min(int.from_bytes(head[:LENGTH], "little"), size) + CHECKSUM, os.SEEK_CUR)
    return 0
