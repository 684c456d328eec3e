"""A flat file while it is translated: what was read of it, and what became of each key."""
from __future__ import annotations

import dataclasses
import difflib
import math
from typing import Any

from models.config.errors import ConfigError
from models.config.yaml_nodes import Node
from thor.checks import LONGEST, shortened, shown

WORDS = {"true": True, "false": False}


@dataclasses.dataclass(frozen=True)
class Fate:
    """What became of keys.

    Attributes:
        keys: of the flat file; () for what its program sets itself, and for notes.
        setting: dotted name here, "" where nothing is set.
        value: of the setting.
        why: keys were dropped, or the setting stands where no key says it; the note; "" for a plain translation.
    """

    keys: tuple[str, ...]
    setting: str
    value: Any
    why: str


class Flat:
    """The values of a flat file. Whatever is asked for becomes a setting, or is dropped with a reason.

    Args:
        values: the first document of the file.
    """

    def __init__(self, values: Node) -> None:
        self.given: dict[str, Node] = values.value
        self.where = values.where
        self.fates: list[Fate] = []
        self.settings: dict[str, Node] = {}

    def has(self, key: str) -> bool:
        """Whether the file holds the key with a value: "" is none."""
        return key in self.given and self.given[key].value not in ("", None)

    def value(self, key: str, default: Any = None) -> Any:
        """The plain value of a key."""
        node = self.given.get(key)
        return default if node is None else _plain(node)

    def number(self, key: str, default: float | None = None) -> float:
        """A finite number; refused where the file has none and there is no default."""
        value = self.value(key, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise self.refused(key, "must be a number", "correct it")
        return value

    def count(self, key: str, least: int, remedy: str) -> int:
        """An int from ``least`` on, 1 where the file has none."""
        value = self.value(key, 1)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise self.refused(key, f"must be an int >= {least}", remedy)
        return value

    def flag(self, key: str, default: bool) -> bool:
        """True or False, which these files also write as quoted words."""
        value = self.value(key, default)
        if isinstance(value, str):
            value = WORDS.get(value.lower(), value)
        if not isinstance(value, bool):
            raise self.refused(key, "must be true or false", "correct it")
        return value

    def inside(self, key: str) -> Flat:
        """A section of the file, such as the sizes of one network; its fates are told as ``key.name``."""
        node = self.given.get(key)
        if node is None or not node.is_mapping:
            raise self.refused(key, "must be a section of the file", "take it from the published file")
        return Flat(node)

    def refused(self, key: str, wanted: str, remedy: str) -> ConfigError:
        """The error for the value of a key: ``key=value; must be ...; do ...``."""
        node = self.given.get(key)
        shown_value = "is missing" if node is None else f"={shown(_plain(node))}"
        return ConfigError(f"{key}{' ' if node is None else ''}{shown_value}; {wanted}; {remedy}", key,
                           self.where if node is None else node.where)

    def put(self, setting: str, value: Any, *keys: str, why: str = "") -> None:
        """Set ``setting``; errors about it name the line of the first key that the file holds.

        Raises:
            ConfigError: the value is a section.
        """
        held = tuple(key for key in keys if key in self.given)
        if isinstance(value, dict):
            raise self.refused(held[0], "must be a value, not a section", "correct it")
        where = self.given[held[0]].where if held else self.where
        self.settings[setting] = Node(value, where)
        self.fates.append(Fate(held, setting, value, why))

    def move(self, key: str, setting: str) -> None:
        """Set ``setting`` to the value of the key, where the file holds it."""
        if key in self.given:
            self.put(setting, self.value(key), key)

    def drop(self, why: str, *keys: str) -> None:
        """Say why keys set nothing; those that the file does not hold, or that are settled, are passed over."""
        settled = self.settled()
        held = tuple(key for key in keys if key in self.given and key not in settled)
        if held:
            self.fates.append(Fate(held, "", None, why))

    def note(self, text: str) -> None:
        """Tell what is worth knowing and concerns no key."""
        self.fates.append(Fate((), "", None, text))

    def take_over(self, prefix: str, part: Flat) -> None:
        """What became of the keys of a section is what became of this file's ``prefix.key``."""
        self.settings.update(part.settings)
        self.fates += [dataclasses.replace(fate, keys=tuple(f"{prefix}.{key}" for key in fate.keys))
                       for fate in part.fates]

    def drop_rest(self, known: set[str], why: str, prefix: str = "") -> None:
        """Drop all keys of which nothing was said.

        Raises:
            ConfigError: one of them is nearly a key that is known and not given.
        """
        settled = self.settled()
        for key in [key for key in self.given if key not in settled]:
            near = difflib.get_close_matches(key[:LONGEST], known - self.given.keys(), n=1, cutoff=0.85)
            if near:
                raise ConfigError(f"unknown key {shortened(prefix + key)}; did you mean {prefix}{near[0]}?", key,
                                  self.given[key].where)
        self.drop(why, *self.given)

    def settled(self) -> set[str]:
        """The keys whose fate is told; of sections those of which any is."""
        return {key.partition(".")[0] for fate in self.fates for key in fate.keys}

    @property
    def tree(self) -> Node:
        """The settings, nested."""
        tree = Node({}, self.where)
        for name, node in self.settings.items():
            level = tree
            *sections, leaf = name.split(".")
            for part in sections:
                level = level.value.setdefault(part, Node({}, node.where))
            level.value[leaf] = node
        return tree


def _plain(node: Node) -> Any:
    return {key: _plain(child) for key, child in node.value.items()} if node.is_mapping else node.value
