"""YAML text to PyYAML's nodes, in time and size that no text exceeds, with scalars as in YAML 1.2.

What a configuration has no use for is refused: values nested deeper than ``DEEPEST``, anchors that lead back to
themselves or grow, aliases replaced, beyond ``LARGEST`` characters, and all tags but those of YAML's core schema.
"""
from __future__ import annotations

import re
from typing import Any

import yaml

from thor.checks import shown

DEEPEST = 32  # levels of mappings and lists
LARGEST = 2 ** 17  # characters of a text, and of the same once aliases are replaced; PyYAML reads them in seconds

_SCALARS = {
    "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF", "true or false"),
    "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""], "null"),
    "int": (r"[-+]?[0-9]+", "-+0123456789", "an int"),
    "float": (r"[-+]?(\.[0-9]+|[0-9]+\.[0-9]*|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?", "-+.0123456789", "a number"),
}
_CORE = "tag:yaml.org,2002:"
_TAGS = {yaml.ScalarNode: {_CORE + name for name in ("str", *_SCALARS)}, yaml.SequenceNode: {_CORE + "seq"},
         yaml.MappingNode: {_CORE + "map"}}

_KINDS = {yaml.ScalarNode: "text", yaml.SequenceNode: "a list", yaml.MappingNode: "a mapping"}


class Refused(yaml.MarkedYAMLError):
    """Text that is not of a configuration, whether YAML or not; ``remedy`` says what to do."""

    def __init__(self, problem: str, mark: yaml.Mark, remedy: str) -> None:
        super().__init__(None, None, problem, mark)
        self.remedy = remedy


class Loader(yaml.SafeLoader):
    """PyYAML's loader within those bounds."""

    yaml_implicit_resolvers: dict = {}
    depth = 0

    def compose_node(self, parent: Any, index: Any) -> yaml.Node:
        self.depth += 1
        if self.depth > DEEPEST:
            raise _too_deep(self.peek_event().start_mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def first(self) -> yaml.Node | None:
        """The first document, None for no text.

        Raises:
            yaml.YAMLError: the text is not YAML, or not of a configuration.
        """
        node = self.get_node() if self.check_node() else None
        if node is not None:
            _measure(node, {})
        return node

    def end(self) -> None:
        """yaml.YAMLError where another document follows, or what is not YAML."""
        if self.check_node():
            raise Refused("another document", self.peek_event().start_mark, "a config is one; remove the line ---")


class Dumper(yaml.SafeDumper):
    """Writes what :class:`Loader` reads back as equal values."""

    yaml_implicit_resolvers: dict = {}

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _too_deep(mark: yaml.Mark) -> Refused:
    return Refused(f"nested more than {DEEPEST} deep", mark, "a config has few levels")


def _measure(node: yaml.Node, known: dict[int, tuple[int, int] | None]) -> tuple[int, int]:
    """Characters and levels of ``node`` with aliases replaced; ``known`` are those of nodes, None while inside one."""
    if id(node) in known:
        found = known[id(node)]
        if found is None:
            raise Refused("an anchor whose value contains itself", node.start_mark, "write the value out")
        return found
    known[id(node)] = None
    if node.tag not in _TAGS[type(node)]:
        raise Refused(f"the tag {shown(node.tag)} on {_KINDS[type(node)]}", node.start_mark, "leave it away")
    children = node.value if isinstance(node, yaml.CollectionNode) else []
    if isinstance(node, yaml.MappingNode):
        children = [part for pair in node.value for part in pair]
    sizes = [_measure(child, known) for child in children]
    size = 1 + (sum(size for size, _ in sizes) if children else len(node.value))
    depth = 1 + max((depth for _, depth in sizes), default=0)
    if size > LARGEST:
        raise Refused(f"more than {LARGEST} characters once aliases are replaced", node.start_mark,
                      "use fewer aliases")
    if depth > DEEPEST:
        raise _too_deep(node.start_mark)
    known[id(node)] = size, depth
    return size, depth


def _scalar(name: str, convert: Any) -> None:
    pattern, first, wanted = _SCALARS[name]
    matching = re.compile(rf"(?:{pattern})\Z")
    for kind in (Loader, Dumper):
        kind.add_implicit_resolver(_CORE + name, matching, list(first))

    def construct(loader: Loader, node: yaml.ScalarNode) -> Any:
        if not (matching.match(node.value) or name == "float" and re.fullmatch(_SCALARS["int"][0], node.value)):
            raise Refused(f"{shown(node.value)} is not {wanted}", node.start_mark, "correct it or leave the tag away")
        try:
            return convert(node.value)
        except ValueError:  # more digits than Python reads
            raise Refused(f"an int of {len(node.value)} digits", node.start_mark, "give a shorter one") from None
    Loader.add_constructor(_CORE + name, construct)


_scalar("bool", lambda text: text.lower() == "true")
_scalar("null", lambda text: None)
_scalar("int", int)
_scalar("float", float)
