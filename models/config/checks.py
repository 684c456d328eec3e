"""What a setting may hold. A check turns a value from YAML into the value kept, or raises ValueError."""
from __future__ import annotations

import dataclasses
import difflib
import math
from typing import Any, Callable, Iterable


@dataclasses.dataclass(frozen=True)
class Check:
    """``parse(value)`` gives the value kept or raises ValueError, whose text, if any, is the remedy.

    ``requirement`` completes the sentence "must be ..."; a function where it changes. ``verbatim`` values are taken
    from the command line as they stand, not read as YAML.
    """

    requirement: str | Callable[[], str]
    parse: Callable[[Any], Any]
    verbatim: bool = False

    @property
    def wanted(self) -> str:
        """The requirement as it is now."""
        return self.requirement if isinstance(self.requirement, str) else self.requirement()


def setting(default: Any, check: Check, remedy: str = "") -> Any:
    """A dataclass field that holds ``default`` and is checked by ``check``; ``remedy`` says what to do."""
    metadata = {"check": check, "remedy": remedy}
    if isinstance(default, (list, dict)):
        return dataclasses.field(default_factory=lambda: type(default)(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def flag() -> Check:
    def parse(value: Any) -> bool:
        if not isinstance(value, bool):
            raise ValueError
        return value
    return Check("true or false", parse)


def text(requirement: str = "text") -> Check:
    def parse(value: Any) -> str:
        if not isinstance(value, str):
            raise ValueError("put it in quotes")
        return value
    return Check(requirement, parse, verbatim=True)


def choice(*names: str) -> Check:
    """One of ``names``; upper and lower case count as the same."""
    return dataclasses.replace(registered(lambda: names), requirement="one of " + ", ".join(names))


def registered(names: Callable[[], Iterable[str]]) -> Check:
    """As ``choice``, of the names there are when a value is checked."""
    def parse(value: Any) -> str:
        by_lower = {name.lower(): name for name in names()}
        if str(value).lower() in by_lower:
            return by_lower[str(value).lower()]
        near = difflib.get_close_matches(str(value).lower(), by_lower, n=1)
        raise ValueError(f"did you mean {by_lower[near[0]]}?" if near else "")
    return Check(lambda: "one of " + ", ".join(names()), parse)


def integer(minimum: int, maximum: int | None = None) -> Check:
    def parse(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError
        if value < minimum or (maximum is not None and value > maximum):
            raise ValueError
        return value
    span = f"an int >= {minimum}" if maximum is None else f"an int from {minimum} to {maximum}"
    return Check(span, parse)


def number(above: float | None = None, minimum: float | None = None, below: float | None = None,
           maximum: float | None = None) -> Check:
    """A finite number; ``above`` and ``below`` exclude the border, ``minimum`` and ``maximum`` include it."""
    borders = [(above, ">", lambda x: x > above), (minimum, ">=", lambda x: x >= minimum),
               (below, "<", lambda x: x < below), (maximum, "<=", lambda x: x <= maximum)]
    borders = [border for border in borders if border[0] is not None]

    def parse(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise ValueError
        if not all(inside(value) for _, _, inside in borders):
            raise ValueError
        return float(value)
    limits = " and ".join(f"{sign} {border:g}" for border, sign, _ in borders)
    return Check(f"a number {limits}".rstrip(), parse)


def optional(check: Check, meaning: str) -> Check:
    """``check``, or null, which means ``meaning``."""
    def parse(value: Any) -> Any:
        return None if value is None else check.parse(value)
    return Check(f"{check.requirement}, or null for {meaning}", parse)


def module_names() -> Check:
    """Names of Python modules, one or a list, kept as a tuple."""
    def parse(value: Any) -> tuple[str, ...]:
        names = [value] if isinstance(value, str) else value
        if not isinstance(names, (list, tuple)):
            raise ValueError
        if not all(isinstance(name, str) and all(map(str.isidentifier, name.split("."))) for name in names):
            raise ValueError
        return tuple(names)
    return Check("a list of names of Python modules", parse)


def ascending(minimum: int = 0) -> Check:
    """A non-empty list of strictly ascending ints, kept as a tuple."""
    def parse(value: Any) -> tuple[int, ...]:
        if not isinstance(value, (list, tuple)) or not value:
            raise ValueError
        if any(isinstance(item, bool) or not isinstance(item, int) or item < minimum for item in value):
            raise ValueError
        if any(first >= second for first, second in zip(value, value[1:])):
            raise ValueError
        return tuple(value)
    return Check(f"a non-empty list of ascending ints >= {minimum}", parse)
