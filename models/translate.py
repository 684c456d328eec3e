"""A flat file of MindSpore's own as a configuration of this zoo: ``python -m models.translate FILE [-o OUT]``."""
from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from models.command_line import run
from models.config import ConfigError, load_config
from models.config.load import read_flat
from thor.checks import shortened


def main(words: Sequence[str] | None = None) -> int:
    """Translate as the command line says; the exit status."""
    made = argparse.ArgumentParser(prog="python -m models.translate", allow_abbrev=False,
                                   description="Translate a flat YAML file of MindSpore's ResNet or BERT program.")
    made.add_argument("file", metavar="FILE", help="the flat file")
    made.add_argument("-o", "--output", metavar="OUT", help="a new file; standard output where it is left out")
    options = made.parse_args(words)
    return run(lambda: translate(options.file, options.output))


def translate(path: str, output: str | None = None) -> None:
    """Write the configuration; on stderr stands what was translated, what was dropped, and why.

    Args:
        path: the flat file.
        output: a file that is not there yet; None for standard output.

    Raises:
        ConfigError: ``path`` is no such file, or cannot be translated; ``output`` is there already.
    """
    translation = read_flat(Path(path))
    if translation is None:
        raise ConfigError("must be a flat file of MindSpore's ResNet or BERT program, with net_name or bert_network; "
                          "a configuration of this zoo needs no translation", where=path)
    load_config(path)  # refuses values that cannot be used, and tells the rest
    if output is None:
        print(translation.to_text(), end="")
        return
    try:
        with open(output, "x", encoding="utf-8") as file:
            file.write(translation.to_text())
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(f"--output={shortened(output)}; must be a new file ({reason}); give another name") from None


if __name__ == "__main__":
    sys.exit(main())
