"""Documents to parts on disk, so that the rest works on one part at a time.

Where a document goes is a hash of its text and the seed: parts are random samples, equal documents end in the
same part, and so a document held out is never trained on, however often the input repeats it.
"""
from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from models.bert.corpus import HELD_OUT, TRAIN
from models.bert.corpus.documents import Piece


@dataclass(frozen=True)
class Parts:
    """How many parts there are, and the share of the documents that is held out.

    Attributes:
        train, held_out: parts of each split.
        share: of the documents that is held out.
        longest: characters of a document in one part; what is longer goes on as another document of the same split.
    """

    train: int
    held_out: int
    share: float
    longest: int = 1 << 24

    def names(self) -> list[tuple[str, int]]:
        """(split, index) of every part."""
        return [(TRAIN, i) for i in range(self.train)] + [(HELD_OUT, i) for i in range(self.held_out)]

    def count(self, split: str) -> int:
        """Parts of a split."""
        return self.held_out if split == HELD_OUT else self.train


def part_path(folder: Path, split: str, index: int) -> Path:
    """The text of a part: a sentence or paragraph a line, a blank line between documents."""
    return folder / f"{split}-{index:05d}.txt"


def partition(pieces: Iterable[Piece], folder: Path, parts: Parts, seed: int) -> dict[str, int]:
    """Write every document to its part.

    Returns:
        Number of documents in each split.
    """
    documents = {TRAIN: 0, HELD_OUT: 0}
    with ExitStack() as stack:
        streams = {name: stack.enter_context(open(part_path(folder, *name), "w", encoding="utf-8"))
                   for name in parts.names()}
        split, stream, length = TRAIN, None, 0
        for piece in pieces:
            if not piece.lines:
                continue
            text = "\n".join(piece.lines)
            begins = piece.starts or stream is None
            if begins or length >= parts.longest:
                found, index = place(text, parts, seed)
                if begins:
                    split = found
                    documents[split] += 1
                stream, length = streams[split, index % parts.count(split)], 0
                stream.write("\n")
            stream.write(text + "\n")
            length += len(text)
    return documents


def place(text: str, parts: Parts, seed: int) -> tuple[str, int]:
    """(split, index) of the part a document goes to."""
    digest = hashlib.blake2b(text.encode(), digest_size=16, key=seed.to_bytes(8, "big")).digest()
    split = HELD_OUT if int.from_bytes(digest[:8], "big") < parts.share * 2 ** 64 else TRAIN
    return split, int.from_bytes(digest[8:], "big") % parts.count(split)


def read_part(path: Path) -> Iterator[list[str]]:
    """The documents of a part, as lists of lines."""
    lines: list[str] = []
    with open(path, encoding="utf-8", newline="\n") as stream:
        for line in stream:
            line = line.rstrip("\n")
            if line:
                lines.append(line)
            elif lines:
                yield lines
                lines = []
    if lines:
        yield lines
