"""Settings that are paths."""
from __future__ import annotations

import dataclasses
import os
import unicodedata

from thor.checks import Check, text

LONGEST_NAME, LONGEST_PATH = 255, 4000  # bytes; file systems of Linux take 255 and 4095


def file_path(requirement: str, empty: bool = False) -> Check:
    """Text that a file system takes as a path; "" only where ``empty``."""
    plain = text(requirement)

    def parse(value: object) -> str:
        kept = plain.parse(value)
        if not kept and not empty:
            raise ValueError("it is empty, use . for the present folder")
        if any(unicodedata.category(letter) == "Cc" for letter in kept):
            raise ValueError("remove the control characters")
        try:
            encoded = os.fsencode(kept)
        except UnicodeEncodeError:
            raise ValueError("remove the characters that are no text") from None
        if len(encoded) > LONGEST_PATH or any(len(name) > LONGEST_NAME for name in encoded.split(b"/")):
            raise ValueError("shorten it, no file system takes it")
        return kept
    return dataclasses.replace(plain, parse=parse)
