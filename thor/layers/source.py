"""Sources of the methods of cells, as syntax trees."""
from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterable
from functools import cache

from mindspore import nn


class UnreadableSource(Exception):
    """What a cell does cannot be read; the message says why."""


def methods_of(cell: nn.Cell, entries: Iterable[str] = ("construct",)) -> list[ast.AST]:
    """The methods ``entries`` of a cell and those they call, parsed; the receiver is named self in all of them.

    Raises:
        UnreadableSource: a method has no source, or the cell hands itself to something that is not read.
    """
    kind = type(cell).__name__
    if "construct" in vars(cell):
        raise UnreadableSource(f"construct of this {kind} was replaced")
    found: dict[Callable, ast.AST] = {}
    waiting = [(name, type(cell).__mro__) for name in entries]
    seen: set[tuple[str, type]] = set()
    while waiting:
        name, bases = waiting.pop()
        if inspect.isfunction(vars(cell).get(name)):
            raise UnreadableSource(f"{kind}.{name} is a function that cannot be read")
        owner = next((base for base in bases if name in vars(base)), None)
        if owner is None or owner in (nn.Cell, object) or (name, owner) in seen:
            continue
        seen.add((name, owner))
        function = _function(vars(owner)[name])
        if function is None:
            continue
        if hasattr(function, "__wrapped__") and not _is_mindspores(function):
            raise UnreadableSource(f"{kind}.{name} is decorated")
        parsed = parse(function)
        if parsed is None:
            raise UnreadableSource(f"the source of {kind}.{name} cannot be read")
        if _hands_itself_on(parsed):
            raise UnreadableSource(f"{kind}.{name} hands itself to a function")
        found[function] = parsed
        waiting += [(attribute, type(cell).__mro__) for node in ast.walk(parsed)
                    if (attribute := attribute_of_self(node)) is not None]
        after = type(cell).__mro__[type(cell).__mro__.index(owner) + 1:]
        waiting += [(node.attr, after) for node in ast.walk(parsed)
                    if isinstance(node, ast.Attribute) and _is_super(node.value)]
    return list(found.values())


@cache
def parse(function: Callable) -> ast.AST | None:
    """The function's syntax tree, its first argument named self; None where its source cannot be read."""
    try:
        parsed = ast.parse(textwrap.dedent(inspect.getsource(function)))
        receiver = next(iter(inspect.signature(function).parameters), "self")
    except (OSError, TypeError, SyntaxError, ValueError):
        return None
    for node in ast.walk(parsed):
        if isinstance(node, ast.Name) and node.id == receiver:
            node.id = "self"
    return parsed


def parents_of(tree: ast.AST) -> dict[int, ast.AST]:
    """The parent of each node, by the id of the node."""
    return {id(child): node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}


def attribute_of_self(node: ast.AST) -> str | None:
    """``name`` of ``self.name``."""
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self":
        return node.attr
    return None


def _function(value: object) -> Callable | None:
    """What runs where a class attribute is read or called; None for data."""
    if isinstance(value, property):
        return value.fget
    if isinstance(value, (staticmethod, classmethod)):
        return None  # have no receiver to read a weight from
    if not inspect.isfunction(value):
        return None
    return value


def functions_called(tree: ast.AST, scope: dict) -> list[Callable]:
    """The plain functions that a method or function calls by name, those of MindSpore left out; ``scope``: globals."""
    found = [scope.get(node.func.id) for node in ast.walk(tree)
             if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
    return [function for function in found if inspect.isfunction(function) and not _is_mindspores(function)]


def _is_mindspores(function: Callable) -> bool:
    return "mindspore" in inspect.getfile(getattr(function, "__code__", function)).split("/")


def _is_super(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "super"


def _hands_itself_on(tree: ast.AST) -> bool:
    """Whether a method gives ``self`` itself to a call: a function it cannot be followed into, or getattr."""
    return any(isinstance(argument, ast.Name) and argument.id == "self"
               for node in ast.walk(tree) if isinstance(node, ast.Call) and not _is_super(node)
               for argument in [*node.args, *(keyword.value for keyword in node.keywords)])
