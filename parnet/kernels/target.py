"""Which processor kernels are compiled for. Stage: kernels, lowest. Must not know: Numba, or any kernel.

The widest vectors the host has, unless PARNET_SIMD asks for narrower ones.
"""

from __future__ import annotations

import platform
from functools import lru_cache

import llvmlite.binding as llvm

from ..config import SIMD_NAMES, settings
from ..errors import HyperparameterError

VECTOR_BYTES = {"avx512": 64, "avx2": 32, "vec128": 16}


def is_x86() -> bool:
    """Whether the host is an x86-64 processor."""
    return platform.machine().lower() in ("x86_64", "amd64")


@lru_cache(maxsize=1)
def host_features() -> dict[str, bool]:
    """What LLVM says the host's processor can do."""
    return dict(llvm.get_host_cpu_features())


@lru_cache(maxsize=1)
def widest_simd() -> str:
    """The widest vector extension of the host that parnet has tiles for."""
    have = host_features()
    if is_x86() and have.get("avx512f") and have.get("avx512vl") and have.get("avx512dq"):
        return "avx512"
    if is_x86() and have.get("avx2") and have.get("fma"):
        return "avx2"
    return "vec128"


@lru_cache(maxsize=1)
def simd() -> str:
    """The vector extension in use: PARNET_SIMD, or the widest.

    Raises:
        HyperparameterError: PARNET_SIMD asks for vectors the host lacks.
    """
    asked, have = settings().simd, widest_simd()
    if asked is None:
        return have
    if SIMD_NAMES.index(asked) < SIMD_NAMES.index(have):
        raise HyperparameterError(f"PARNET_SIMD: this processor has {have}, received {asked!r}; unset it")
    return asked


def vector_bytes() -> int:
    """Bytes of one vector register of the extension in use."""
    return VECTOR_BYTES[simd()]


def vector_registers() -> int:
    """How many vector registers the extension in use has."""
    return 16 if is_x86() and simd() != "avx512" else 32


@lru_cache(maxsize=1)
def features() -> str:
    """LLVM's feature string: the host's, less the vector extensions wider than the one in use."""
    narrower = {"avx512": (), "avx2": ("avx512", "avx10", "evex512"), "vec128": ("avx512", "avx10", "evex512", "amx")}
    cut = narrower[simd()]

    def keep(name: str) -> bool:
        return not name.startswith(cut) if cut else True

    # LLVM would halve the vectors of many AVX-512 processors to spare their clock; the tiles use whole ones anyway
    tuning = ",-prefer-256-bit" if is_x86() else ""
    return (
        tuning.lstrip(",")
        + "," * bool(tuning)
        + ",".join(f"{'+' if on and keep(name) else '-'}{name}" for name, on in sorted(host_features().items()))
    )


def cpu_name() -> str:
    """LLVM's name of the host's processor."""
    return llvm.get_host_cpu_name()


def describe() -> str:
    """Everything that decides the machine code, for the cache's key."""
    return f"{platform.system()} {platform.machine()} {cpu_name()} {simd()} {features()}"
