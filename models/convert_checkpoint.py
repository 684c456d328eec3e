"""Weights under the names of another program:
``python -m models.convert_checkpoint --config FILE --from FORM --to FORM SOURCE TARGET [--section.key value ...]``.
"""
from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from models.command_line import loading, parse, parser, quiet_mindspore, run
from models.weights.scheme import FORMS


def main(words: Sequence[str] | None = None) -> int:
    """Convert as the command line says; the exit status."""
    quiet_mindspore()
    made = _parser()
    flags, paths = _apart(sys.argv[1:] if words is None else words)

    def entry() -> None:
        options, config = parse(made, flags)
        if len(paths) != 2:
            made.error(f"{len(paths)} paths; must be SOURCE and TARGET")
        with loading():
            from models.weights.conversion import convert

            lines = convert(config, (options.source_form, options.target_form), *map(Path, paths))
        print("\n".join(lines))
    return run(entry)


def _parser() -> argparse.ArgumentParser:
    made = parser("python -m models.convert_checkpoint",
                  "Write the weights of a network under the names of another program. SOURCE and TARGET end in .ckpt "
                  "(MindSpore), .safetensors or, where torch is installed, .pth, .pt or .bin.")
    made.usage = f"{made.prog} --config FILE --from FORM --to FORM SOURCE TARGET [--section.key value ...]"
    for flag, place in (("--from", "source_form"), ("--to", "target_form")):
        made.add_argument(flag, required=True, dest=place, choices=FORMS, help="whose names the weights have")
    return made


def _apart(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Flags with their values, and paths: argparse would take values of flags that it does not know for paths."""
    flags, paths, rest = [], [], list(words)
    while rest:
        word = rest.pop(0)
        (flags if word.startswith("-") else paths).append(word)
        if word.startswith("--") and "=" not in word and word != "--help" and rest:
            flags.append(rest.pop(0))
    return flags, paths


if __name__ == "__main__":
    sys.exit(main())
