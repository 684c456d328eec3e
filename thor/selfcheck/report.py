"""What stands at the end of a self-check: the machine and the result, to paste into an issue."""
from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path

import mindspore as ms
import numpy as np

from thor.backends.primitives import ascend_device_name

VARIABLES = ("CUDA_HOME", "ASCEND_HOME_PATH", "ASCEND_TOOLKIT_HOME", "DEVICE_ID", "CUDA_VISIBLE_DEVICES",
             "ASCEND_RT_VISIBLE_DEVICES", "MS_DISABLE_KERNEL_BACKOFF", "ONEDNN_MAX_CPU_ISA")
QUERIES = {
    "GPU": ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"],
    "Ascend": ["npu-smi", "info", "-t", "board", "-i", "0"],
}


def describe_machine(target: str) -> list[tuple[str, str]]:
    """Rows (what, value): device, driver, toolkit, versions, system, environment variables that matter."""
    rows = [("MindSpore", ms.__version__), ("Python", platform.python_version()), ("NumPy", np.__version__),
            ("system", f"{platform.system()} {platform.release()} {platform.machine()}"), ("device", device(target))]
    toolkit = _toolkit_version(target)
    if toolkit:
        rows.append(("toolkit", toolkit))
    return rows + [(name, os.environ[name]) for name in VARIABLES if name in os.environ]


def device(target: str) -> str:
    """Name and driver, as the vendor's tool tells them."""
    if target == "CPU":
        return f"CPU, {os.cpu_count()} cores, {processor()}"
    answer = _output_of(QUERIES[target]) or f"{QUERIES[target][0]} says nothing"
    name = ascend_device_name() if target == "Ascend" else ""
    return f"{target} {name} {' '.join(answer.split())}".replace("  ", " ")


def processor(cpuinfo: str = "/proc/cpuinfo") -> str:
    """The processor's name; what Python knows of it where the system does not tell."""
    try:
        lines = Path(cpuinfo).read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _toolkit_version(target: str) -> str:
    """CUDA's or CANN's version; empty where it cannot be found."""
    if target == "GPU":
        compiler = Path(os.environ.get("CUDA_HOME", "/usr/local/cuda")) / "bin" / "nvcc"
        lines = _output_of([str(compiler), "--version"]).splitlines()
        return next((line.strip() for line in lines if "release" in line), "")
    if target == "Ascend":
        home = os.environ.get("ASCEND_HOME_PATH") or os.environ.get("ASCEND_TOOLKIT_HOME", "")
        found = sorted(Path(home).glob("*/ascend_toolkit_install.info")) if home else []
        lines = found[0].read_text(encoding="utf-8").splitlines() if found else []
        versions = [line.partition("=")[2] for line in lines if line.startswith("version=")]
        return "CANN " + "".join(versions) if lines else ""
    return ""


def _output_of(command: list[str]) -> str:
    """Standard output of a short command; empty where it cannot be run."""
    if shutil.which(command[0]) is None:
        return ""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def format_rows(rows: list[tuple[str, str]]) -> str:
    """Rows as an aligned text."""
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:{width}}  {value}" for name, value in rows)
