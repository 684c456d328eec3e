"""tf.train.Example messages (tensorflow/core/example/example.proto) to arrays.

MindSpore sets protobuf to its Python implementation, which takes milliseconds for a record; this takes a tenth of one.
"""
from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from models.wire import BYTES, FIXED32, LONGEST, VARINT, fields

FLOATS, INTEGERS = 2, 3  # numbers of the fields of a Feature


def read_features(content: bytes) -> dict[str, np.ndarray]:
    """The features of an Example: int64 or float32 ``(n,)``; those of bytes, and empty ones, as int64 ``(0,)``.

    Raises:
        ValueError: it is no such message.
    """
    found = {}
    for features in _messages(content, 1):
        for entry in _messages(features, 1):
            name, feature = b"", b""
            for number, kind, value in fields(entry):
                if kind == BYTES and number == 1:
                    name = value
                elif kind == BYTES and number == 2:
                    feature = value
            found[name.decode("utf-8", "replace")] = _values(feature)
    return found


def _values(feature: bytes) -> np.ndarray:
    for number, kind, content in fields(feature):
        if kind == BYTES and number in (FLOATS, INTEGERS):
            parts = [_part(number, *field[1:]) for field in fields(content) if field[0] == 1]
            kind_of = np.float32 if number == FLOATS else np.int64
            return parts[0] if len(parts) == 1 else np.concatenate([np.zeros(0, kind_of), *parts])
    return np.zeros(0, np.int64)


def _part(number: int, kind: int, value: bytes) -> np.ndarray:
    """Values of a list that stand together, packed or one by one."""
    if number == FLOATS and kind in (BYTES, FIXED32):
        return np.frombuffer(value, "<f4").astype(np.float32, copy=False)  # ValueError for a broken one
    if number == INTEGERS and kind in (BYTES, VARINT):
        return _integers(np.frombuffer(value, np.uint8))
    raise ValueError("a list of another type")


def _integers(content: np.ndarray) -> np.ndarray:
    """Integers of seven bits a byte, the lowest first; all bytes but the last have their highest bit set."""
    last = content < 128
    if last.all():
        return content.astype(np.int64)
    ends = np.flatnonzero(last)
    if not last[-1]:
        raise ValueError("an integer without an end")
    starts = np.concatenate(([0], ends[:-1] + 1))
    lengths = ends - starts + 1
    if lengths.max() > LONGEST:
        raise ValueError("an integer that is too long")
    bits = (content & 127).astype(np.uint64)
    values = bits[starts]
    for place in range(1, int(lengths.max())):
        longer = lengths > place
        values[longer] |= bits[starts[longer] + place] << np.uint64(7 * place)
    return values.view(np.int64)


def _messages(content: bytes, number: int) -> Iterator[bytes]:
    return (value for found, kind, value in fields(content) if found == number and kind == BYTES)
