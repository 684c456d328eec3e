"""Errors about dataset files, each one line that names the file and the remedy."""
from __future__ import annotations

import re
from pathlib import Path


def require_folder(path: str, remedy: str, name: str = "data.path") -> Path:
    """``path`` as a Path, or FileNotFoundError / NotADirectoryError naming the setting and ``remedy``."""
    if not path:
        raise FileNotFoundError(f"{name} is empty; {remedy}")
    folder = Path(path)
    if not folder.exists():
        raise FileNotFoundError(f"{name}={path}; no such folder; {remedy}")
    if not folder.is_dir():
        raise NotADirectoryError(f"{name}={path}; is not a folder; {remedy}")
    return folder


def dataset_error_line(error: BaseException) -> str:
    """What went wrong in a running MindSpore data pipeline, as one line; "" if ``error`` is not from one.

    MindSpore reports an unreadable image or record as a RuntimeError of many lines while training runs. Its Python
    steps raise with a reason, its own operators without; the file is known of both where each row is a file's.
    """
    message = str(error)
    if "Dataset Pipeline Error Message:" not in message:
        return ""
    found = re.search(r"corresponding data file is: (.+?)\. Error description", message, re.DOTALL)
    file = found.group(1).replace("\n", "\\n") if found else ""
    raised = re.findall(r"^(?:ValueError|OSError|TypeError|MemoryError): (?!Traceback)(.+)$", message, re.MULTILINE)
    if raised:
        return raised[-1] if not file or file in raised[-1] else f"{file}: {raised[-1]}"
    if file:
        return f"{file}: cannot be read; delete or replace it"
    match = re.search(r"Dataset Pipeline Error Message:.*?\[ERROR\]\s*(.+?)\s*\n-{5,}", message, re.DOTALL)
    return " ".join(match.group(1).split()) if match else ""
