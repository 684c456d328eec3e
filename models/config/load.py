"""From YAML files and command line overrides to a Config."""
from __future__ import annotations

import dataclasses
import difflib
import importlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from models.config.errors import ConfigError, UsageError
from models.config.readers import put_aside
from models.config.schema import Config
from models.config.section import Section
from models.config.upstream import Translation, is_upstream, translated
from models.config.yaml_nodes import Node, node_of, parse_text, read_file, to_text
from thor.checks import Check, shortened, shown

LONGEST_CHAIN = 32  # files that extend one another
_NO_CHECK = Check("", lambda value: value)


def load_config(path: str | Path | None = None, overrides: Sequence[str] = (), beneath: Sequence[str] = ()) -> Config:
    """Read a YAML file, what it extends, and the command line.

    Args:
        path: YAML file; None for all defaults. Its key ``extends`` names a file, relative to itself, whose
            settings hold where it says nothing. Its key ``imports`` names modules, which are imported first. A flat
            file of MindSpore's own is translated, which some lines on stderr tell (models.config.upstream).
        overrides: command line words, ``--section.key value`` or ``--section.key=value``; the value is YAML.
            They win over the files; the last of two equal ones wins.
        beneath: such words that hold over the file and beneath ``overrides``.

    A setting that nothing reads is refused. Where a file or the words choose anew what decides that, such as the
    optimizer, settings given beneath them for the earlier choice are put aside; see models.config.readers.

    Raises:
        ConfigError: one line, with file and line, or the flag, of what is wrong. UsageError for a
            command line that is not of this form.
    """
    flat: list[Translation] = []
    layers = _layers(Path(path), flat) if path is not None else [Node({}, "defaults")]
    layers += [_given(words) for words in (beneath, overrides) if words]
    tree = _over(layers)
    if "imports" in tree.value and not tree.value["imports"].is_mapping:
        _import_modules(tree.value["imports"])
    config = _resolved(layers)
    for translation in flat:
        translation.tell()
    return config


def changed(config: Config, settings: dict[str, Any]) -> Config:
    """``config`` with other values of settings, by dotted name, as if the command line gave them.

    Raises:
        ConfigError: as ``load_config``.
    """
    tree = Node({}, "changed")
    for name, value in settings.items():
        tree = _merge(tree, _nested(name, node_of(value, "changed"), "changed"))
    return _resolved([node_of(config_tree(config), "config"), tree])


def dump_config(config: Config) -> str:
    """The resolved configuration as YAML; ``load_config`` of it gives an equal Config."""
    return to_text(config_tree(config))


def config_tree(section: Section) -> dict[str, Any]:
    """The configuration as nested dicts of plain values."""
    return {field.name: _plain(getattr(section, field.name)) for field in dataclasses.fields(section)}


def _merge(base: Node, top: Node) -> Node:
    """``top`` over ``base``: mappings are merged key by key, everything else is replaced."""
    if not (base.is_mapping and top.is_mapping):
        return top
    merged = dict(base.value)
    for key, node in top.value.items():
        merged[key] = _merge(merged[key], node) if key in merged else node
    return Node(merged, top.where)


def read_tree(path: Path) -> Node:
    """The mapping in a YAML file over those of the files it extends.

    Raises:
        ConfigError: a file cannot be read or leads back to itself.
    """
    return _over(_layers(path, []))


def _over(layers: Sequence[Node]) -> Node:
    """Every layer over those before it."""
    tree = layers[0]
    for layer in layers[1:]:
        tree = _merge(tree, layer)
    return tree


def _given(words: Sequence[str]) -> Node:
    """What command line words say."""
    tree = Node({}, "command line")
    for flag, name, value in _flags(words):
        node = Node(value, flag) if _is_verbatim(name) else parse_text(value, flag, with_lines=False)
        tree = _merge(tree, _nested(name, node, flag))
    return tree


def _resolved(layers: Sequence[Node]) -> Config:
    """The configuration of all layers, without what they put aside."""
    aside = put_aside(Config, [dict(_flat(layer)) for layer in layers])
    return _build(Config, _without(_over(layers), aside), "")


def _flat(node: Node, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Values by dotted name."""
    for key, child in node.value.items():
        if child.is_mapping:
            yield from _flat(child, f"{prefix}{key}.")
        else:
            yield prefix + key, child.value


def _without(node: Node, names: set[str], prefix: str = "") -> Node:
    """``node`` less the values with these dotted names."""
    return Node({key: _without(child, names, f"{prefix}{key}.") if child.is_mapping else child
                 for key, child in node.value.items() if prefix + key not in names}, node.where)


def read_flat(path: Path) -> Translation | None:
    """The settings in a flat file of MindSpore's own; None for another file.

    Raises:
        ConfigError: as ``load_config``, without what it says of single settings.
    """
    flat: list[Translation] = []
    _layers(path, flat)
    return next((translation for translation in flat if translation.path == path), None)


def _layers(path: Path, flat: list[Translation], below: tuple[Path, ...] = ()) -> list[Node]:
    """The mapping in a YAML file behind those of the files it extends.

    Args:
        path: the file.
        flat: gets what flat files were translated to.
        below: the files that extend it.
    """
    node = read_file(path, is_upstream)
    if is_upstream(node):
        flat.append(translated(node, path, {field.name for field in dataclasses.fields(Config)} | {"extends"}))
        return [flat[-1].tree]
    parent = node.value.get("extends")
    if parent is None:
        return [node]
    if not isinstance(parent.value, str):
        raise ConfigError(f"extends={shown(parent.value)}; must be the path of one YAML file",
                          "extends", parent.where)
    base_path = path.parent / parent.value
    if not _is_file(base_path):
        raise ConfigError(f"extends={shown(parent.value)}; must be a file relative to {path.parent}",
                          "extends", parent.where)
    chain = (*below, path.resolve())
    if len(chain) == LONGEST_CHAIN:
        raise ConfigError(f"extends={shown(parent.value)}; must be one of at most {LONGEST_CHAIN - 1} files that "
                          "extend one another; merge some", "extends", parent.where)
    if base_path.resolve() in chain:
        raise ConfigError(f"extends={shown(parent.value)} leads back to itself; remove one of the extends",
                          "extends", parent.where)
    own = {key: child for key, child in node.value.items() if key != "extends"}
    return [*_layers(base_path, flat, chain), Node(own, node.where)]


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name too long, or with characters that none has
        return False


def _import_modules(node: Node) -> None:
    """Import what the key ``imports`` names, so that what it registers is known; errors inside a module are its own."""
    try:
        names = Config(imports=node.value).imports
    except ConfigError as error:
        raise ConfigError(error.message, error.key, node.where) from None
    for name in names:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{name}.".startswith(f"{error.name}."):
                raise
            raise ConfigError(f"imports={shown(name)}; must be a module Python finds; start where it is, or put its "
                              "folder on PYTHONPATH", "imports", node.where) from None


def _flags(words: Sequence[str]) -> list[tuple[str, str, str]]:
    """(flag as shown in errors, dotted name, YAML text) of each override."""
    flags, rest = [], list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("--") or len(word) == 2:
            raise UsageError(f"{shown(word)}; must be --section.key value", where="command line")
        flag, equals, value = word.partition("=")
        if not equals:
            if not rest or rest[0].startswith("--"):
                raise UsageError("needs a value; write --section.key value", where=flag)
            value = rest.pop(0)
        flags.append((flag, flag[2:], value))
    return flags


def _is_verbatim(name: str) -> bool:
    kind, _, leaf = name.rpartition(".")
    section = Config
    for part in filter(None, kind.split(".")):
        section = section.subsections().get(part)
        if section is None:
            return False
    return any(field.name == leaf and field.metadata.get("check", _NO_CHECK).verbatim
               for field in dataclasses.fields(section))


def _nested(name: str, node: Node, where: str) -> Node:
    for part in reversed(name.split(".", 8)):  # what follows is below any setting
        node = Node({part: node}, where)
    return node


def _build(kind: type[Section], node: Node, prefix: str) -> Section:
    sections = kind.subsections()
    known = [field.name for field in dataclasses.fields(kind)]
    node = _merge(node_of(kind.presets(_values(node)), node.where), node)
    values = {}
    for key, child in node.value.items():
        dotted = prefix + key
        if key not in known:
            raise ConfigError(_unknown(dotted, [prefix + name for name in known]), dotted, child.where)
        if key in sections:
            if not child.is_mapping:
                example = dataclasses.fields(sections[key])[0].name
                raise ConfigError(f"{dotted}={shown(child.value)}; must be a section; set keys inside it, such as "
                                  f"{dotted}.{example}", dotted, child.where)
            values[key] = _build(sections[key], child, dotted + ".")
        elif child.is_mapping:
            raise ConfigError(f"{dotted} must be a value, not a section", dotted, child.where)
        else:
            values[key] = child.value
    try:
        return kind(**values)
    except ConfigError as error:
        raise ConfigError(prefix + error.message, prefix + error.key, _where(node, error.key)) from None


def _values(node: Node) -> Any:
    return {key: _values(child) for key, child in node.value.items()} if node.is_mapping else node.value


def _where(node: Node, key: str) -> str:
    for part in key.split("."):
        if not node.is_mapping or part not in node.value:
            break
        node = node.value[part]
    return node.where


def _unknown(dotted: str, siblings: list[str]) -> str:
    near = _nearest(dotted, siblings) or _nearest(dotted, list(_dotted_names(Config, "")))
    hint = f"did you mean {near}?" if near else f"known here: {', '.join(siblings)}"
    return f"unknown key {shortened(dotted)}; {hint}"


def _nearest(dotted: str, names: list[str]) -> str:
    leaves = [name.rpartition(".")[2] for name in names]
    near = difflib.get_close_matches(dotted.rpartition(".")[2], leaves, n=1, cutoff=0.6)
    return names[leaves.index(near[0])] if near else ""


def _dotted_names(kind: type[Section], prefix: str):
    sections = kind.subsections()
    for field in dataclasses.fields(kind):
        yield prefix + field.name
        if field.name in sections:
            yield from _dotted_names(sections[field.name], f"{prefix}{field.name}.")


def _plain(value: Any) -> Any:
    if isinstance(value, Section):
        return config_tree(value)
    return list(value) if isinstance(value, tuple) else value
