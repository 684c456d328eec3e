"""Files of a run: whole or not at all, and what cannot be written as one line. Does not import MindSpore."""
from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from models.command_line import LoadError, one_line

ROOM = "make room or make its folder writable, the same command then goes on with the newest checkpoint"
GONE = "its folder was deleted or moved; put it back, or start the run anew with the same command"


class WriteError(LoadError, OSError):
    """A file of a run that cannot be written; told in one line, exit status 1."""


def cannot_write(path: Path, error: Exception, what: str = "file") -> WriteError:
    """The line for ``path`` that ``error`` kept from being written, with the remedy.

    Args:
        what: name of the path in the line, as in ``checkpoint=PATH``.
    """
    reason = getattr(error, "strerror", None) or one_line(error)
    remedy = ROOM if path.parent.exists() else GONE
    return WriteError(f"{what}={path}; cannot be written: {reason}; {remedy}")


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn the OSError of a write to ``path`` into a WriteError."""
    try:
        yield
    except WriteError:
        raise
    except OSError as error:
        raise cannot_write(path, error) from error


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """The path to write instead of ``path``, whose place it takes when it is whole; gone if it does not become so.

    Raises:
        WriteError: it cannot be written; what ``path`` held before stays.
    """
    part = path.with_name(path.name + ".part")
    try:
        with writing(path):
            yield part
            part.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink()
        raise
