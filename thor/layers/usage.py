"""Where a cell's ``construct`` uses its weight: read from the source, before anything is compiled.

A tap stands for an operator, ``self.matmul``, but its factors are those of one weight. Curvature is right only where
every product with the weight goes through the tap, and nothing else does, or nothing that cannot be told apart. What
a cell does is read from its ``construct`` and the methods that calls; a cell that cannot be understood trains
first-order, with the reason.
"""
from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator
from functools import cache

from mindspore import Parameter, Tensor, nn

READS_NO_VALUE = ("shape", "dtype", "ndim", "size", "name")  # attributes of a weight that no product sees


class UnmeasuredUse(Exception):
    """A weight is used in a way no tap can measure; the message says how."""


def operators_tell_apart(cell: nn.Cell, weight: Parameter, operators: dict[str, int]) -> bool:
    """Whether the shape of its operand says if a call of an operator multiplies with ``weight``; False: all calls do.

    Args:
        operators: of the cell, by attribute: at which argument the weight stands.

    Raises:
        UnmeasuredUse: the weight is used elsewhere, too, or a call cannot be told from those with the weight.
    """
    own = {name for name, parameter in cell.parameters_and_names(expand=False) if parameter is weight}
    measured, others = 0, []
    for method in _reachable(cell):
        aliases = _aliases(method, own)
        operands = {id(operand): operand for operand in _operands(method, operators)}
        inside = {id(node) for operand in operands.values() if _names_weight(operand, own, aliases)
                  for node in ast.walk(operand)}
        measured += sum(_names_weight(operand, own, aliases) for operand in operands.values())
        others += [operand for operand in operands.values() if not _names_weight(operand, own, aliases)]
        for node in _loads(method, own, aliases):
            if id(node) not in inside:
                raise UnmeasuredUse(f"{type(cell).__name__} uses {min(own)} outside "
                                    + " and ".join(f"self.{name}" for name in operators))
    if not measured:
        raise UnmeasuredUse(f"{type(cell).__name__} does not multiply with {min(own)} by "
                            + " or ".join(f"self.{name}" for name in operators))
    for operand in others:
        known = _attribute_of_self(operand)
        value = None if known is None else getattr(cell, known, None)
        if not isinstance(value, Tensor) or tuple(value.shape) == tuple(weight.shape):
            raise UnmeasuredUse(f"{type(cell).__name__} multiplies with {ast.unparse(operand)}, too, which cannot be "
                                f"told from {min(own)}")
    return bool(others)


def uses_outside(network: nn.Cell) -> dict[int, str]:
    """Types of cells that use a weight of one of their children themselves, by the id of the weight."""
    found: dict[int, str] = {}
    for _, cell in network.cells_and_names():
        for chain in _child_attributes(cell):
            for parameter in _resolve(cell, chain):
                found.setdefault(id(parameter), type(cell).__name__)
    return found


def _reachable(cell: nn.Cell) -> list[ast.AST]:
    """``construct`` and the methods of the cell it calls, parsed.

    Raises:
        UnmeasuredUse: there is no source to read.
    """
    found: dict[str, ast.AST] = {}
    waiting = ["construct"]
    while waiting:
        name = waiting.pop()
        function = getattr(type(cell), name, None)
        if name in found or not inspect.isfunction(function) or hasattr(nn.Cell, name) and name != "construct":
            continue
        parsed = _parse(function)
        if parsed is None:
            raise UnmeasuredUse(f"the source of {type(cell).__name__}.{name} cannot be read")
        found[name] = parsed
        waiting += [node.attr for node in ast.walk(parsed)
                    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self"]
        for base in type(cell).__mro__[1:] if _calls_super(parsed) else ():
            inherited = vars(base).get(name)
            tree = _parse(inherited) if inspect.isfunction(inherited) and base is not nn.Cell else None
            if tree is not None:
                found[f"{base.__qualname__}.{name}"] = tree
    return list(found.values())


@cache
def _parse(function) -> ast.AST | None:
    """The function's syntax tree, its first argument named self; None where its source cannot be read."""
    try:
        parsed = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):
        return None
    receiver = next(iter(inspect.signature(function).parameters), "self")
    for node in ast.walk(parsed):
        if isinstance(node, ast.Name) and node.id == receiver:
            node.id = "self"
    return parsed


def _calls_super(method: ast.AST) -> bool:
    return any(isinstance(node, ast.Name) and node.id == "super" for node in ast.walk(method))


def _operands(method: ast.AST, operators: dict[str, int]) -> Iterator[ast.AST]:
    """What stands at the weight's place in the calls of ``self.<operator>``."""
    for node in ast.walk(method):
        if isinstance(node, ast.Call) and (name := _attribute_of_self(node.func)) in operators:
            place = operators[name]
            named = [keyword.value for keyword in node.keywords if keyword.arg == "weight"]
            if place < len(node.args):
                yield node.args[place]
            elif named:
                yield named[0]


def _names_weight(operand: ast.AST, own: set[str], aliases: set[str]) -> bool:
    """Whether an operand is the weight, perhaps cast."""
    while isinstance(operand, ast.Call) and "cast" in _last_name(operand.func) and operand.args:
        operand = operand.args[0]
    while isinstance(operand, ast.Call) and isinstance(operand.func, ast.Attribute) \
            and operand.func.attr in ("astype", "to", "float", "half"):
        operand = operand.func.value
    return _attribute_of_self(operand) in own or isinstance(operand, ast.Name) and operand.id in aliases


def _aliases(method: ast.AST, own: set[str]) -> set[str]:
    """Local names that always stand for the weight."""
    values: dict[str, list[ast.AST]] = {}
    for node in ast.walk(method):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                for name in ast.walk(target):
                    if isinstance(name, ast.Name):
                        values.setdefault(name.id, []).append(node.value if target is name else target)
    return {name for name, assigned in values.items() if all(_names_weight(value, own, set()) for value in assigned)}


def _loads(method: ast.AST, own: set[str], aliases: set[str]) -> Iterator[ast.AST]:
    """Where the weight is read for its value; where it only gets a local name it is not."""
    parents = {id(child): node for node in ast.walk(method) for child in ast.iter_child_nodes(node)}
    for node in ast.walk(method):
        if not (_attribute_of_self(node) in own or isinstance(node, ast.Name) and node.id in aliases):
            continue
        if not isinstance(getattr(node, "ctx", None), ast.Load):
            continue
        parent = parents[id(node)]
        if isinstance(parent, ast.Attribute) and parent.attr in READS_NO_VALUE:
            continue
        if isinstance(parent, ast.Call) and "shape" in _last_name(parent.func):
            continue
        while isinstance(parent, ast.Call) and "cast" in _last_name(parent.func):
            parent = parents[id(parent)]
        named = isinstance(parent, ast.Assign) and all(isinstance(t, ast.Name) and t.id in aliases
                                                       for t in parent.targets)
        if not named:
            yield node


def _attribute_of_self(node: ast.AST) -> str | None:
    """``name`` of ``self.name``."""
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self":
        return node.attr
    return None


def _last_name(node: ast.AST) -> str:
    """``cast`` of ``ops.cast``, ``self.cast`` and ``cast``."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _child_attributes(cell: nn.Cell) -> Iterator[tuple[str, str]]:
    """``(child, attribute)`` of every ``self.child.attribute`` and ``self.child[...].attribute`` read."""
    children = cell.name_cells()
    if not children:
        return
    try:
        methods = _reachable(cell)
    except UnmeasuredUse:
        return
    for method in methods:
        for node in ast.walk(method):
            if isinstance(node, ast.Attribute):
                value = node.value.value if isinstance(node.value, ast.Subscript) else node.value
                child = _attribute_of_self(value)
                if child is not None and child in children:
                    yield child, node.attr


def _resolve(cell: nn.Cell, chain: tuple[str, str]) -> list[Parameter]:
    """The parameters an attribute of a child, or of any cell of a container, may be."""
    child = cell.name_cells()[chain[0]]
    owners = [child, *child.name_cells().values()] if isinstance(child, (nn.CellList, nn.SequentialCell)) else [child]
    values = [getattr(owner, chain[1], None) for owner in owners]
    return [value for value in values if isinstance(value, Parameter)]
