"""The wire format of protobuf messages, read without classes (https://protobuf.dev/programming-guides/encoding)."""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
LONGEST = 10  # bytes of an integer


def fields(content: bytes | memoryview) -> Iterator[tuple[int, int, Any]]:
    """(number, wire type, bytes) of the fields of a message; of integers their bytes as they are.

    Raises:
        ValueError: it is no message.
    """
    place = 0
    while place < len(content):
        tag, place = varint(content, place)
        kind, start = tag & 7, place
        if kind == VARINT:
            _, place = varint(content, place)
        elif kind == BYTES:
            length, start = varint(content, place)
            place = start + length
        elif kind in (FIXED64, FIXED32):
            place += 8 if kind == FIXED64 else 4
        else:
            raise ValueError("a field of an unknown type")
        if place > len(content):
            raise ValueError("a field without an end")
        yield tag >> 3, kind, content[start:place]


def varint(content: bytes | memoryview, place: int) -> tuple[int, int]:
    """The integer at a place, and where it ends."""
    value = shift = 0
    while True:
        if place >= len(content) or shift >= 7 * LONGEST:
            raise ValueError("an integer without an end")
        byte = content[place]
        value |= (byte & 127) << shift
        place, shift = place + 1, shift + 7
        if byte < 128:
            return value, place
