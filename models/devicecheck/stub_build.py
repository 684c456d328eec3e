"""Stub libraries a plugin loads with instead of its driver, compiled once and kept.

One library holds every symbol the plugin asks for, with its version; each answers 0, except for the few in ``stubs/``.
All names are links to it.
"""
from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from models.devicecheck.plugin import Gaps, find_gaps, plugin_files

SOURCES = Path(__file__).parent / "stubs"
ANSWERS = {"GPU": "cuda.c", "Ascend": "cann.c"}
DEFINITION = re.compile(r"^(?:\w[\w \*]*?\b(\w+)\(|(?:RETURNS|STORES)_HANDLE\((\w+)\))", re.M)
CUDA, CUDNN = "11.6", "8.5.0"
FOLDER_VARIABLE = "DEVICECHECK_CACHE"
CANN_VERSION = "8.2"  # one that MindSpore 2.7 to 2.10 accept
REAL = {"GPU": "stubs.so", "Ascend": "libascendcl.so"}
# Opened by path or name while the plugin runs.
OPENED = {"GPU": (f"libcudart.so.{CUDA}.0", f"libcudnn.so.{CUDNN}"),
          "Ascend": ("libascendcl.so", "libopapi.so", "libacl_op_compiler.so", "libmsprofiler.so",
                     "libacl_tdt_channel.so", "libacl_tdt_queue.so", "driver/libascend_hal.so")}
PYTHON_FILES = {"hccl/__init__.py": "", "hccl/manage.py": "def get_ranksize(*group):\n    return 8\n",
                "hccl/version.py": f"__version__ = '{CANN_VERSION}'\n",
                "hccl/sys_version.py": f"__sys_version__ = '{CANN_VERSION}.0'\n"}


class BuildError(Exception):
    """The stubs cannot be compiled here; one line with the remedy."""


def stub_folder(target: str) -> Path:
    """The folder of the stubs for a target, built if it is not there yet.

    It lies under ``$DEVICECHECK_CACHE``, else ``$XDG_CACHE_HOME/mindspore-thor``, else ``~/.cache/mindspore-thor``.

    Raises:
        MissingPlugin, BuildError: one line.
    """
    # the Ascend plugin takes what precedes "latest" in the path of a library for CANN's root
    folder = cache_folder() / f"{target.lower()}-{fingerprint(target)}" / "latest"
    if folder.is_dir():
        return folder
    compiler = _find_compiler()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as made:
            build(target, Path(made) / folder.name, compiler)
            try:
                os.rename(Path(made) / folder.name, folder)
            except OSError:
                if not folder.is_dir():  # else another process was faster, with the same stubs
                    raise
    except OSError as error:
        raise BuildError(f"{FOLDER_VARIABLE}={folder.parent}; must be a folder that can be written ({error.strerror}); "
                         f"set {FOLDER_VARIABLE} to one") from None
    return folder


def cache_folder() -> Path:
    """Where stubs are kept."""
    named = os.environ.get(FOLDER_VARIABLE)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(named) if named else Path(base) / "mindspore-thor" / "stubs"


def fingerprint(target: str) -> str:
    """What the stubs depend on: MindSpore, Python, the machine, and how they are made."""
    digest = hashlib.sha256()
    for path in sorted([*SOURCES.iterdir(), *Path(__file__).parent.glob("*.py")]):
        digest.update(path.read_bytes())
    for path in plugin_files(target):
        digest.update(f"{path.name} {path.stat().st_size}".encode())
    tag = f"{version('mindspore')}-{sys.implementation.cache_tag}-{platform.machine()}"
    return f"{tag}-{digest.hexdigest()[:12]}"


def _find_compiler() -> str:
    """The C compiler.

    Raises:
        BuildError: there is none.
    """
    wanted = os.environ.get("CC")
    for name in (wanted,) if wanted else ("gcc", "cc"):
        if shutil.which(name):
            return name
    raise BuildError(f"CC={wanted or 'gcc'}; must be a C compiler with its linker, and is not found; install gcc and "
                     "binutils (Debian: apt-get install gcc libc6-dev) or set CC")


def build(target: str, folder: Path, compiler: str) -> None:
    """Write and compile the stubs of ``target`` into ``folder``."""
    gaps = find_gaps(target)
    libraries = folder / "lib64"
    libraries.mkdir(parents=True)
    answers = (SOURCES / ANSWERS[target]).read_text(encoding="utf-8")
    (folder / "stubs.c").write_text(answers + aliases(gaps, answers), encoding="utf-8")
    (folder / "stubs.map").write_text(version_script(gaps), encoding="utf-8")
    stubs = libraries / REAL[target]
    _compile_library(compiler, stubs, str(folder / "stubs.c"), f"-I{SOURCES}",
                     f"-DSTUB_CUDA_VERSION={_cuda_number(CUDA)}", f"-DSTUB_CUDNN_VERSION={_cudnn_number(CUDNN)}",
                     f"-Wl,--version-script={folder / 'stubs.map'}")
    if target == "Ascend":  # the path of libascendcl.so is looked at, so no other name may be loaded for it
        others = libraries / "others.so"
        _compile_library(compiler, others, "-x", "c", os.devnull, "-Wl,--no-as-needed", f"-L{libraries}",
                         f"-l:{stubs.name}")
    for name in {*gaps.libraries, *OPENED[target]} - {stubs.name}:
        link = libraries / name
        link.parent.mkdir(exist_ok=True)
        of = stubs if target == "GPU" else others
        link.symlink_to(os.path.relpath(of, link.parent))
    _write_helpers(target, folder)


def _compile_library(compiler: str, library: Path, *arguments: str) -> None:
    """Compile a shared library that bears the name of its file."""
    run = subprocess.run([compiler, "-shared", "-fPIC", "-w", "-O1", *arguments, "-o", str(library),
                          f"-Wl,-soname,{library.name}"], capture_output=True, text=True, check=False)
    if run.returncode:
        line = next((line for line in run.stderr.splitlines() if "error" in line), run.stderr or "no message")
        raise BuildError(f"CC={compiler}; must compile the stubs, and does not ({line.strip()}); use another compiler")


def _cudnn_number(text: str) -> int:
    """8.5.0 as cuDNN tells it: 8500."""
    major, minor, patch = map(int, text.split("."))
    return 1000 * major + 100 * minor + patch


def _cuda_number(text: str) -> int:
    """11.6 as CUDA's functions tell it: 11060."""
    major, minor = map(int, text.split("."))
    return 1000 * major + 10 * minor


def aliases(gaps: Gaps, answers: str) -> str:
    """C text that gives every symbol without an answer that of ``stub_nothing`` or its like."""
    known = {name for pair in DEFINITION.findall(answers) for name in pair if name}
    return "\n".join(f'long {name}() __attribute__((alias("{answer_of(name)}")));'
                     for name in gaps.symbols if name not in known) + "\n"


def answer_of(name: str) -> str:
    """The function that answers for a symbol.

    Constructors of ``ge::`` (C++ names ``_ZN2ge...C1E`` and ``C2E``) have to leave an empty shared_ptr behind.
    """
    if re.match(r"_ZN2ge\w*?(\d+)\w*C[12]E", name) or "CreateOperator" in name:
        return "stub_constructs_larger" if re.search(r"8OperatorC[12]E|CreateOperator", name) else "stub_constructs"
    return "stub_creates" if re.match(r"cu\w*Create(?!With)", name) else "stub_nothing"


def version_script(gaps: Gaps) -> str:
    """The linker's list of symbols by version."""
    versions = sorted({version for version in gaps.symbols.values() if version})
    return "".join(f"{version} {{ global: "
                   + " ".join(f"{name};" for name, of in gaps.symbols.items() if of == version) + " };\n"
                   for version in versions) or "{ global: *; };\n"


def _write_helpers(target: str, folder: Path) -> None:
    """What MindSpore runs or imports beside the libraries."""
    if target == "GPU":
        compiler = folder / "bin/nvcc"  # the version is read from what it prints
        compiler.parent.mkdir()
        compiler.write_text(f'#!/bin/sh\necho "Cuda compilation tools, release {CUDA}, V{CUDA}.124"\n')
        compiler.chmod(0o755)
        return
    for name in ("opp", "opp_kernel"):  # MindSpore 2.7 wants both to be there
        (folder / name).mkdir()
    for name, text in PYTHON_FILES.items():
        (folder / "python" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "python" / name).write_text(text)
