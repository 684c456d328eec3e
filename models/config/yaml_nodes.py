"""YAML text to values that know their line, and back.

Scalars are those of YAML 1.2: ``off`` is text, ``5e-4`` a number.
"""
from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from yaml.reader import ReaderError

from models.config.errors import ConfigError
from models.config.yaml_loader import LARGEST, Dumper, Loader, Refused
from thor.checks import shortened, shown


@dataclasses.dataclass(frozen=True)
class Node:
    """A value and where it was written. Mappings hold nodes by key, everything else is a plain value."""

    value: Any
    where: str

    @property
    def is_mapping(self) -> bool:
        return isinstance(self.value, dict)


def read_file(path: Path, may_have_more: Callable[[Node], bool] = lambda node: False) -> Node:
    """The mapping in the YAML file ``path``; an empty file is an empty mapping.

    Args:
        path: the file.
        may_have_more: whether other documents may follow the one given to it, the first; they are not looked into.

    Raises:
        ConfigError: not readable, not YAML, too large, not a mapping, or a key given twice; with file and line.
    """
    try:
        with path.open("rb") as file:
            text = file.read(LARGEST + 1).decode("utf-8")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ConfigError(f"cannot read the config: {reason}; give the path of a YAML file",
                          where=str(path)) from None
    return _mapping(parse_text(text, str(path), may_have_more=may_have_more))


def parse_text(text: str, name: str, with_lines: bool = True,
               may_have_more: Callable[[Node], bool] = lambda node: False) -> Node:
    """``text`` as a node; places read ``name:line``, or just ``name``. ``may_have_more`` as of ``read_file``."""
    def refused(problem: str, line: int | None, remedy: str = "check indentation, quotes and brackets") -> ConfigError:
        where = f"{name}:{line}" if with_lines and line is not None else name
        return ConfigError(f"not valid YAML: {shortened(problem, 300)}; {remedy}", where=where)

    if len(text) > LARGEST:
        raise ConfigError(f"a config has at most {LARGEST} bytes; give the path of a YAML file", where=name)
    loader = None
    try:
        loader = Loader(text)
        root = loader.first()
        node = Node({}, name) if root is None else _convert(loader, root, name, with_lines)
        if not (node.is_mapping and may_have_more(node)):
            loader.end()
        return node
    except ReaderError as error:
        problem = f"the character U+{error.character:04X}"
        raise refused(problem, text.count("\n", 0, error.position) + 1, "remove it") from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        remedy = [error.remedy] if isinstance(error, Refused) else []
        raise refused(error.problem or str(error), line, *remedy) from None
    except ConfigError:
        raise
    except (ValueError, OverflowError):  # an escape such as "\UFFFFFFFF", which PyYAML takes for a character
        line = loader.get_mark().line + 1 if loader else None
        raise refused("an escape or a directive out of range", line) from None
    finally:
        if loader:
            loader.dispose()


def node_of(value: Any, where: str) -> Node:
    """Nested dicts of plain values as a node, all of it written at ``where``."""
    if not isinstance(value, dict):
        return Node(value, where)
    return Node({key: node_of(child, where) for key, child in value.items()}, where)


def to_text(tree: dict) -> str:
    """``tree`` as YAML that ``parse_text`` reads back as equal values."""
    return yaml.dump(tree, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=110)


def to_line(setting: dict) -> str:
    """``{name: value}`` as the line ``name: value`` that ``parse_text`` reads back."""
    text = yaml.dump(setting, Dumper=Dumper, default_flow_style=True, allow_unicode=True, width=2 ** 20)
    return text.strip()[1:-1]


def _mapping(node: Node) -> Node:
    if not node.is_mapping:
        raise ConfigError(f"a config must be a mapping of sections, got {shown(node.value)}", where=node.where)
    return node


def _convert(loader: Loader, node: yaml.Node, name: str, with_lines: bool) -> Node:
    where = f"{name}:{node.start_mark.line + 1}" if with_lines else name
    if not isinstance(node, yaml.MappingNode):
        return Node(loader.construct_object(node, deep=True), where)
    children: dict[str, Node] = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        key_where = f"{name}:{key_node.start_mark.line + 1}" if with_lines else name
        if not isinstance(key, str):
            raise ConfigError(f"key {shown(key)}; must be the name of a setting", where=key_where)
        if key in children:
            raise ConfigError(f"{shortened(key)} is given twice; first at {children[key].where}; keep one",
                              where=key_where)
        child = _convert(loader, value_node, name, with_lines)
        children[key] = Node(child.value, key_where)
    return Node(children, where)
