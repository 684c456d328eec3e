"""Weights of a network that other cells than a layer's own use: which, and by whom."""
from __future__ import annotations

import ast
from collections.abc import Iterator

from mindspore import Parameter, nn

from thor.layers.source import UnreadableSource, attribute_of_self, functions_called, methods_of, parents_of, parse
from thor.layers.usage import READS_NO_VALUE


class OutsideUses:
    """What the cells of a network do with the weights of others.

    Args:
        network: all of it.
        weight_names: attributes under which layers keep their weights.
        operator_names: attributes under which they keep their operators.

    Attributes:
        holders: cells that have a parameter as an attribute, by the id of the parameter.
        readers: types of cells that read a weight of a cell inside them, or call its operator, by id of the weight.
        mentioned: names that cells read of others, among them the methods they call.
    """

    def __init__(self, network: nn.Cell, weight_names: set[str], operator_names: set[str]):
        self.weight_names, self.operator_names = weight_names, operator_names
        self.holders: dict[int, list[nn.Cell]] = {}
        self.readers: dict[int, str] = {}
        self.mentioned: set[str] = set()
        for _, cell in network.cells_and_names():
            for _, parameter in cell.parameters_and_names(expand=False):
                self.holders.setdefault(id(parameter), []).append(cell)
            if cell.name_cells():
                self._read(cell)

    def user(self, weight: Parameter, cells: list[nn.Cell]) -> str:
        """The type of a cell that uses ``weight`` beside ``cells``, its layer's; "" if there is none."""
        own = {id(cell) for cell in cells}
        others = [cell for cell in self.holders.get(id(weight), ()) if id(cell) not in own]
        return self.readers.get(id(weight), "") or (type(others[0]).__name__ if others else "")

    def _read(self, cell: nn.Cell) -> None:
        """Note what the methods of a cell, and the functions they call, read of other cells."""
        try:
            methods = methods_of(cell)
        except UnreadableSource:
            return
        scope = getattr(type(cell).construct, "__globals__", {})
        trees, waiting, seen = list(methods), list(methods), set()
        while waiting:
            for function in functions_called(waiting.pop(), scope):
                tree = parse(function)
                if tree is not None and function not in seen:
                    seen.add(function)
                    trees.append(tree)
                    waiting.append(tree)
        for i, tree in enumerate(trees):
            is_method = i < len(methods)
            for base, name in self._reads_of_others(tree, scope, is_method):
                self.mentioned.add(name)
                if name in self.weight_names or name in self.operator_names:
                    self._note(cell, _cells_at(cell, base) if is_method else None, name)
        self._read_collections(cell, methods)

    def _read_collections(self, cell: nn.Cell, methods: list[ast.AST]) -> None:
        """Note parameters in the tuples and lists that the methods of a cell read."""
        for name in {attribute_of_self(node) for method in methods for node in ast.walk(method)} - {None}:
            value = getattr(cell, str(name), None)
            for item in value if isinstance(value, (tuple, list)) else ():
                if isinstance(item, Parameter):
                    self.readers.setdefault(id(item), type(cell).__name__)

    def _reads_of_others(self, tree: ast.AST, scope: dict, is_method: bool) -> Iterator[tuple[ast.AST, str]]:
        """``(expression, attribute)`` of what is read of anything but ``self`` and what is global, such as modules."""
        parents = parents_of(tree)
        local = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
        local |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)} | {"self"}
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "getattr" \
                    and len(node.args) > 1 and isinstance(node.args[1], ast.Constant):
                yield node.args[0], str(node.args[1].value)
            if not isinstance(node, ast.Attribute) or attribute_of_self(node) is not None and is_method:
                continue
            root = node.value
            while isinstance(root, (ast.Attribute, ast.Subscript, ast.Call)):
                root = root.func if isinstance(root, ast.Call) else root.value
            parent = parents[id(node)]
            shape_only = isinstance(parent, ast.Attribute) and parent.attr in READS_NO_VALUE
            if not shape_only and not (isinstance(root, ast.Name) and root.id in scope and root.id not in local):
                yield node.value, node.attr

    def _note(self, cell: nn.Cell, known: list[nn.Cell] | None, name: str) -> None:
        """Note the weights that attribute ``name`` of the cells ``known`` is, or is multiplied with."""
        if known is None:  # of a local name: any cell inside
            if name in self.operator_names:
                return  # Tensors have methods of these names, too
            known = [inside for _, inside in cell.cells_and_names() if inside is not cell]
        for inside in known:
            names = [name] if name in self.weight_names else self.weight_names if hasattr(inside, name) else []
            for weight in (getattr(inside, each, None) for each in names):
                if isinstance(weight, Parameter):
                    self.readers.setdefault(id(weight), type(cell).__name__)


def _cells_at(cell: nn.Cell, expression: ast.AST) -> list[nn.Cell] | None:
    """The cells that ``self.a.b[0]`` may be; all that a container holds where the index is not a number or a text."""
    if isinstance(expression, ast.Name):
        return [cell] if expression.id == "self" else None
    if isinstance(expression, ast.Attribute):
        owners = _cells_at(cell, expression.value)
        values = [getattr(owner, expression.attr, None) for owner in owners or ()]
        return None if owners is None else [value for value in values if isinstance(value, nn.Cell)]
    if isinstance(expression, ast.Subscript):
        owners = _cells_at(cell, expression.value)
        return None if owners is None else [child for owner in owners for child in owner.cells()]
    return None
