"""How names of parameters here become those of another program: tables, and what reads them. No MindSpore."""
from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping

FORMS = ZOO, MINDSPORE, TORCHVISION, HUGGING_FACE = "zoo", "mindspore", "torchvision", "huggingface"
# what a parameter of a layer is called in any of the programs
_LEAVES = ("weight", "bias", "gamma", "beta", "moving_mean", "moving_variance", "running_mean", "running_var",
           "embedding_table")


@dataclasses.dataclass(frozen=True)
class Scheme:
    """The names a program gives the parameters of one kind of network.

    Attributes:
        rows: names here to names there. ``#`` stands for a number, ``*`` at the end for the parameter of a layer; they
            come in the same order on both sides. Without rows all names are as here.
        leaves: parameters of layers that are called otherwise there, ``gamma`` to ``weight`` for one.
        older: regular expressions of names as older files of that program write them, and what these are now.
        tied: names there that older or other files also hold, and the name of the same values.
        unused: names there of weights that its network keeps and does not use where it also has the second.
    """

    rows: Mapping[str, str] = dataclasses.field(default_factory=dict)
    leaves: Mapping[str, str] = dataclasses.field(default_factory=dict)
    older: Mapping[str, str] = dataclasses.field(default_factory=dict)
    tied: Mapping[str, str] = dataclasses.field(default_factory=dict)
    unused: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def name(self, ours: str) -> str | None:
        """The name there of the parameter ``ours``; None where it has none."""
        if not self.rows:
            return ours
        for row, theirs in self.rows.items():
            found = re.fullmatch(_pattern(row), ours)
            if found:
                *numbers, leaf = (*found.groups(), "")[:row.count("#") + 1]
                for number in numbers:
                    theirs = theirs.replace("#", number, 1)
                return theirs.replace("*", self.leaves.get(leaf, leaf))
        return None

    def is_weight(self, theirs: str) -> bool:
        """Whether such networks have a parameter of this name there, whatever their depth."""
        return any(re.fullmatch(_pattern(row), theirs) for row in self.rows.values())

    def current(self, names: Iterable[str]) -> dict[str, str]:
        """Names of today to those of a file; of two for one the first counts."""
        found: dict[str, str] = {}
        for name in names:
            now = name
            for old, new in self.older.items():
                now = re.sub(old, new, now)
            found.setdefault(now, name)
        for copy, name in self.tied.items():
            if copy in found:
                found.setdefault(name, found[copy])
        return found


def _pattern(row: str) -> str:
    return re.escape(row).replace(re.escape("#"), r"(\d+)").replace(re.escape("*"), f"({'|'.join(_LEAVES)})")
