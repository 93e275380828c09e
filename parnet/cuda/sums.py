"""Sums that threads make together, in a fixed order: within a warp by shuffles, within a block in shared memory. Stage:
cuda.

Both add halves: number i and number i + n/2, then n/4 and so on. The order depends on nothing but the size of a warp or a
block, so the bits are the same from run to run; there is no atomic addition of floats anywhere. Must not know: what is
summed.
"""

from __future__ import annotations

from functools import cache

from .runtime import SIMULATED, THREADS, WARP, cuda

ALL = 0xFFFFFFFF


@cache
def warp_fold(T, largest: bool):
    """value -> the sum, or the largest (a NaN loses), of the values of all threads of a warp; every thread gets it.

    All threads of the warp must call it. The simulator has no shuffles: there a block is one warp, and shared memory serves.
    """

    @cuda.jit(device=True)
    def join(a, b):
        if largest:
            return b if b > a or a != a else a
        return a + b

    if SIMULATED:

        @cuda.jit(device=True)
        def fold(value):
            shared = cuda.shared.array(WARP, T)
            lane, half = cuda.threadIdx.x, WARP // 2
            while half:
                shared[lane] = value
                cuda.syncthreads()
                other = shared[lane ^ half]
                cuda.syncthreads()
                value = join(value, other)
                half //= 2
            return value

        return fold

    @cuda.jit(device=True)
    def shuffled(value):
        half = WARP // 2
        while half:
            value = join(value, cuda.shfl_xor_sync(ALL, value, half))
            half //= 2
        return value

    return shuffled


@cache
def block_sum(T):
    """value -> the sum of the values of all threads of a block, in thread 0. All threads of the block must call it."""

    @cuda.jit(device=True)
    def total(value):
        shared = cuda.shared.array(THREADS, T)
        me, half = cuda.threadIdx.x, THREADS // 2
        shared[me] = value
        cuda.syncthreads()
        while half:
            if me < half:
                shared[me] += shared[me + half]
            cuda.syncthreads()
            half //= 2
        result = shared[0]
        cuda.syncthreads()
        return result

    return total
