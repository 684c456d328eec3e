"""Encoded images before MindSpore decodes them: its decoder crashes or hangs on some JPEG files that are damaged.

Only what the decoder relies on is walked through, the markers of a JPEG file (ITU-T T.81, annex B) and the chunks of a
PNG file (RFC 2083): some ten microseconds an image. Whether the pixels are right is left to the decoder.
"""
from __future__ import annotations

import re
import zlib
from collections.abc import Iterator

import numpy as np

MOST_PIXELS = 178_956_970  # what Pillow refuses as a decompression bomb; half a GB decoded
REMEDY = "delete or replace it"
_PNG = b"\x89PNG\r\n\x1a\n"
_START = b"\xff\xd8"
_HUFFMAN, _FINISH, _SCAN, _QUANTIZATION, _LINES, _RESTARTS, _COMMENT = 0xC4, 0xD9, 0xDA, 0xDB, 0xDC, 0xDD, 0xFE
_FRAMES = {0xC0, 0xC1, 0xC2}  # baseline, extended and progressive Huffman coding; the others are hardly ever met
_OTHER_FRAMES = {0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF}
_PASSED_OVER = {_LINES, _RESTARTS, _COMMENT, *range(0xE0, 0xF0)}
_MOST_BLOCKS = 10  # of a unit of a scan of several components (T.81, B.2.3)
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]", re.DOTALL)  # in coded data 00 and restarts belong to these
_BITS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}  # depths of PNG's colour types


class CheckedImage:
    """A step of a data pipeline: the bytes of an image as they are, or ValueError saying what is wrong with them."""

    def __call__(self, content: np.ndarray) -> np.ndarray:
        check_image(content.tobytes())
        return content


def check_image(content: bytes) -> None:
    """Refuse what is not a whole JPEG or PNG file.

    Raises:
        ValueError: one line that says what is wrong, without the name of the file.
    """
    if content.startswith(_START):
        _Jpeg(content).check()
    elif content.startswith(_PNG):
        _check_png(content)
    else:
        raise _damaged("is empty" if not content else "is neither a JPEG nor a PNG file")


def _damaged(what: str) -> ValueError:
    return ValueError(f"{what}; {REMEDY}")


def _check_size(width: int, height: int) -> None:
    if width < 1 or height < 1:
        raise _damaged(f"its header says {width} x {height} pixels")
    if width * height > MOST_PIXELS:
        raise _damaged(f"its header says {width} x {height} pixels, more than {MOST_PIXELS}")


class _Jpeg:
    """The segments of a JPEG file up to its end."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.components: dict[int, tuple[int, int]] = {}  # identifier: blocks of a unit, table of quantization
        self.progressive = False
        self.tables: set[int] = set()  # of quantization
        self.codes: set[int] = set()  # Huffman tables: class * 16 + number

    def check(self) -> None:
        """Walk through all segments; coded data are passed over to the next marker."""
        place, scans = 2, 0
        while True:
            marker, place = self._marker(place, scans)
            if marker == _FINISH:
                break
            if marker == 0x01 or 0xD0 <= marker <= 0xD7:
                continue
            segment = self._segment(place)
            place += 2 + len(segment)
            if marker == _SCAN:
                self._scan(segment)
                scans += 1
            else:
                self._table(marker, segment)
        if not scans:
            raise _damaged("has no picture")

    def _marker(self, place: int, scans: int) -> tuple[int, int]:
        """The next marker from ``place`` on and where its segment begins."""
        if scans:
            found = _MARKER.search(self.content, place)
            if found is None:
                raise _damaged("ends within the picture; it is truncated")
            return found[0][1], found.end()
        start = place
        while self.content[place:place + 1] == b"\xff":
            place += 1
        if place >= len(self.content):
            raise _damaged("ends within its header; it is truncated")
        if place == start or self.content[place] == 0:
            raise _damaged(f"has no JPEG marker at byte {start}")
        return self.content[place], place + 1

    def _segment(self, place: int) -> bytes:
        length = int.from_bytes(self.content[place:place + 2], "big")
        if place + max(length, 2) > len(self.content):
            raise _damaged("ends within its header; it is truncated")
        if length < 2:
            raise _damaged(f"has a JPEG segment of length {length} at byte {place}")
        return self.content[place + 2:place + length]

    def _table(self, marker: int, segment: bytes) -> None:
        if marker == _QUANTIZATION:
            self._quantization(segment)
        elif marker == _HUFFMAN:
            self._huffman(segment)
        elif marker in _FRAMES:
            self._frame(segment, marker == 0xC2)
        elif marker in _OTHER_FRAMES:
            raise _damaged(f"is coded in a way (FF{marker:02X}) that is not read")
        elif marker == _RESTARTS and len(segment) != 2 or marker not in _PASSED_OVER:
            raise _damaged(f"has an unexpected JPEG segment FF{marker:02X}")

    def _quantization(self, segment: bytes) -> None:
        place = 0
        while place < len(segment):
            wide, number = divmod(segment[place], 16)
            place += 1 + 64 * (1 + wide)
            if wide > 1 or number > 3 or place > len(segment):
                raise _damaged("has a damaged table of quantization")
            self.tables.add(number)

    def _huffman(self, segment: bytes) -> None:
        place = 0
        while place < len(segment):
            kind, number = divmod(segment[place], 16)
            counts = segment[place + 1:place + 17]
            symbols = segment[place + 17:place + 17 + sum(counts)]
            place += 17 + sum(counts)
            if kind > 1 or number > 3 or sum(counts) > 256 or place > len(segment) or not _is_prefix_code(counts):
                raise _damaged("has a damaged Huffman table")
            if kind == 0 and symbols and max(symbols) > 15:
                raise _damaged("has a damaged Huffman table")
            self.codes.add(kind * 16 + number)

    def _frame(self, segment: bytes, progressive: bool) -> None:
        if self.components:
            raise _damaged("has two frames")
        count = segment[5] if len(segment) > 5 else 0
        if count not in (1, 3, 4) or len(segment) != 6 + 3 * count or segment[0] != 8:
            raise _damaged("has a damaged frame header")
        _check_size(int.from_bytes(segment[3:5], "big"), int.from_bytes(segment[1:3], "big"))
        for place in range(6, len(segment), 3):
            across, down = divmod(segment[place + 1], 16)
            if not (1 <= across <= 4 and 1 <= down <= 4) or segment[place + 2] > 3:
                raise _damaged("has a damaged frame header")
            self.components[segment[place]] = (across * down, segment[place + 2])
        if len(self.components) != count:
            raise _damaged("has a damaged frame header")
        self.progressive = progressive

    def _scan(self, segment: bytes) -> None:
        count = segment[0] if segment else 0
        if not self.components or not 1 <= count <= len(self.components) or len(segment) != 4 + 2 * count:
            raise _damaged("has a damaged scan header")
        names = segment[1:-3:2]
        if len(set(names)) < count or not self.components.keys() >= set(names):
            raise _damaged("has a damaged scan header")
        if count > 1 and sum(self.components[name][0] for name in names) > _MOST_BLOCKS:
            raise _damaged("has a damaged frame header")
        if not self.tables.issuperset(self.components[name][1] for name in names):
            raise _damaged("lacks a table of quantization")
        first, last, bits = segment[-3:]
        if self.progressive and not _is_progression(first, last, *divmod(bits, 16), count):
            raise _damaged("has a damaged scan header")
        if not self.codes.issuperset(self._codes_of(segment[2:-3:2], first, bits)):
            raise _damaged("lacks a Huffman table")

    def _codes_of(self, numbers: bytes, first: int, bits: int) -> Iterator[int]:
        """The Huffman tables a scan decodes with."""
        for number in numbers:
            direct, alternating = divmod(number, 16)
            if not self.progressive or (first == 0 and bits < 16):
                yield direct
            if not self.progressive or first > 0:
                yield 16 + alternating


def _is_prefix_code(counts: bytes) -> bool:
    """Whether codes of these numbers, of 1 to 16 bits, fit into a prefix code that leaves the code of ones free."""
    free = 1
    for count in counts:
        free = 2 * free - count
        if free < 0:
            return False
    return True


def _is_progression(first: int, last: int, before: int, after: int, count: int) -> bool:
    """Whether a scan of a progressive file has these coefficients and bits (T.81, annex G.1.1)."""
    if first == 0:
        coefficients = last == 0
    else:
        coefficients = first <= last <= 63 and count == 1
    return coefficients and after <= 13 and before in (0, after + 1)


def _check_png(content: bytes) -> None:
    place, kind = len(_PNG), b""
    while kind != b"IEND":
        length, kind = int.from_bytes(content[place:place + 4], "big"), content[place + 4:place + 8]
        end = place + 12 + length
        if len(kind) < 4 or end > len(content):
            raise _damaged("ends within a PNG chunk; it is truncated or damaged")
        if zlib.crc32(content[place + 4:end - 4]) != int.from_bytes(content[end - 4:end], "big"):
            raise _damaged(f"has a damaged PNG chunk at byte {place}")
        if (kind == b"IHDR") != (place == len(_PNG)):
            raise _damaged("does not begin with its header")
        if kind == b"IHDR":
            _check_png_header(content[place + 8:end - 4])
        place = end


def _check_png_header(header: bytes) -> None:
    if len(header) != 13 or header[8] not in _BITS.get(header[9], ()) or header[10:12] != b"\0\0" or header[12] > 1:
        raise _damaged("has a damaged PNG header")
    _check_size(int.from_bytes(header[:4], "big"), int.from_bytes(header[4:8], "big"))
