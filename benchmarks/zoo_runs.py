"""Whole runs of the zoo inside a benchmark: a finished one is not run again, an interrupted one goes on."""
from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.common import BenchmarkError


def load(config: str, words: Sequence[str]) -> Any:
    """A configuration with overrides."""
    from models.config import ConfigError, load_config

    try:
        return load_config(config, list(words))
    except ConfigError as error:
        raise BenchmarkError(str(error)) from error


def run(name: str, config: Any) -> Path:
    """The folder of a finished run of ``config``, from an earlier call or now."""
    return finished(config) or train(name, config)


def finished(config: Any) -> Path | None:
    """The folder of a finished run with the same configuration under ``config.train.run_dir``, if there is one."""
    from models.config import load_config
    from models.run_folder import CONFIG, RESULTS, differing_keys

    for path in sorted(Path(config.train.run_dir).glob(f"*/*/{RESULTS}")):
        if not differing_keys(load_config(str(path.with_name(CONFIG))), config):
            return path.parent
    return None


def train(name: str, config: Any) -> Path:
    """Train to the end; ``name`` is told first."""
    from models.command_line import LoadError, quiet_mindspore
    from models.config import ConfigError

    quiet_mindspore()
    from models.train import train as train_zoo

    print(f"{name}:", flush=True)
    try:
        train_zoo(config)
    except (ConfigError, LoadError) as error:
        raise BenchmarkError(f"{name}: {error}") from error
    return finished(config)


def rows(path: Path) -> list[dict[str, str]]:
    """The rows of a table of a run."""
    with open(path, newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))
