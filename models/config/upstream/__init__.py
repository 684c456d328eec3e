"""The flat YAML files of MindSpore's own ResNet and BERT programs as configurations of this zoo.

Their first document holds the values, others help and choices. Every key becomes a setting, or is dropped with a
reason; a file that asks for what is not here is refused. The modules of the programs hold what each key becomes.
"""
from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from models.config.errors import ConfigError
from models.config.upstream import bert, resnet
from models.config.upstream.flat import Fate, Flat
from models.config.yaml_nodes import Node, to_line
from thor.checks import shortened

# Keys by which such a file is known: no section of this zoo has these names.
MARKS = ("net_name", "bert_network", "lr_init", "damping_init", "class_num", "epoch_size", "save_checkpoint_epochs",
         "bert_net_cfg")
_TOLD: set[tuple[str, ...]] = set()


@dataclasses.dataclass(frozen=True)
class Translation:
    """What a flat file says in the settings of this zoo.

    Attributes:
        path: the file.
        tree: the settings, nested; the place of each is that of its key.
        fates: what became of every key.
    """

    path: Path
    tree: Node
    fates: tuple[Fate, ...]

    def lines(self) -> list[str]:
        """One line of what was translated, one of what the program sets itself, one for each reason to drop."""
        moved = {key: None for fate in self.fates if fate.setting for key in fate.keys}
        brought = [f"{fate.setting}={fate.value}" for fate in self.fates if fate.setting and not fate.keys]
        dropped: dict[str, list[str]] = {}
        for fate in self.fates:
            if not fate.setting:
                dropped.setdefault(fate.why, []).extend(fate.keys)
        told = [f"a flat file of MindSpore's own, translated: {', '.join(moved)}", f"added: {', '.join(brought)}"]
        told += [f"dropped {', '.join(map(shortened, keys))}: {why}" if keys else why for why, keys in dropped.items()]
        return [f"{self.path}: {line}" for line in told]

    def to_text(self) -> str:
        """The settings as a configuration of this zoo, each with the keys it comes from."""
        comments = {fate.setting: ", ".join(fate.keys) or fate.why for fate in self.fates if fate.setting}
        return "\n".join([f"# {shortened(self.path.name)}, a flat file of MindSpore's own, translated.",
                          *_commented(self.tree, comments)]) + "\n"

    def tell(self) -> None:
        """Write these lines to stderr: once a process, and not in those that a launcher starts, which has told them."""
        lines = self.lines()
        if tuple(lines) in _TOLD or "MS_WORKER_NUM" in os.environ:
            return
        _TOLD.add(tuple(lines))
        print("\n".join(lines), file=sys.stderr, flush=True)


def _commented(node: Node, comments: dict[str, str], prefix: str = "") -> Iterator[str]:
    indent = "  " * prefix.count(".")
    for key, child in node.value.items():
        if child.is_mapping:
            yield f"{indent}{key}:"
            yield from _commented(child, comments, f"{prefix}{key}.")
        else:
            yield f"{indent}{to_line({key: child.value})}  # {comments[prefix + key]}"


def is_upstream(node: Node) -> bool:
    """Whether a mapping is of a flat file."""
    return any(key in node.value for key in MARKS)


def translated(node: Node, path: Path, own: set[str]) -> Translation:
    """The settings in ``node``, the first document of a flat file.

    Args:
        node: its mapping.
        path: the file.
        own: names of the sections of this zoo, and of what else its files hold.

    Raises:
        ConfigError: one line with the file's line: it asks for what is not here, or has sections of this zoo too.
    """
    for key, child in node.value.items():
        if key in own and (child.is_mapping or key in ("extends", "imports")):
            mark = next(mark for mark in MARKS if mark in node.value)
            raise ConfigError(f"{key} beside {mark}; must be a flat file of MindSpore's own or a configuration of this "
                              f"zoo, not both; leave {mark} out, or have a file of its own extend the flat one", key,
                              child.where)
    flat = Flat(node)
    program = bert if "bert_network" in node.value else resnet
    if program is resnet:
        resnet.check_kind(flat)
    program.translate(flat)
    return Translation(path, flat.tree, tuple(flat.fates))
