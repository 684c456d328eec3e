"""One operator interface, one file a device."""
from __future__ import annotations

from thor.backends.base import Backend
from thor.checks import ArgumentError

__all__ = ["Backend", "create_backend"]

PRECISIONS = {"CPU": ("float32", "bfloat16"), "GPU": ("float32",), "Ascend": ("float32", "float16")}


def create_backend(device_target: str | None = None, precision: str = "auto") -> Backend:
    """Create the operators of a device.

    Args:
        device_target: ``"CPU"``, ``"GPU"`` or ``"Ascend"``; default: MindSpore's present target.
        precision: see :class:`thor.options.PreconditionerOptions`.

    Raises:
        ArgumentError: the device has no operators of this precision.
        ValueError: there is no such device.
    """
    if device_target is None:
        import mindspore

        device_target = mindspore.get_context("device_target")
    if device_target not in PRECISIONS:
        raise ValueError(f"device_target={device_target!r}; must be 'CPU', 'GPU' or 'Ascend'; "
                         "set it with mindspore.set_device")
    if precision not in ("auto", *PRECISIONS[device_target]):
        raise ArgumentError(f"precision={precision!r}; must be {', '.join(PRECISIONS[device_target])} or auto on "
                            f"{device_target}; use auto")
    if device_target == "CPU":
        return _cpu_backend(precision)
    if device_target == "GPU":
        from thor.backends.gpu import GpuBackend

        return GpuBackend()
    from thor.backends.ascend import AscendBackend

    return AscendBackend(precision=precision)


def _cpu_backend(precision: str) -> Backend:
    from thor.backends import kernels

    if kernels.library_path() is not None:
        from thor.backends.native_cpu import NativeCpuBackend

        return NativeCpuBackend(precision)
    if precision == "bfloat16":
        raise ArgumentError("precision='bfloat16'; must be float32 or auto where the CPU kernels are not compiled; "
                            "install a C compiler such as gcc, then this package again")
    from thor.backends.cpu import CpuBackend

    return CpuBackend()
