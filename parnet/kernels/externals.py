"""The C functions that machine code may call, made known to LLVM's linker. Stage: kernels, lowest. Must not know: any
kernel.

A kernel calls nothing but these. Numba's own helpers for exceptions stand in the code it makes, behind branches that a
kernel never takes; should one be reached, the process aborts at once instead of running on with wrong numbers.
"""

from __future__ import annotations

import ctypes
import sys
from functools import lru_cache
from typing import Any

import llvmlite.binding as llvm

MATHS = "log log2 log10 log1p exp exp2 expm1 pow sin cos tan asin acos atan atan2 sinh cosh tanh erf erfc fmod cbrt fma"
MEMORY = ("memcpy", "memmove", "memset")
RAISING = (
    "numba_gil_ensure numba_gil_release numba_unpickle numba_runtime_build_excinfo_struct numba_do_raise NRT_Free "
    "PyUnicode_FromString PyErr_WriteUnraisable Py_DecRef PyErr_Clear PyBytes_FromStringAndSize PyErr_SetString "
    "PyErr_SetNone"
)


@lru_cache(maxsize=1)
def declare_externals() -> None:
    """Tell LLVM where the functions are; once a process."""
    for name, library in _libraries():
        try:
            function = getattr(library, name)
        except AttributeError:  # this system's maths library lacks it; no kernel of parnet's needs it then
            continue
        llvm.add_symbol(name, _address(function))


def new_engine(machine) -> Any:
    """An engine to load object files into, in which what raises ends the process.

    In that engine alone: what LLVM is told for all of them Numba's own functions would call too.
    """
    names = RAISING.split()
    module = llvm.parse_assembly("".join(f"declare void @{name}()\n" for name in names))
    engine = llvm.create_mcjit_compiler(module, machine)
    c = ctypes.CDLL("ucrtbase") if sys.platform == "win32" else ctypes.CDLL(None)
    for name in names:
        engine.add_global_mapping(module.get_function(name), _address(c.abort))
    return engine


def _address(function) -> int:
    return ctypes.cast(function, ctypes.c_void_p).value or 0


def _libraries():
    """(function, library) pairs for this system."""
    windows = sys.platform == "win32"
    c = ctypes.CDLL("ucrtbase") if windows else ctypes.CDLL(None)
    maths = ctypes.CDLL("libm.so.6") if sys.platform.startswith("linux") else c
    for name in MATHS.split():
        yield name, maths
        yield f"{name}f", maths
    for name in MEMORY:
        yield name, c
    if windows:
        yield "SwitchToThread", ctypes.CDLL("kernel32")
        yield "Sleep", ctypes.CDLL("kernel32")
    else:
        yield "sched_yield", c
        yield "usleep", c
