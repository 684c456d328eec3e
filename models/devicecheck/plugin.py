"""MindSpore's plugin for a device: what it is linked with, and what of that this machine lacks.

Importing this module does not import MindSpore.
"""
from __future__ import annotations

import ctypes
import dataclasses
import importlib.util
import re
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

from models.devicecheck.elf import Library

TARGETS = ("GPU", "Ascend")
# The plugin itself, then libraries it opens while it runs.
PLUGINS = {"GPU": ("plugin/libmindspore_gpu.so.11.6", "plugin/gpu/libcuda_ops.so.11"),
           "Ascend": ("plugin/libmindspore_ascend.so.2", "plugin/ascend/libmindspore_graph_ir.so",
                      "plugin/ascend/libhccl_plugin.so")}
SYSTEM = re.compile(r"(ld-linux.*|lib(c|m|dl|rt|pthread|stdc\+\+|gcc_s|gomp|z))\.so\.\d+\Z")
# CANN's functions, which the Ascend plugin looks up by name.
CANN = r"(?:acl[a-z]*[A-Z]|Hccl[A-Z]|hal[A-Z]|rt[A-Z]|Hcom|dcmi)\w+"
WORKSPACE = "GetWorkspaceSize"


class MissingPlugin(Exception):
    """The installed MindSpore has no plugin for the device; one line with the remedy."""


@dataclasses.dataclass(frozen=True)
class Gaps:
    """What a plugin asks for and the machine lacks.

    Attributes:
        libraries: file names.
        symbols: each symbol with its version, "" for none.
    """

    libraries: tuple[str, ...]
    symbols: dict[str, str]


def _library_folder() -> Path:
    """The folder ``lib`` of the installed MindSpore."""
    return Path(importlib.util.find_spec("mindspore").submodule_search_locations[0]) / "lib"


def plugin_files(target: str) -> list[Path]:
    """The plugin's libraries.

    Raises:
        MissingPlugin: MindSpore is not installed, or not with this plugin.
    """
    if importlib.util.find_spec("mindspore") is None:
        raise MissingPlugin(f"target={target}; must be a plugin of an installed MindSpore, and none is installed; "
                            "set up the environment with the scripts")
    files = [_library_folder() / name for name in PLUGINS[target]]
    if not files[0].exists():
        raise MissingPlugin(f"target={target}; must be a plugin MindSpore {version('mindspore')} has here, and "
                            f"{files[0].name} is not in it; use a wheel with it (x86-64 Linux has both plugins)")
    return [file for file in files if file.exists()]


def find_gaps(target: str) -> Gaps:
    """Follow the plugin through everything it is linked with; what is left is for stubs to supply."""
    libraries, missing = _closure(plugin_files(target))
    exported = {name for library in libraries for name in library.exports()}
    present = [ctypes.CDLL(name) for name in (None, "libstdc++.so.6")]
    symbols = {name: version for library in libraries for name, version, weak in library.imports()
               if (version in missing or not version) and (not weak or re.match(CANN, name))
               and name not in exported and not any(hasattr(library, name) for library in present)}
    if target == "Ascend":
        symbols |= dict.fromkeys(_looked_up(libraries), "")
    return Gaps(tuple(sorted(missing)), dict(sorted(symbols.items())))


def _closure(files: Iterable[Path]) -> tuple[list[Library], set[str]]:
    """The libraries of MindSpore that ``files`` need, directly or not, and the names of those it does not have."""
    shipped = {path.name: path for path in sorted(_library_folder().rglob("*.so*"))}
    found, missing, waiting = {}, set(), [path.name for path in files]
    while waiting:
        name = waiting.pop()
        if name in found or name in missing or SYSTEM.match(name):
            continue
        if name not in shipped:
            missing.add(name)
            continue
        found[name] = Library(shipped[name])
        waiting += found[name].needed
    return list(found.values()), missing


def _looked_up(libraries: Iterable[Library]) -> set[str]:
    """CANN's functions whose names stand in ``libraries`` as texts; of each aclnn operator both functions."""
    names = set()
    for name in set().union(*(library.texts(CANN.encode()) for library in libraries)):
        base = name.removesuffix(WORKSPACE)
        names |= {base, base + WORKSPACE} if name.startswith("aclnn") else {name}
    return names
