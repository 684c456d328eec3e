"""The built wheel holds the optimizer alone, and asks for what it imports."""
from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import Distribution, PathDistribution
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NEEDED = {"mindspore", "numpy", "scipy", "threadpoolctl"}


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"  # a copy, because setuptools leaves and reuses a build folder
    for package in ("thor", "models", "benchmarks", "tests"):
        shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    for name in ("setup.py", "README.md"):
        shutil.copy(ROOT / name, source)
    built = subprocess.run([sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder,
                            source], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    (wheel,) = folder.glob("mindspore_thor-*.whl")
    zipfile.ZipFile(wheel).extractall(folder / "site")
    return folder / "site"


@pytest.fixture(scope="module")
def distribution(unpacked) -> Distribution:
    (metadata,) = unpacked.glob("*.dist-info")
    return PathDistribution(metadata)


def python(program: str, site: Path) -> str:
    run = subprocess.run([sys.executable, "-c", f"import sys; sys.path.insert(0, {str(site)!r}); {program}"],
                         capture_output=True, text=True, check=False, cwd=site.parent)
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_thor_imports_from_the_wheel(unpacked):
    output = python("import thor; print(thor.__file__); print(thor.THOR)", unpacked)
    assert output.splitlines() == [str(unpacked / "thor" / "__init__.py"), "<class 'thor.optimizer.THOR'>"]


def test_thor_is_its_only_package(unpacked, distribution):
    assert [path.name for path in unpacked.iterdir() if path.suffix != ".dist-info"] == ["thor"]
    assert distribution.read_text("top_level.txt").split() == ["thor"]


def test_every_module_of_thor_is_in_the_wheel(unpacked):
    def modules(folder: Path) -> set[str]:
        return {str(path.relative_to(folder)) for path in (folder / "thor").rglob("*.py")}

    assert modules(unpacked) == modules(ROOT)


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs a C compiler")
def test_the_wheel_carries_the_kernels_compiled(unpacked):
    program = "from thor.backends import create_backend; print(type(create_backend('CPU')).__name__)"
    assert python(program, unpacked) == "NativeCpuBackend\n"
    assert [path.name.split(".")[0] for path in (unpacked / "thor").rglob("*.so")] == ["_kernels"]


def test_yaml_is_a_requirement_of_the_zoo_alone(distribution):
    requirements = {}
    for line in distribution.requires:
        name, condition = re.fullmatch(r"([\w-]+)[^;]*(?:; *(.*))?", line).groups()
        requirements[name.lower()] = condition
    assert {name for name, condition in requirements.items() if condition is None} == NEEDED
    assert requirements["pyyaml"].replace("'", '"') == 'extra == "zoo"'
