"""The base of every configuration section."""
from __future__ import annotations

import dataclasses
from typing import Any

from models.config.errors import invalid


class Section:
    """A frozen dataclass that checks its own fields when built, also through ``dataclasses.replace``.

    Raises:
        ConfigError: ``name=value; must be ...; do ...`` for the first setting that cannot be used.
    """

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            object.__setattr__(self, field.name, _checked(field, getattr(self, field.name)))
        self.check_together()

    def check_together(self) -> None:
        """Rules that span settings; overridden by sections that have some."""

    @classmethod
    def presets(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Settings that hold beneath the ``values`` of a file, both nested; overridden by sections that have some."""
        return {}

    @classmethod
    def subsections(cls) -> dict[str, type[Section]]:
        """Names and classes of the fields that are sections themselves."""
        return {field.name: field.default_factory for field in dataclasses.fields(cls)
                if isinstance(field.default_factory, type) and issubclass(field.default_factory, Section)}


def subsection(kind: type[Section]) -> Any:
    """A dataclass field that holds a section of class ``kind``."""
    return dataclasses.field(default_factory=kind)


def _checked(field: dataclasses.Field, value: Any) -> Any:
    if "check" not in field.metadata:
        if not isinstance(value, field.default_factory):
            raise invalid(field.name, value, f"a {field.default_factory.__name__}")
        return value
    check = field.metadata["check"]
    try:
        return check.parse(value)
    except ValueError as error:
        remedy = str(error) or field.metadata["remedy_in_yaml"]
        raise invalid(field.name, value, check.wanted_in_yaml, remedy) from None
