"""BLAS and LAPACK of SciPy, called on strided float32 arrays without copies and without the interpreter's lock.

NumPy's wheels carry an OpenBLAS that takes processors newer than itself for the oldest it knows; SciPy's is newer.
SciPy publishes the addresses of its routines in ``scipy.linalg.cython_blas`` and ``cython_lapack``. All matrices
are C-ordered with unit stride along their last axis; Fortran sees their transposes.
"""
from __future__ import annotations

import ctypes
import functools
import itertools

import numpy as np

_ONE, _ZERO = ctypes.c_float(1.0), ctypes.c_float(0.0)


@functools.cache
def _routine(name: str, arguments: int):
    """A Fortran routine of ``arguments`` pointers."""
    return ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * arguments)(address_of(name))


def address_of(name: str) -> int:
    """Of a Fortran routine; SciPy is loaded at the first call, so that import stays light."""
    from scipy.linalg import cython_blas, cython_lapack

    capsules = {**cython_blas.__pyx_capi__, **cython_lapack.__pyx_capi__}
    api = ctypes.pythonapi
    api.PyCapsule_GetName.restype, api.PyCapsule_GetName.argtypes = ctypes.c_char_p, [ctypes.py_object]
    api.PyCapsule_GetPointer.restype = ctypes.c_void_p
    api.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
    return api.PyCapsule_GetPointer(capsules[name], api.PyCapsule_GetName(capsules[name]))


@functools.lru_cache(maxsize=1)
def libraries():
    """The BLAS libraries of the process, whose threads can be limited."""
    from threadpoolctl import ThreadpoolController

    _routine("sgemm", 13)
    return ThreadpoolController().select(user_api="blas")


def thread_functions() -> tuple[int, int] | None:
    """Addresses of the functions that set and give the threads of SciPy's OpenBLAS; None where it is another BLAS."""
    for prefix, suffix in itertools.product(("scipy_", ""), ("", "64_", "_64")):
        names = [f"{prefix}openblas_{verb}_num_threads{suffix}" for verb in ("set", "get")]
        for controller in libraries().lib_controllers:
            if "scipy" in controller.filepath and all(hasattr(controller.dynlib, name) for name in names):
                setter, getter = (ctypes.cast(getattr(controller.dynlib, name), ctypes.c_void_p).value or 0
                                  for name in names)
                return setter, getter
    return None


def add_second_moment(features: np.ndarray, out: np.ndarray, scale: float) -> None:
    """Add ``scale * features features'`` to the upper triangle of ``out``; ``(size, count)``, ``(size, size)``."""
    size, count = features.shape
    _routine("ssyrk", 10)(b"L", b"T", _int(size), _int(count),
                          ctypes.byref(ctypes.c_float(scale)), features.ctypes.data, _leading(features),
                          ctypes.byref(_ONE), out.ctypes.data, _leading(out))


def invert(block: np.ndarray) -> bool:
    """Replace the upper triangle of a symmetric ``block`` by that of its inverse; False if not positive definite."""
    failed = ctypes.c_int(0)
    for name in ("spotrf", "spotri"):
        _routine(name, 5)(b"L", _int(block.shape[0]), block.ctypes.data, _leading(block), ctypes.byref(failed))
        if failed.value:
            return False
    return True


def _int(value: int):
    return ctypes.byref(ctypes.c_int(value))


def _leading(matrix: np.ndarray):
    return _int(max(matrix.strides[0] // 4, matrix.shape[1], 1))
