"""A corpus every machine has: Python's reference text and the docstrings of the scientific packages.

Nothing is imported or run: docstrings are read from the source files. One file of a package is one document.
"""
from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from models.bert.corpus.documents import Piece, sentences
from models.bert.corpus.workers import process_pool

PACKAGES = ("numpy", "scipy", "mindspore", "sklearn", "matplotlib")
DISTRIBUTIONS = {"sklearn": "scikit-learn"}
FEWEST_WORDS = 6
WORD = re.compile(r"[\"'(]*[A-Za-z][A-Za-z'\-]*[.,;:!?)\"']*")
MARKUP = re.compile(r":\w+:(?=`)|[`*]+|(?<=\w)::?$")
NOT_PROSE = (">>>", "...", "|", "+-", ".. ", "==", "--", "~~")


def facts() -> list[str]:
    """What the corpus is made from: packages that are here, with their versions."""
    found = []
    for name in PACKAGES:
        if importlib.util.find_spec(name) is not None:
            try:
                found.append(f"{name} {version(DISTRIBUTIONS.get(name, name))}")
            except PackageNotFoundError:
                found.append(name)
    return found


def source_files() -> list[Path]:
    """Python files of the packages that are installed, without their tests."""
    files: list[Path] = []
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.origin:
            root = Path(spec.origin).parent
            files += [path for path in sorted(root.rglob("*.py")) if "tests" not in path.relative_to(root).parts]
    return files


def builtin_documents(files: list[Path], workers: int) -> Iterator[Piece]:
    """Python's topics, then one document a file; every sentence is kept where it comes first, and only there.

    Args:
        files: Python sources, such as ``source_files()``.
        workers: processes that read them.
    """
    from pydoc_data.topics import topics

    seen: set[str] = set()
    for name in sorted(topics):
        yield Piece(_new_sentences(prose(topics[name]), seen))
    with process_pool(workers) as pool:
        for file, paragraphs in zip(files, pool.map(_file_prose, files, chunksize=16)):
            yield Piece(_new_sentences(paragraphs, seen), bytes=file.stat().st_size)


def _file_prose(file: Path) -> list[str]:
    """The paragraphs of prose in the docstrings of a source file; [] if it is not Python."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError, RecursionError):
        return []
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    texts = [ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, documented)]
    return [paragraph for text in texts if text for paragraph in prose(text)]


def prose(text: str) -> list[str]:
    """Paragraphs that are prose, each as one line: no code, tables, headings or lists of parameters."""
    found = []
    for block in re.split(r"\n\s*\n", text):
        lines = [line.strip() for line in block.splitlines() if line.strip()]
        paragraph = " ".join(MARKUP.sub("", line) for line in lines)
        if not any(line.startswith(NOT_PROSE) for line in lines) and _is_prose(paragraph):
            found.append(paragraph)
    return found


def _is_prose(paragraph: str) -> bool:
    words = paragraph.split()
    if len(words) < FEWEST_WORDS or paragraph[-1] not in ".!?":
        return False
    return sum(bool(WORD.fullmatch(word)) for word in words) >= 0.7 * len(words)


def _new_sentences(paragraphs: list[str], seen: set[str]) -> list[str]:
    fresh = []
    for paragraph in paragraphs:
        for sentence in sentences(paragraph):
            if sentence not in seen:
                seen.add(sentence)
                fresh.append(sentence)
    return fresh
