"""Stands for models.compare.timing: the first optimizer takes a second a step, the next two, ..."""
from __future__ import annotations

import json
import sys
from pathlib import Path

path, labels = sys.argv[2], [word.partition("=")[0] for word in sys.argv[3:]]
assert all(Path(word.partition("=")[2]).is_file() for word in sys.argv[3:])
Path(path).write_text(json.dumps({label: [n - 1.0, n - 0.5, n, n + 0.5, n + 1.0] for n, label in enumerate(labels, 1)}))
with open("timed.txt", "a", encoding="utf-8") as stream:
    stream.write(" ".join(labels) + "\n")
