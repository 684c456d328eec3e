"""Where a cell's ``construct`` uses its weight: read from the source, before anything is compiled.

A tap stands for an operator, ``self.matmul``, but its factors are those of one weight. Curvature is right only where
every product with the weight goes through the tap, and nothing else does, or nothing that cannot be told apart. What
a cell does is read from its ``construct`` and the methods that calls; a cell that cannot be understood trains
first-order, with the reason.
"""
from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator

from mindspore import Parameter, Tensor, nn

from thor.layers.source import UnreadableSource, attribute_of_self, methods_of, parents_of

READS_NO_VALUE = ("shape", "dtype", "ndim", "size", "name")  # attributes of a weight that no product sees
SHAPE_FUNCTIONS = ("shape", "shape_op", "get_shp", "dyn_shape", "dtype")


class UnmeasuredUse(Exception):
    """A weight is used in a way no tap can measure; the message says how."""


def operators_tell_apart(cell: nn.Cell, weight: Parameter, operators: dict[str, int],
                         entries: Iterable[str] = ()) -> bool:
    """Whether the shape of its operand says if a call of an operator multiplies with ``weight``; False: all calls do.

    Args:
        operators: of the cell, by attribute: at which argument the weight stands.
        entries: methods that other cells call, beside ``construct``.

    Raises:
        UnmeasuredUse: the weight is used elsewhere, too, or a call cannot be told from those with the weight.
    """
    kind, names = type(cell).__name__, list(operators)
    try:
        methods = methods_of(cell, ("construct", *entries))
    except UnreadableSource as reason:
        raise UnmeasuredUse(str(reason)) from None
    own = _names_of(cell, weight, methods)
    if not own:
        raise UnmeasuredUse(f"{kind} does not read {weight.name.rpartition('.')[2]}")
    measured, others = 0, []
    for method in methods:
        aliases, parents = _aliases(method, own), parents_of(method)
        operands = list(_operands(method, operators))
        of_weight = [operand for operand in operands if _is_weight(operand, own, aliases)]
        measured += len(of_weight)
        others += [operand for operand in operands if not _is_weight(operand, own, aliases)]
        inside = {id(node) for operand in of_weight for node in ast.walk(operand)}
        for node in _loads(method, own, aliases, parents):
            if id(node) not in inside:
                raise UnmeasuredUse(f"{kind} uses {min(own)} outside "
                                    + " and ".join(f"self.{name}" for name in names))
        for node in ast.walk(method):
            if attribute_of_self(node) in operators and not _is_called(node, parents):
                raise UnmeasuredUse(f"{kind} uses self.{attribute_of_self(node)} in another way than to call it")
    if not measured:
        raise UnmeasuredUse(f"{kind} does not multiply with {min(own)} by "
                            + " or ".join(f"self.{name}" for name in names))
    for operand in others:
        known = attribute_of_self(operand)
        value = None if known is None else getattr(cell, known, None)
        if not isinstance(value, Tensor) or tuple(value.shape) == tuple(weight.shape):
            raise UnmeasuredUse(f"{kind} multiplies with {ast.unparse(operand)}, too, which cannot be told from "
                                f"{min(own)}")
    return bool(others)


def _names_of(cell: nn.Cell, weight: Parameter, methods: list[ast.AST]) -> set[str]:
    """Attributes under which the methods of a cell read the weight."""
    read = {name for method in methods for node in ast.walk(method) if (name := attribute_of_self(node)) is not None}
    found = set()
    for name in read:
        value = getattr(cell, name, None)
        if value is weight:
            found.add(name)
        elif isinstance(value, (tuple, list)) and any(item is weight for item in value):
            raise UnmeasuredUse(f"{type(cell).__name__} reads its weight out of self.{name}")
    return found


def _operands(method: ast.AST, operators: dict[str, int]) -> Iterator[ast.AST]:
    """What stands at the weight's place in the calls of ``self.<operator>``."""
    for node in ast.walk(method):
        if isinstance(node, ast.Call) and (name := attribute_of_self(node.func)) in operators:
            if operators[name] < len(node.args):
                yield node.args[operators[name]]


def _is_weight(operand: ast.AST, own: set[str], aliases: set[str]) -> bool:
    """Whether an operand is the weight, perhaps cast."""
    while isinstance(operand, ast.Call) and _last_name(operand.func).startswith("cast") and operand.args:
        operand = operand.args[0]
    while isinstance(operand, ast.Call) and isinstance(operand.func, ast.Attribute) \
            and operand.func.attr in ("astype", "to", "float", "half"):
        operand = operand.func.value
    return attribute_of_self(operand) in own or isinstance(operand, ast.Name) and operand.id in aliases


def _aliases(method: ast.AST, own: set[str]) -> set[str]:
    """Local names that always stand for the weight."""
    values: dict[str, list[ast.AST | None]] = {}
    plain = {id(target): node.value for node in ast.walk(method) if isinstance(node, ast.Assign)
             for target in node.targets}
    plain |= {id(node.target): node.value for node in ast.walk(method)
              if isinstance(node, ast.AnnAssign) and node.value is not None}
    for node in ast.walk(method):
        if isinstance(node, ast.Name) and isinstance(node.ctx, (ast.Store, ast.Del)):
            values.setdefault(node.id, []).append(plain.get(id(node)))
    return {name for name, assigned in values.items()
            if all(value is not None and _is_weight(value, own, set()) for value in assigned)}


def _loads(method: ast.AST, own: set[str], aliases: set[str], parents: dict[int, ast.AST]) -> Iterator[ast.AST]:
    """Where the weight is read for its value; where it only gets a local name, or is compared with None, it is not."""
    for node in ast.walk(method):
        if not (attribute_of_self(node) in own or isinstance(node, ast.Name) and node.id in aliases):
            continue
        if not isinstance(getattr(node, "ctx", None), ast.Load):
            continue
        parent = parents[id(node)]
        if isinstance(parent, ast.Attribute) and parent.attr in READS_NO_VALUE:
            continue
        if isinstance(parent, ast.Call) and _last_name(parent.func) in SHAPE_FUNCTIONS:
            continue
        if isinstance(parent, ast.Compare) and all(isinstance(op, (ast.Is, ast.IsNot)) for op in parent.ops):
            continue
        while isinstance(parent, ast.Call) and _last_name(parent.func).startswith("cast"):
            parent = parents[id(parent)]
        targets = parent.targets if isinstance(parent, ast.Assign) else \
            [parent.target] if isinstance(parent, ast.AnnAssign) else []
        if not targets or not all(isinstance(target, ast.Name) and target.id in aliases for target in targets):
            yield node


def _is_called(node: ast.AST, parents: dict[int, ast.AST]) -> bool:
    parent = parents[id(node)]
    return isinstance(parent, ast.Call) and parent.func is node or \
        isinstance(parent, ast.Compare) and all(isinstance(op, (ast.Is, ast.IsNot)) for op in parent.ops)


def _last_name(node: ast.AST) -> str:
    """``cast`` of ``ops.cast``, ``self.cast`` and ``cast``."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
