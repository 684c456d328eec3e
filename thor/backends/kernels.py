"""The CPU kernels in C (folder ``native``) as operators of graphs and of PyNative mode.

They are compiled when the package is installed. MindSpore calls them with the tensors' own memory (``ops.Custom``,
func_type "aot"); products and factorisations are those of SciPy's BLAS and LAPACK.
"""
from __future__ import annotations

import ctypes
import functools
import importlib.util
import logging

from mindspore import ops

from thor.backends import blas

logger = logging.getLogger("thor")

VERSION = 2  # THOR_KERNELS_VERSION of native/kernels.h
ROUTINES = ("sgemm", "ssyrk", "strsm", "spotrf")


class _Routines(ctypes.Structure):
    """``struct linear_algebra`` of native/kernels.h."""

    _fields_ = [(name, ctypes.c_void_p) for name in (*ROUTINES, "set_threads", "get_threads")]


@functools.cache
def library_path() -> str | None:
    """Of the compiled kernels, bound to their BLAS; None, with one warning, where they are not there."""
    found = importlib.util.find_spec("thor.backends._kernels")
    if found is None or found.origin is None:
        logger.warning("the CPU kernels are not compiled (thor.backends._kernels); steps are slower without them; "
                       "install a C compiler such as gcc, then this package again")
        return None
    library = ctypes.CDLL(found.origin)
    if library.thor_kernels_version() != VERSION:
        logger.warning("the CPU kernels %s are of another version (%d; must be %d); steps are slower without them; "
                       "install this package again", found.origin, library.thor_kernels_version(), VERSION)
        return None
    bind(library)
    return found.origin


def bind(library: ctypes.CDLL) -> None:
    """Tell a library SciPy's routines, and how their threads are counted."""
    routines = _Routines(*map(blas.address_of, ROUTINES), *(blas.thread_functions() or (None, None)))
    library.thor_bind(ctypes.byref(routines))


def has_bfloat16() -> bool:
    """Whether the processor has instructions for products in bfloat16."""
    return bool(ctypes.CDLL(library_path()).thor_has_bfloat16())


def kernel(name: str, out_shape, out_dtype, distinction: str = "") -> ops.Custom:
    """The kernel ``name`` as an operator.

    Args:
        out_shape, out_dtype: as :class:`mindspore.ops.Custom` takes them.
        distinction: whatever ``out_shape`` depends on beside the inputs' shapes: MindSpore takes operators of one name
            and equal attributes for the same, and remembers their outputs' shapes by those of the inputs.
    """
    operator = ops.Custom(f"{library_path()}:{name}", out_shape=out_shape, out_dtype=out_dtype, func_type="aot")
    operator.add_prim_attr("distinction", distinction)
    return operator
