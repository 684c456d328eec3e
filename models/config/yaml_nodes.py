"""YAML text to values that know their line, and back.

Scalars are those of YAML 1.2: ``off`` is text, ``5e-4`` a number.
"""
from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import yaml

from models.config.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Node:
    """A value and where it was written. Mappings hold nodes by key, everything else is a plain value."""

    value: Any
    where: str

    @property
    def is_mapping(self) -> bool:
        return isinstance(self.value, dict)


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict = {}


class _Dumper(yaml.SafeDumper):
    yaml_implicit_resolvers: dict = {}

    def ignore_aliases(self, data: Any) -> bool:
        return True


_SCALARS = (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", r"[-+]?[0-9]+", "-+0123456789"),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+\.[0-9]*|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?", "-+.0123456789"),
)
for _name, _pattern, _first in _SCALARS:
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", re.compile(rf"(?:{_pattern})\Z"),
                                     list(_first))

_Loader.add_constructor("tag:yaml.org,2002:int", lambda loader, node: int(node.value))
_Loader.add_constructor("tag:yaml.org,2002:float", lambda loader, node: float(node.value))


def read_file(path: Path) -> Node:
    """The mapping in the YAML file ``path``; an empty file is an empty mapping.

    Raises:
        ConfigError: not readable, not YAML, not a mapping, or a key given twice; with file and line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise ConfigError(f"cannot read the config: {reason}; give the path of a YAML file",
                          where=str(path)) from None
    return _mapping(parse_text(text, str(path)))


def parse_text(text: str, name: str, with_lines: bool = True) -> Node:
    """``text`` as a node; places read ``name:line``, or just ``name``."""
    loader = _Loader(text)
    try:
        root = loader.get_single_node()
        if root is None:
            return Node({}, name)
        return _convert(loader, root, name, with_lines)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{name}:{mark.line + 1}" if with_lines and mark else name
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise ConfigError(f"not valid YAML: {problem}; check indentation, quotes and brackets",
                          where=where) from None
    finally:
        loader.dispose()


def node_of(value: Any, where: str) -> Node:
    """Nested dicts of plain values as a node, all of it written at ``where``."""
    if not isinstance(value, dict):
        return Node(value, where)
    return Node({key: node_of(child, where) for key, child in value.items()}, where)


def to_text(tree: dict) -> str:
    """``tree`` as YAML that ``parse_text`` reads back as equal values."""
    return yaml.dump(tree, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


def _mapping(node: Node) -> Node:
    if not node.is_mapping:
        raise ConfigError(f"a config must be a mapping of sections, got {node.value!r}", where=node.where)
    return node


def _convert(loader: _Loader, node: yaml.Node, name: str, with_lines: bool) -> Node:
    where = f"{name}:{node.start_mark.line + 1}" if with_lines else name
    if not isinstance(node, yaml.MappingNode):
        return Node(loader.construct_object(node, deep=True), where)
    children: dict[str, Node] = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        key_where = f"{name}:{key_node.start_mark.line + 1}" if with_lines else name
        if not isinstance(key, str):
            raise ConfigError(f"key {key!r}; must be the name of a setting", where=key_where)
        if key in children:
            raise ConfigError(f"{key} is given twice; first at {children[key].where}; keep one",
                              where=key_where)
        child = _convert(loader, value_node, name, with_lines)
        children[key] = Node(child.value, key_where)
    return Node(children, where)
