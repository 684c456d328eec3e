"""One operator interface, one file a device."""
from __future__ import annotations

from thor.backends.base import Backend

__all__ = ["Backend", "create_backend"]


def create_backend(device_target: str | None = None) -> Backend:
    """Create the operators of a device.

    Args:
        device_target: ``"CPU"``, ``"GPU"`` or ``"Ascend"``; default: MindSpore's present target.
    """
    if device_target is None:
        import mindspore

        device_target = mindspore.get_context("device_target")
    if device_target == "CPU":
        from thor.backends import kernels

        if kernels.library_path() is None:
            from thor.backends.cpu import CpuBackend

            return CpuBackend()
        from thor.backends.native_cpu import NativeCpuBackend

        return NativeCpuBackend()
    if device_target == "GPU":
        from thor.backends.gpu import GpuBackend

        return GpuBackend()
    if device_target == "Ascend":
        from thor.backends.ascend import AscendBackend

        return AscendBackend()
    raise ValueError(f"device_target={device_target!r}; must be 'CPU', 'GPU' or 'Ascend'; "
                     "set it with mindspore.set_device")
