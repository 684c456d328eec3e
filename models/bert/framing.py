"""TFRecord files are whole: MindSpore takes one that is cut off inside a record's header for a shorter one.

A record is its length (uint64, little endian), 4 bytes of checksum, its bytes, and 4 bytes of checksum
(https://www.tensorflow.org/tutorials/load_data/tfrecord).
"""
from __future__ import annotations

import struct
from pathlib import Path

LENGTH, CHECKSUM = 8, 4
LARGEST = 2 ** 30  # bytes of a file that is walked through; larger ones would delay the start


def check_whole(file: Path) -> None:
    """Walk through the records of a TFRecord file of up to 1 GiB.

    Raises:
        ValueError: it does not end with the end of a record.
    """
    size = file.stat().st_size
    if size > LARGEST:
        return
    with open(file, "rb") as stream:
        place = 0
        while place < size:
            stream.seek(place)
            head = stream.read(LENGTH)
            if len(head) == LENGTH:
                place += LENGTH + CHECKSUM + struct.unpack("<Q", head)[0] + CHECKSUM
            if len(head) < LENGTH or place > size:
                raise ValueError(f"{file}: ends within a record; it is truncated; copy it again")
