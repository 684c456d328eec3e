"""``thor`` stands alone: no file of it imports the zoo, the benchmarks or the tests, nor what it does not require."""
from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FORBIDDEN = ("models", "benchmarks", "tests")
INSTALLED = {"mindspore", "numpy", "scipy", "threadpoolctl"}
NAME_OF_A_MODULE = re.compile(rf"({'|'.join(FORBIDDEN)})(\.\w+)*")
FILES = sorted((ROOT / "thor").rglob("*.py"))


def imported(source: str) -> Iterator[str]:
    """Whole names of the modules that a source imports anywhere; relative imports are its own package's."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module


def foreign(source: str) -> list[str]:
    """Modules of the forbidden packages that a source imports, or names in a string: for importlib, runpy, ``-m``."""
    named = [node.value for node in ast.walk(ast.parse(source))
             if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return [name for name in (*imported(source), *named) if NAME_OF_A_MODULE.fullmatch(name)]


@pytest.mark.parametrize("source, found", [
    ("import models", ["models"]),
    ("import numpy, benchmarks.common as common", ["benchmarks.common"]),
    ("def late():\n    from models.config import load_config", ["models.config"]),
    ("class C:\n    def method(self):\n        if self:\n            from tests import helpers", ["tests"]),
    ("import importlib\nimportlib.import_module('models.ranks')", ["models.ranks"]),
    ("__import__(name='models')", ["models"]),
    ("subprocess.run([sys.executable, '-m', 'benchmarks.step_time'])", ["benchmarks.step_time"]),
    ("from thor.model import StepModel\nfrom . import models\nmodels.run('the models', 'my.models')", []),
])
def test_imports_of_every_kind_are_found(source, found):
    assert foreign(source) == found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_thor_imports_nothing_of_the_zoo_the_benchmarks_and_the_tests(path):
    assert foreign(path.read_text(encoding="utf-8")) == []


def test_thor_imports_what_it_requires_and_nothing_else():
    names = {name.split(".")[0] for path in FILES for name in imported(path.read_text(encoding="utf-8"))}
    assert names - sys.stdlib_module_names - {"thor"} == INSTALLED
