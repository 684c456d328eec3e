"""The JSON files that a preparation leaves for itself and for training."""
from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models.bert.corpus import CorpusError


def read_json(path: Path, keys: Mapping[str, type]) -> dict[str, Any]:
    """The object in ``path``.

    Args:
        path: a file of this package.
        keys: what must be in it, of which type.

    Raises:
        CorpusError: it is damaged or something else.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        raise damaged(path) from None
    if not isinstance(found, dict) or not all(isinstance(found.get(key), kind) for key, kind in keys.items()):
        raise damaged(path)
    return found


def damaged(path: Path) -> CorpusError:
    """What is said of a file that cannot be one of a preparation."""
    folder = path.parent if not path.parent.name.startswith(".") else path.parent.parent
    return CorpusError(f"{path}: is damaged or of another program; delete {folder} and prepare the data again")
