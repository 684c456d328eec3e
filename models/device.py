"""The device, the mode, and the instruction set oneDNN may use on CPU.

On processors with AVX-512 MindSpore's CPU convolution gets a reference kernel from oneDNN, whatever AVX-512
level it is given, for every convolution but the 1x1 of stride 1. Limited to AVX2 it gets a fast one, but so
do matrix products, which AVX-512 would make faster. Measured with MindSpore 2.10 on 2 cores of a Xeon with
AVX-512 and AMX, batch 16, forward, milliseconds, best of 5; the AVX-512 column is the best of the default,
AVX512_CORE and AVX512_CORE_AMX:

| operator                              | AVX-512 | AVX2 | AVX2_VNNI |
|---------------------------------------|---------|------|-----------|
| convolution 3x3, 64 to 64, 32x32      |    1243 |   14 |        23 |
| the same, stride 2                    |     326 |  6.5 |       6.7 |
| convolution 3x3, 512 to 512, 4x4      |     789 |    9 |        18 |
| convolution 7x7 stride 2, 3 to 64     |     533 |  5.9 |       6.2 |
| convolution 5x5, 1 to 6, 28x28        |      12 |  0.5 |       0.8 |
| depthwise 3x3, 64 channels, 32x32     |      78 |  5.1 |       5.2 |
| convolution 1x1 stride 2, 256 to 512  |     262 |  4.8 |       4.0 |
| convolution 1x1 stride 1, 64 to 256   |     5.8 |  7.3 |       7.2 |
| matrix product 2048x2048              |      60 |  112 |       217 |
| 64 matrix products 128x128            |     2.0 |  3.5 |       3.5 |

AVX2 and AVX2_VNNI differ by noise (the machine was shared); ONEDNN_CPU_ISA_HINTS=PREFER_YMM does not help.
So: AVX2 for networks with such a convolution, nothing for all others. oneDNN reads the setting at the first
operator it runs in a process, a matrix product or a convolution, and never again.
"""
from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import mindspore as ms
from mindspore import nn

from models.config.errors import invalid
from models.device_needs import missing_for, remarks

logger = logging.getLogger("models")

VARIABLE = "ONEDNN_MAX_CPU_ISA"
# MindSpore's own number on a large host. With the three or fewer it takes on a small one, as in a container, it refuses
# graphs that branch: "Can not build a sub graph which contains ConditionSwitch".
DISPATCH_THREADS = 5
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Conv1dTranspose, nn.Conv2dTranspose, nn.Conv3dTranspose)


def prepare(device_config: Any, processes: int = 1) -> None:
    """Choose device and mode for the process; before it meets others, and before the network is built.

    MindSpore binds its communication to the device that is chosen when ``init()`` is called, and refuses or ignores
    another one afterwards. Where msrun has started several processes, each takes the device of its place among those of
    its machine, which msrun tells in DEVICE_ID.

    Args:
        device_config: has target (CPU, GPU, Ascend), device_id and mode (graph, pynative).
        processes: how many train together.

    Raises:
        ConfigError: a device is asked for where msrun assigns them.
        ValueError: this MindSpore cannot use the target; in one line.
    """
    ms.set_context(mode=ms.GRAPH_MODE if device_config.mode == "graph" else ms.PYNATIVE_MODE)
    target = device_config.target
    if target == "CPU" == ms.get_context("device_target"):
        return  # set_device refuses once an operator has run, even when nothing would change
    device_id = None if target == "CPU" else _chosen_id(device_config, processes)
    try:
        ms.set_device(target, device_id)
    except (RuntimeError, ValueError) as error:
        reason, remedy = missing_for(target, str(error))
        raise ValueError(f"device.target={target}; this MindSpore cannot use it ({reason}); set device.target to CPU "
                         f"or {remedy}") from None
    if target == "Ascend":
        _ensure_dispatch_threads()
    for remark in remarks(target):
        logger.warning(remark)


def _ensure_dispatch_threads() -> None:
    """As many threads as a graph that branches needs, unless somebody has chosen a number."""
    try:
        ms.runtime.dispatch_threads_num(DISPATCH_THREADS)
    except RuntimeError:  # MindSpore takes one number a process
        logger.debug("dispatch_threads_num is set already")


def _chosen_id(device_config: Any, processes: int) -> int | None:
    """The device of this process among those that are visible, None to leave it to MindSpore; errors as above."""
    if processes == 1:
        return device_config.device_id
    if device_config.device_id:
        visible = {"GPU": "CUDA_VISIBLE_DEVICES", "Ascend": "ASCEND_RT_VISIBLE_DEVICES"}[device_config.target]
        raise invalid("device.device_id", device_config.device_id, f"0 where {processes} processes train, each on a "
                      "device of its own", f"choose the devices with {visible}")
    place = os.environ.get("DEVICE_ID", "")
    return int(place) if place.isdecimal() else None


def limit_isa(device_config: Any, network: nn.Cell) -> str:
    """Set ONEDNN_MAX_CPU_ISA if ``network`` needs it; before the first operator runs. See the module for why.

    ``device_config.convolution_isa`` decides: off leaves the environment alone, a oneDNN name is set as it
    is, auto sets AVX2 if the target is CPU, the processor has AVX-512, the network has a convolution other
    than 1x1 of stride 1, and the variable is not set already.

    Returns:
        One line that says what was set or kept and why, "" if there is nothing to say; also logged.
    """
    wanted, present = device_config.convolution_isa, os.environ.get(VARIABLE)
    if device_config.target != "CPU" or wanted == "off":
        return ""
    if wanted != "auto":
        os.environ[VARIABLE] = wanted
        line = f"{VARIABLE}={wanted}, as device.convolution_isa says"
    elif present is not None:
        line = f"{VARIABLE}={present} kept from the environment"
    elif has_avx512() and has_slow_convolution(network):
        os.environ[VARIABLE] = "AVX2"
        line = (f"{VARIABLE}=AVX2: this network convolves, which MindSpore does far slower with AVX-512 "
                f"(device.convolution_isa changes it)")
    else:
        return ""
    logger.info(line)
    return line


def has_avx512(cpuinfo: str = "/proc/cpuinfo") -> bool:
    """Whether the processor has AVX-512; False where the system does not tell."""
    try:
        return " avx512f" in Path(cpuinfo).read_text()
    except OSError:
        return False


def has_slow_convolution(network: nn.Cell) -> bool:
    """Whether a cell of ``network`` is a convolution other than 1x1 of stride 1."""
    cells = (cell for _, cell in network.cells_and_names() if isinstance(cell, CONVOLUTIONS))
    return any(set(_flat(cell.kernel_size)) != {1} or set(_flat(cell.stride)) != {1} for cell in cells)


def _flat(size: Any) -> tuple[int, ...]:
    return tuple(size) if isinstance(size, (tuple, list)) else (size,)
