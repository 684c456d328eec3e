"""The environment in which MindSpore takes stubs for a device. Importing this module does not import MindSpore."""
from __future__ import annotations

import os
from pathlib import Path

OWN = ("MS_", "RANK_", "DEVICE_ID", "ASCEND_", "CUDA_", "GLOG_v")


def device_environment(target: str, folder: Path, rank: int = 0, ranks: int = 1) -> dict[str, str]:
    """The variables of a process that compiles for a device there is none of.

    What the present environment says of devices and other processes does not count.

    Args:
        target: GPU or Ascend.
        folder: the stubs, see ``stub_build.stub_folder``.
        rank, ranks: Ascend: the process is one of several, the others being simulated; it has the device of its rank.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith(OWN)}
    common = {**kept, "LD_LIBRARY_PATH": joined(folder / "lib64", kept.get("LD_LIBRARY_PATH")),
              "GLOG_v": os.environ.get("GLOG_v", "4"),
              "MS_DISABLE_KERNEL_BACKOFF": "1"}  # or a CPU kernel would hide that the device has none
    if target == "GPU":
        return {**common, "CUDA_HOME": str(folder)}
    # level 1 selects kernels, level 0 would accept everything
    return {**common, "PYTHONPATH": joined(folder / "python", kept.get("PYTHONPATH")), "MS_SIMULATION_LEVEL": "1",
            "ASCEND_OPP_PATH": str(folder / "opp"), "RANK_SIZE": str(ranks), "RANK_ID": str(rank),
            "DEVICE_ID": str(rank), "MS_WORKER_NUM": str(ranks)}


def joined(first: Path, rest: str | None) -> str:
    """A search path that begins with ``first``."""
    return f"{first}:{rest}" if rest else str(first)
