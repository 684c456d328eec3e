"""The options that say how many processes there are and where, and what a value of them may be.

Needs Python's own library alone: models.launch.forms reads them before anything is installed.
"""
from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from typing import NoReturn

PORT = 8118
LAST_PORT = 65535
MODULE = "models.train"
MOST_WORKERS, MOST_NODES = 4096, 65536
LONGEST = 200  # characters of a value that a message shows


class Misused(Exception):
    """A command line of another form."""


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
