"""The command line of scripts/run_distribute_train.sh, in both forms, to the words ``python -m models.launch`` takes.

``python arguments.py WORD...`` writes the words, each followed by a NUL byte, or one line about what is wrong; status 1
for a value that cannot be used, 2 where the usage must be shown. It runs before anything is installed, as a file: it
needs Python's own library alone.
"""
from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

PORT = 8118
LAST_PORT = 65535
MODULE = "models.train"
MOST_WORKERS, MOST_NODES = 4096, 65536
LONGEST = 200  # characters of a value that a message shows


class Misused(Exception):
    """A command line of neither form."""


class Unusable(Exception):
    """A value that cannot be used, told in one line."""


class Parser(argparse.ArgumentParser):
    """Raises Misused where argparse would end the process."""

    def error(self, message: str) -> NoReturn:
        raise Misused(message)


def add_options(made: argparse.ArgumentParser) -> None:
    """The options that say how many processes there are and where; parsing raises Unusable, see ``check_node``."""
    made.add_argument("--workers", type=count("--workers", 1, MOST_WORKERS), metavar="N",
                      help="processes on this machine")
    made.add_argument("--nodes", type=count("--nodes", 1, MOST_NODES), default=1, metavar="M", help="machines")
    made.add_argument("--node-rank", type=count("--node-rank", 0, MOST_NODES - 1), default=0, metavar="R",
                      help="number of this machine, from 0")
    made.add_argument("--master", type=address, default=f"127.0.0.1:{PORT}", metavar="ADDRESS:PORT",
                      help="the first machine")
    made.add_argument("--rank-table", metavar="FILE", help="a rank table of HCCL instead of all these")


def number(text: str) -> int:
    """The int that digits write, -1 for other text and for more digits than any number here has."""
    return int(text) if re.fullmatch("[0-9]{1,9}", text, re.ASCII) else -1


def shown(text: str) -> str:
    """A value as a message has room for it, in one line."""
    line = "".join(letter if letter.isprintable() else "?" for letter in text[:LONGEST])
    return line if len(text) <= LONGEST else f"{line}... ({len(text)} characters)"


def count(name: str, least: int, most: int) -> Callable[[str], int]:
    """An argparse type: an int from ``least`` to ``most``."""
    def convert(text: str) -> int:
        if not least <= number(text) <= most:
            raise Unusable(f"{name}={shown(text)}; must be an int from {least} to {most}")
        return number(text)
    return convert


def address(text: str) -> str:
    """An argparse type: ADDRESS:PORT."""
    host, _, port = text.rpartition(":")
    if not re.fullmatch(r"[\w.-]{1,255}", host) or not 1 <= number(port) <= LAST_PORT:
        raise Unusable(f"--master={shown(text)}; must be ADDRESS:PORT with a port from 1 to {LAST_PORT}; give the "
                       "first machine's name or IPv4 address and a free port of it")
    return text


def check_node(options: argparse.Namespace) -> None:
    """Unusable unless the number of this machine is one of the machines'."""
    if options.node_rank >= options.nodes:
        raise Unusable(f"--node-rank={options.node_rank}; must be below --nodes={options.nodes}")


def _words_of_options(words: Sequence[str]) -> list[str]:
    """The form for any device: ``--workers N [--nodes M ...] CONFIG_PATH [--key value ...]``.

    Raises:
        Misused, Unusable: it is not of this form, or a value cannot be used.
    """
    made = Parser(add_help=False, allow_abbrev=False)
    add_options(made)
    made.add_argument("config")
    made.add_argument("overrides", nargs=argparse.REMAINDER)
    options = made.parse_args(words)
    if options.workers is None:
        raise Misused("--workers is needed")
    check_node(options)
    launch = ["--workers", str(options.workers)]
    if options.rank_table:
        launch += ["--rank-table", _file_path("--rank-table", options.rank_table)]
    else:
        launch += ["--nodes", str(options.nodes), "--node-rank", str(options.node_rank), "--master", options.master]
    return [*launch, MODULE, "--config", _file_path("CONFIG_PATH", options.config), *options.overrides]


def _words_of_rank_table(words: Sequence[str]) -> list[str]:
    """The form for Ascend servers: ``RANK_TABLE_FILE DATASET_PATH CONFIG_PATH [RESUME_CKPT] [--key value ...]``.

    Raises:
        Misused, Unusable: it is not of this form, or a path is not there.
    """
    if len(words) < 3 or any(word.startswith("--") for word in words[:3]):
        raise Misused("three paths are needed")
    (table, dataset, config), rest = words[:3], list(words[3:])
    launch = ["--rank-table", _file_path("RANK_TABLE_FILE", table), MODULE]
    data = [] if dataset == "none" else ["--data.path", _folder_path("DATASET_PATH", dataset)]
    launch += ["--config", _file_path("CONFIG_PATH", config), *data]
    if rest and not rest[0].startswith("--"):
        launch += ["--train.resume", _file_path("RESUME_CKPT", rest.pop(0))]
    return [*launch, *rest]


def _file_path(name: str, path: str) -> str:
    """The whole path of a file; Unusable if it is none."""
    if not os.path.isfile(path):  # False for names no file system takes, where Path raises
        raise Unusable(f"{name}={shown(path)} is not a file")
    return str(Path(path).resolve())


def _folder_path(name: str, path: str) -> str:
    """The whole path of a directory; Unusable if it is none."""
    if not os.path.isdir(path):
        raise Unusable(f"{name}={shown(path)} is not a directory")
    return str(Path(path).resolve())


def main(words: Sequence[str]) -> int:
    """Write what the words of the script become; the exit status."""
    read = _words_of_options if not words or words[0].startswith("--") else _words_of_rank_table
    try:
        sys.stdout.write("".join(f"{word}\0" for word in read(words)))
    except Misused:
        return 2
    except Unusable as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
