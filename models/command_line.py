"""What the entries share: arguments, and errors as one line on stderr. Does not import MindSpore."""
from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence

from models.config import Config, ConfigError, UsageError, load_config
from models.interruption import INTERRUPTION, Asked, Interrupted, end_with

# of numbers that are not finite
CAUSES = "training has diverged, or the data hold NaN or Inf; look for these, or"


class LoadError(Exception):
    """Something the run needs (data, network, checkpoint, device) cannot be had; told in one line."""


class DivergedError(LoadError):
    """Loss or parameters are no longer finite; told in one line, exit status 1."""


def parser(program: str, description: str) -> argparse.ArgumentParser:
    """A parser that knows --config; every other option is left to the configuration."""
    made = argparse.ArgumentParser(
        prog=program, description=description, allow_abbrev=False,
        usage=f"{program} --config FILE [options] [--section.key value ...]",
        epilog="Any key of the configuration can be set, such as --optimizer.frequency 50; values are YAML.")
    made.add_argument("--config", required=True, metavar="FILE", help="YAML file, see configs/")
    return made


def parse(made: argparse.ArgumentParser, words: Sequence[str] | None) -> tuple[argparse.Namespace, Config]:
    """Known options, and the configuration with all others as overrides; status 2 on wrong usage."""
    known, overrides = made.parse_known_args(words)
    try:
        return known, load_config(known.config, overrides)
    except UsageError as error:
        made.error(str(error))


def positive(text: str) -> int:
    """An argparse type: an int from 1 on."""
    value = int(text) if text.isdecimal() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r}; must be an int >= 1")
    return value


def run(entry: Callable[[], None]) -> int:
    """Run ``entry`` and give the exit status. Expected errors are one line on stderr, others a traceback."""
    status = _status(entry)
    try:
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # else Python reports it once more as it ends
        if not status:
            print(f"error: standard output cannot be written: {error.strerror}", file=sys.stderr)
            return 1
    return status


def _status(entry: Callable[[], None]) -> int:
    try:
        entry()
    except (ConfigError, LoadError, OSError) as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 1
    except Interrupted as error:
        return end_with(error)
    except Asked:
        return end_with(Interrupted(INTERRUPTION.describe(), INTERRUPTION.status))
    except KeyboardInterrupt:
        print("interrupted; the same command goes on with the newest checkpoint", file=sys.stderr)
        return 130
    return 0


def quiet_mindspore() -> None:
    """Keep MindSpore's log off the screen unless GLOG_v says otherwise; before MindSpore is imported.

    Its warnings tear the progress bar, its errors repeat what the exception says.
    """
    os.environ.setdefault("GLOG_v", "4")


@contextlib.contextmanager
def loading() -> Iterator[None]:
    """Turn what goes wrong while a run is set up into a LoadError."""
    try:
        yield
    except ConfigError:
        raise
    except MemoryError as error:
        raise LoadError(f"not enough memory to set the run up; {one_line(error)}; make the network, the batch or the "
                        "run smaller") from error
    except (OSError, ValueError, TypeError, RuntimeError, ArithmeticError) as error:
        raise LoadError(one_line(error)) from error


def one_line(error: BaseException) -> str:
    """The first line of the message that says something, or the error's type."""
    if isinstance(error, BrokenPipeError):
        return "standard output was closed"
    lines = [line.strip() for line in str(error).splitlines()]
    return next((line for line in lines if line.strip("- ")), type(error).__name__)
