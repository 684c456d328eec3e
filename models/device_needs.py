"""What MindSpore needs to use a GPU or an Ascend device, and what of it is missing."""
from __future__ import annotations

import importlib.util
import os
import re
import subprocess
from pathlib import Path

# MindSpore picks the plugin by the release nvcc tells; see mindspore/lib/plugin.
CUDA_RELEASES = ("11.1", "11.6")
PLUGINS = {"GPU": "libmindspore_gpu", "Ascend": "libmindspore_ascend"}
LIBRARY = re.compile(r"(\S+\.so[.\d]*): cannot open shared object file")
GPU_REMEDY = ("install CUDA 11.6 with cuDNN 8.5 or CUDA 11.1 with cuDNN 8.0, export CUDA_HOME, and add the folders of "
              "both libraries to LD_LIBRARY_PATH")
ASCEND_REMEDY = "install CANN 8.2 to 9.1 and its driver, and source CANN's set_env.sh"


def missing_for(target: str, message: str) -> tuple[str, str]:
    """Why MindSpore, which says ``message``, cannot use ``target``, and what to do."""
    find, remedy = {"GPU": (_missing_for_gpu, GPU_REMEDY),
                    "Ascend": (_missing_for_ascend, ASCEND_REMEDY)
                    }.get(target, (lambda: "", "install MindSpore for it"))
    first = message.split(". ")[0].splitlines()[0] if message else "no reason is given"
    return find() or _missing_library(target, message) or first, remedy


def _missing_for_gpu() -> str:
    """What CUDA_HOME lacks; "" if it is as MindSpore wants it."""
    home = os.environ.get("CUDA_HOME")
    if not home:
        return "CUDA_HOME is not set"
    nvcc = Path(home, "bin", "nvcc")  # MindSpore asks it, and no other on PATH, for the release
    if not nvcc.is_file():
        return f"CUDA_HOME={home} has no bin/nvcc"
    try:
        told = subprocess.run([str(nvcc), "--version"], capture_output=True, text=True, timeout=60, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return f"{nvcc} does not run"
    release = re.search(r"release ([\d.]+)", told)
    if release is None or release[1] not in CUDA_RELEASES:
        return f"CUDA_HOME={home} is of release {release[1] if release else 'unknown'}"
    return ""


def _missing_for_ascend() -> str:
    """What of CANN's environment is not set; "" if it is."""
    return "" if os.environ.get("ASCEND_HOME_PATH") or os.environ.get("ASCEND_OPP_PATH") else "CANN is not set up"


def _missing_library(target: str, message: str) -> str:
    """The library MindSpore could not open as it loaded the plugin of ``target``; "" if it does not say so."""
    for line in message.splitlines():
        library = LIBRARY.search(line) if PLUGINS[target] in line else None
        if library:
            return f"{library[1]} is not on LD_LIBRARY_PATH"
    return ""


def remarks(target: str) -> list[str]:
    """What can be used without, but not everywhere: lines for the user."""
    simulates = "MS_SIMULATION_LEVEL" in os.environ
    lacks = [name for name in ("te", "hccl") if target == "Ascend" and not simulates and not importable(name)]
    if not lacks:
        return []
    return [f"CANN's {' and '.join(lacks)} cannot be imported; operators it builds in Python will fail; source its "
            "set_env.sh, or install its wheels into this environment"]


def importable(name: str) -> bool:
    """Whether there is a module of that name."""
    return importlib.util.find_spec(name) is not None
