"""Dynamic symbols, needed libraries and texts of 64-bit shared libraries, read without any tool.

Only the sections asked for are read: of an 800 MB library that holds GPU code, a few hundred kB.
"""
from __future__ import annotations

import mmap
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

DYNSYM, DYNAMIC, NEEDED_VERSIONS, VERSION_OF_SYMBOL = 11, 6, 0x6FFFFFFE, 0x6FFFFFFF
NEEDED, GLOBAL, WEAK = 1, 1, 2


class Section(NamedTuple):
    """A row of the section table: offset and size in bytes, link the number of the section it refers to."""

    name: str
    kind: int
    offset: int
    size: int
    link: int


class Library:
    """A shared library.

    Attributes:
        path: of the file.
        needed: file names of the libraries it is linked with.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not a 64-bit little-endian ELF file.
    """

    def __init__(self, path: Path):
        self.path = path
        with open(path, "rb") as file:
            self.data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        if self.data[:6] != b"\x7fELF\x02\x01":
            raise ValueError(f"{path} is not a shared library of a 64-bit little-endian machine")
        self.sections = self._sections()
        self.needed = self._needed()

    def imports(self) -> Iterator[tuple[str, str, bool]]:
        """(symbol, version or "", weak) of every symbol to be found elsewhere; weak ones may be missing."""
        versions = self._versions()
        numbers = self._content(VERSION_OF_SYMBOL)
        for index, (name, binding, defined) in enumerate(self._symbols()):
            if name and not defined and binding in (GLOBAL, WEAK):
                number = struct.unpack_from("<H", numbers, 2 * index)[0] & 0x7FFF if numbers else 0
                yield name, versions.get(number, ""), binding == WEAK

    def exports(self) -> Iterator[str]:
        """Every symbol others can find here."""
        return (name for name, binding, defined in self._symbols() if defined and binding in (GLOBAL, WEAK))

    def texts(self, pattern: bytes) -> set[str]:
        """The constant strings of its read-only data that match ``pattern`` as a whole."""
        whole = re.compile(rb"\0(" + pattern + rb")(?=\0)")
        return {text.decode() for section in self.sections if section.name.startswith(".rodata")
                for text in whole.findall(self.data[section.offset:section.offset + section.size])}

    def _sections(self) -> list[Section]:
        start, = struct.unpack_from("<Q", self.data, 0x28)
        size, count, of_names = struct.unpack_from("<HHH", self.data, 0x3A)
        rows = [struct.unpack_from("<IIQQQQI", self.data, start + i * size) for i in range(count)]
        names = rows[of_names][4] if rows else 0
        return [Section(self._text(names + row[0]), row[1], row[4], row[5], row[6]) for row in rows]

    def _text(self, offset: int) -> str:
        return self.data[offset:self.data.find(b"\0", offset)].decode()

    def _find(self, kind: int) -> Section | None:
        return next((section for section in self.sections if section.kind == kind), None)

    def _content(self, kind: int) -> bytes:
        section = self._find(kind)
        return self.data[section.offset:section.offset + section.size] if section else b""

    def _needed(self) -> tuple[str, ...]:
        section = self._find(DYNAMIC)
        texts = self.sections[section.link].offset if section else 0
        return tuple(self._text(texts + value) for tag, value in struct.iter_unpack("<QQ", self._content(DYNAMIC))
                     if tag == NEEDED)

    def _symbols(self) -> Iterator[tuple[str, int, bool]]:
        section = self._find(DYNSYM)
        if section is None:
            return
        texts = self.sections[section.link]
        names = self.data[texts.offset:texts.offset + texts.size]
        for start, info, _, place, _, _ in struct.iter_unpack("<IBBHQQ", self._content(DYNSYM)):
            yield names[start:names.find(b"\0", start)].decode(), info >> 4, place != 0

    def _versions(self) -> dict[int, str]:
        """The version each number in the table of symbol versions stands for; those of imports only."""
        section, versions = self._find(NEEDED_VERSIONS), {}
        if section is None:
            return versions
        texts, here, more = self.sections[section.link].offset, section.offset, 1
        while more:
            count, _, entry, more = struct.unpack_from("<HIII", self.data, here + 2)
            entry += here
            for _ in range(count):
                _, _, number, name, following = struct.unpack_from("<IHHII", self.data, entry)
                versions[number & 0x7FFF] = self._text(texts + name)
                entry += following
            here += more
        return versions
