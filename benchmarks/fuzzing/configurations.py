"""Damaged YAML files and command-line overrides."""
from __future__ import annotations

import dataclasses
import random
from pathlib import Path

from benchmarks.fuzzing.damage import VALUES, text_damaged
from models.command_line import parse, parser, run
from models.config import Config

CONFIGS = Path(__file__).parents[2] / "configs"
KINDS = ("file", "override")


def settings(kind: type = Config, prefix: str = "") -> list[str]:
    """Dotted names of all settings."""
    names = []
    for field in dataclasses.fields(kind):
        value = field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default
        names += settings(type(value), f"{prefix}{field.name}.") if dataclasses.is_dataclass(value) else \
            [prefix + field.name]
    return names


def make(kind: str, folder: Path, chance: random.Random) -> list[str]:
    """The words of a command line; a damaged file is written to ``folder``."""
    sources = sorted(file for file in CONFIGS.rglob("*.yaml") if file.parent.name not in ("compare", "profiles"))
    source = chance.choice(sources)
    if kind == "override":
        words = [f"--{chance.choice(settings())}" for _ in range(chance.choice((1, 1, 2)))]
        return ["--config", str(source), *(part for word in words for part in (word, chance.choice(VALUES)))]
    target = folder / "damaged.yaml"
    text = source.read_text(encoding="utf-8").replace("extends: ", f"extends: {source.parent}/")
    content = text_damaged(text, chance).encode(errors="surrogateescape")
    if chance.random() < 0.1:
        place = chance.randrange(len(content) + 1)
        content = content[:place] + chance.randbytes(3) + content[place:]
    target.write_bytes(content)
    return ["--config", str(target)]


def work(words: list[str]) -> int:
    """Read the configuration as every command does."""
    return run(lambda: parse(parser("fuzz", ""), words) and None)
