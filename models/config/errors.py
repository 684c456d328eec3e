"""The error every part of the configuration raises."""
from __future__ import annotations

from thor.checks import shortened, shown


class ConfigError(ValueError):
    """A configuration that cannot be used, told in one line.

    Attributes:
        message: what is wrong, ``name=value; must be ...; do ...``.
        key: dotted name of the offending setting, "" when the whole file is meant.
        where: "file:line" or the command line flag, "" when built in Python.
    """

    def __init__(self, message: str, key: str = "", where: str = "") -> None:
        super().__init__(f"{shortened(where, 500)}: {message}" if where else message)
        self.message = message
        self.key = key
        self.where = where


class UsageError(ConfigError):
    """A command line that cannot be understood; entries end with status 2."""


def invalid(key: str, value: object, requirement: str, remedy: str = "") -> ConfigError:
    """``key=value; must be requirement; remedy``."""
    message = f"{key}={shown(value)}; must be {requirement}"
    return ConfigError(f"{message}; {remedy}" if remedy else message, key)
