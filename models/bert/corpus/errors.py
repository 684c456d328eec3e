"""The error of the preparation."""
from __future__ import annotations


class CorpusError(ValueError):
    """Text, vocabulary or output folder that cannot be used, told in one line."""
