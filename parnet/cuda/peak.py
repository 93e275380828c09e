"""What a device can do at most: multiply-adds in registers, and bytes to and from its memory. Stage: cuda, for studies."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from . import runtime
from .runtime import cuda

#: multiply-adds of a thread, on 8 sums that do not wait for each other; threads of the whole device
ROUNDS, SUMS = (4, 8) if runtime.SIMULATED else (4096, 8)
BLOCKS = 2 if runtime.SIMULATED else 2048
#: numbers of a vector that no cache holds
NUMBERS = 64 if runtime.SIMULATED else 1 << 26


@cache
def multiply_adds(T):
    """ROUNDS * SUMS of them a thread; out is written, so that they are not left out."""

    @cuda.jit
    def run(factor, out):
        a = T(cuda.threadIdx.x)
        b, c, d, e, f, g, h = a + T(1), a + T(2), a + T(3), a + T(4), a + T(5), a + T(6), a + T(7)
        for _ in range(ROUNDS):
            a, b = a * factor + T(1), b * factor + T(1)
            c, d = c * factor + T(1), d * factor + T(1)
            e, f = e * factor + T(1), f * factor + T(1)
            g, h = g * factor + T(1), h * factor + T(1)
        out[cuda.grid(1)] = a + b + c + d + e + f + g + h

    return run


@cache
def triad(T):
    """a = b + factor c."""

    @cuda.jit
    def run(factor, a, b, c):
        for i in range(cuda.grid(1), len(a), cuda.gridsize(1)):
            a[i] = b[i] + factor * c[i]

    return run


def measure(index: int, dtype: str, limit_s: float) -> tuple[float, float]:
    """GFLOP/s in registers and GB/s of memory of a device, the best of several runs of each.

    Raises:
        DeviceError, ResourceError: there is no such device, or its memory is full.
    """
    memory = runtime.Memory(index)
    T: Any = np.dtype(dtype).type
    out = memory.zeros(BLOCKS * runtime.THREADS, dtype, "sums")
    vectors = [memory.zeros(NUMBERS, dtype, "vectors of a measurement") for _ in range(3)]
    flops = 2.0 * ROUNDS * SUMS * BLOCKS * runtime.THREADS
    moved = 3.0 * NUMBERS * np.dtype(dtype).itemsize

    def compute() -> None:
        multiply_adds(T)[BLOCKS, runtime.THREADS, memory.stream](T(0.5), out)

    def move() -> None:
        triad(T)[min(runtime.MOST_BLOCKS, NUMBERS), runtime.THREADS, memory.stream](T(0.5), *vectors)

    return 1e-9 * flops / _best(memory, compute, limit_s), 1e-9 * moved / _best(memory, move, limit_s)


def _best(memory: Any, work: Callable[[], None], limit_s: float) -> float:
    """Seconds of the shortest of several runs on the device; the first, which compiles, does not count."""
    found, total, begun, ended = np.inf, -1.0, memory.event(), memory.event()
    while total < limit_s:
        started = time.perf_counter()
        with runtime.said("cuda: measuring the device"):
            begun.record(memory.stream)
            work()
            ended.record(memory.stream)
        memory.wait("cuda: measuring the device")
        if total >= 0:
            found = min(found, 1e-3 * begun.elapsed_time(ended))
        total = max(0.0, total) + (time.perf_counter() - started if total >= 0 else 0.0)
    return found
