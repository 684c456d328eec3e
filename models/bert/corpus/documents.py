"""Documents in plain-text files: a sentence or paragraph a line, a blank line between documents.

Files of WikiExtractor are read, too: there ``<doc ...>`` and ``</doc>`` are the borders and blank lines are not.
"""
from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from models.bert.corpus import CorpusError

PIECE_CHARACTERS = 1 << 20
SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[\"'(\[]?[A-Z0-9])|(?<=[。！？])\s*")


@dataclass
class Piece:
    """A document, or at most about ``PIECE_CHARACTERS`` characters of one.

    Attributes:
        lines: non-empty lines of text.
        starts: whether the document begins here; else it goes on from the piece before.
        bytes: bytes of the files that were read for it.
    """

    lines: list[str]
    starts: bool = True
    bytes: int = 0


def find_files(paths: Sequence[str | Path]) -> list[Path]:
    """The files ``paths`` name; of folders all that are not hidden, in alphabetical order, at any depth.

    Raises:
        CorpusError: a path does not exist, or a folder holds no files.
    """
    files: list[Path] = []
    for path in map(Path, paths):
        if path.is_file():
            files.append(path)
        elif not path.is_dir():
            raise CorpusError(f"input={path}; must be a text file or a folder of them; there is nothing at that path")
        else:
            found = [file for file in sorted(path.rglob("*")) if file.is_file() and not _is_hidden(file, path)]
            if not found:
                raise CorpusError(f"input={path}; holds no files; give a text file or a folder of them")
            files.extend(found)
    return files


def read_documents(file: Path) -> Iterator[Piece]:
    """The documents of one file.

    Raises:
        CorpusError: the file cannot be read as UTF-8 text.
    """
    piece, characters, in_tags = Piece([]), 0, False
    for line, size in _lines(file):
        piece.bytes += size
        opens, closes = line.startswith("<doc ") and line.endswith(">"), line == "</doc>"
        in_tags = opens or (in_tags and not closes)
        ends = opens or closes or (not line and not in_tags)
        if line and not (opens or closes):
            piece.lines.append(line)
            characters += len(line)
        if piece.lines and (ends or characters >= PIECE_CHARACTERS):
            yield piece
        if ends or characters >= PIECE_CHARACTERS:
            piece = Piece([], starts=ends, bytes=0 if piece.lines else piece.bytes)
            characters = 0
    if piece.lines:
        yield piece


def sentences(line: str) -> list[str]:
    """The sentences of a line; the line itself where no end of a sentence is found."""
    return [part for part in SENTENCE_END.split(line) if part]


def _lines(file: Path) -> Iterator[tuple[str, int]]:
    """(stripped line, bytes), lines longer than a piece in parts."""
    try:
        with open(file, encoding="utf-8") as stream:
            for line in iter(lambda: stream.readline(PIECE_CHARACTERS), ""):
                yield line.replace("\0", " ").strip(), len(line.encode())
    except UnicodeDecodeError:
        raise CorpusError(f"{file}: is not UTF-8 text; convert it or leave it out") from None
    except OSError as error:
        raise CorpusError(f"{file}: cannot be read: {error.strerror}; leave it out") from None


def _is_hidden(file: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(folder).parts)
