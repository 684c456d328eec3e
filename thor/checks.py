"""What a setting may be, said once for arguments in Python and for configurations in YAML; needs nothing else.

A :class:`Check` turns a value into the value kept, or refuses it. :func:`checked` applies one to an argument of a
constructor; :func:`setting` declares the field of a frozen dataclass with one, which :func:`check_fields` applies.
Every refusal is one line: the name, its value, what it must be and what to do.
"""
from __future__ import annotations

import dataclasses
import difflib
import math
import struct
from collections.abc import Callable, Iterable
from numbers import Integral, Real
from typing import Any


class ArgumentError(TypeError, ValueError):
    """An argument that is refused, whether for its type or for its value."""


IN_RANGE = "give a Python float in that range"
INT32 = 2 ** 31 - 1  # what MindSpore counts with
LONGEST = 200  # characters of a value that a message shows


@dataclasses.dataclass(frozen=True)
class Check:
    """``parse(value)`` gives the value kept or raises ValueError, whose text, if any, is the remedy.

    Attributes:
        requirement: completes the sentence "must be ..."; a function where it changes.
        in_yaml: the same in the words of a YAML file; None where they are the same.
        verbatim: values from a command line are taken as they stand, not read as YAML.
    """

    requirement: str | Callable[[], str]
    parse: Callable[[Any], Any]
    in_yaml: str | None = None
    verbatim: bool = False

    @property
    def wanted(self) -> str:
        """The requirement as it is now."""
        return self.requirement if isinstance(self.requirement, str) else self.requirement()

    @property
    def wanted_in_yaml(self) -> str:
        """The same for a YAML file."""
        return self.in_yaml or self.wanted


def shortened(text: str, longest: int = LONGEST) -> str:
    """``text`` in one line of at most about ``longest`` characters."""
    line = text[:longest].replace("\n", " ")
    return line if len(text) <= longest else f"{line}... ({len(text)} characters)"


def shown(value: Any) -> str:
    """``repr(value)`` as a message has room for it."""
    try:
        return shortened(repr(value))
    except ValueError:  # Python writes no ints of thousands of digits
        return "an int of too many digits"


def checked(name: str, value: Any, check: Check, remedy: str) -> Any:
    """The value of an argument as ``check`` keeps it.

    Raises:
        ArgumentError: ``name=value; must be ...; remedy``.
    """
    try:
        return check.parse(value)
    except ValueError as error:
        raise ArgumentError(f"{name}={shown(value)}; must be {check.wanted}; {str(error) or remedy}") from None


def setting(default: Any, check: Check, remedy: str = "", remedy_in_yaml: str | None = None) -> Any:
    """A dataclass field that holds ``default`` and is checked by ``check``; ``remedy`` says what to do."""
    metadata = {"check": check, "remedy": remedy,
                "remedy_in_yaml": remedy if remedy_in_yaml is None else remedy_in_yaml}
    if isinstance(default, (list, dict)):
        return dataclasses.field(default_factory=lambda: type(default)(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def check_fields(settings: Any) -> None:
    """Apply the checks of a frozen dataclass to itself, for its ``__post_init__``."""
    for field in dataclasses.fields(settings):
        value = checked(field.name, getattr(settings, field.name), field.metadata["check"], field.metadata["remedy"])
        object.__setattr__(settings, field.name, value)


def flag() -> Check:
    """Exactly True or False."""
    def parse(value: Any) -> bool:
        if not isinstance(value, bool):
            raise ValueError
        return value
    return Check("a bool", parse, in_yaml="true or false")


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
        key = value.lower() if isinstance(value, str) else shown(value).lower()
        if key in by_lower:
            return by_lower[key]
        near = difflib.get_close_matches(key, by_lower, n=1)
        raise ValueError(f"did you mean {by_lower[near[0]]}?" if near else "")
    return Check(lambda: "one of " + ", ".join(names()), parse)


def integer(minimum: int, maximum: int | None = None, limit: int = INT32) -> Check:
    """An int, NumPy's included, within the bounds; ``limit`` is the largest where ``maximum`` says nothing."""
    def parse(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, Integral):
            raise ValueError
        whole = int(value)
        if whole < minimum or (maximum is not None and whole > maximum):
            raise ValueError
        if maximum is None and whole > limit:
            raise ValueError(f"use at most {limit}")
        return whole
    span = f"an int >= {minimum}" if maximum is None else f"an int from {minimum} to {maximum}"
    return Check(span, parse)


def whole_number(minimum: int) -> Check:
    """As ``integer``; a float without a fraction is one."""
    check = integer(minimum)

    def parse(value: Any) -> int:
        return check.parse(int(value) if isinstance(value, float) and value.is_integer() else value)
    return dataclasses.replace(check, parse=parse)


def in_float32(value: float) -> float:
    """``value`` rounded to float32, in which MindSpore computes; infinity beyond its range."""
    try:
        return struct.unpack("f", struct.pack("f", float(value)))[0]
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _is_finite(value: Any) -> bool:
    is_real = isinstance(value, Real) and not isinstance(value, bool)
    return is_real and -math.inf < value < math.inf  # math.isfinite refuses ints beyond float64


def number(above: float | None = None, minimum: float | None = None, below: float | None = None,
           maximum: float | None = None, requirement: str | None = None, limit: float = math.inf) -> Check:
    """A finite number; ``above`` and ``below`` exclude the border, ``minimum`` and ``maximum`` include it.

    One that float32 rounds to infinity, to zero or to an excluded border is refused, and one larger than ``limit``.
    """
    borders: list[tuple] = [(above, ">", lambda x: x > above), (minimum, ">=", lambda x: x >= minimum),
                            (below, "<", lambda x: x < below), (maximum, "<=", lambda x: x <= maximum)]
    borders = [border for border in borders if border[0] is not None]

    def parse(value: Any) -> float:
        if not _is_finite(value) or not all(inside(value) for _, _, inside in borders):
            raise ValueError
        if value > limit:
            raise ValueError(f"use at most {limit:g}")
        rounded = in_float32(value)
        if not math.isfinite(rounded) or (rounded == 0) != (value == 0) or rounded in (above, below):
            raise ValueError(f"float32 rounds it to {rounded:g}, use a number it can hold")
        return float(value)
    limits = f"a number {' and '.join(f'{sign} {border:g}' for border, sign, _ in borders)}".rstrip()
    return Check(requirement or limits, parse)


def optional(check: Check, meaning: str) -> Check:
    """``check``, or None (null in YAML), which means ``meaning``."""
    def parse(value: Any) -> Any:
        return None if value is None else check.parse(value)
    return Check(f"{check.wanted} or None", parse, in_yaml=f"{check.wanted_in_yaml}, or null for {meaning}")


def ascending(minimum: int = 0) -> Check:
    """A non-empty list of strictly ascending ints, kept as a tuple."""
    def parse(value: Any) -> tuple[int, ...]:
        if not isinstance(value, (list, tuple)) or not value:
            raise ValueError
        if any(isinstance(item, bool) or not isinstance(item, Integral) or item < minimum for item in value):
            raise ValueError
        if value[-1] > INT32:
            raise ValueError(f"use at most {INT32}")
        if any(first >= second for first, second in zip(value, value[1:])):
            raise ValueError
        return tuple(int(item) for item in value)
    return Check(f"a non-empty list of ascending ints >= {minimum}", parse)


def function() -> Check:
    """Anything that can be called."""
    def parse(value: Any) -> Callable:
        if not callable(value):
            raise ValueError
        return value
    return Check("a function of a Parameter", parse)
