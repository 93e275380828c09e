"""Softmax and its logarithm of rows, a warp a row, as `parnet/kernels/loss.py`. Stage: cuda."""

from __future__ import annotations

import math
from functools import cache, partial

from ..kernels.control import ROWS
from ..kernels.step import row_stride
from .launch import Context, Launch
from .maths import functions
from .runtime import WARP, cuda
from .sums import warp_fold


@cache
def softmax_of(T):
    """(z, first, width, lane) -> log of the sum of e**z; z becomes softmax(z). Stable: the largest is taken off first."""
    f, fold, largest = functions(T), warp_fold(T, False), warp_fold(T, True)
    exp, log = f.exp, f.log

    @cuda.jit(device=True)
    def run(z, y, first, width, lane):
        top = T(-math.inf)
        for j in range(lane, width, WARP):
            value = z[first + j]
            top = value if value > top else top
        top = largest(top)
        total = T(0)
        for j in range(lane, width, WARP):
            e = exp(z[first + j] - top)
            y[first + j] = e
            total += e
        total = fold(total)
        for j in range(lane, width, WARP):
            y[first + j] /= total
        return top + log(total)

    return run


@cache
def softmax_rows(T):
    """y = softmax(x), each run of `group` numbers by itself."""
    softmax = softmax_of(T)

    @cuda.jit
    def run(ctl, geo, par, x, y):
        runs, stride, group = geo
        lane = cuda.threadIdx.x
        for m in range(cuda.blockIdx.y * cuda.blockDim.y + cuda.threadIdx.y, ctl[ROWS] * runs, cuda.gridsize(2)[1]):
            softmax(x, y, m // runs * stride + m % runs * group, group, lane)

    return run


@cache
def softmax_gradient(T):
    """dy = y (dy - sum dy y), each run of `group` numbers by itself."""
    fold = warp_fold(T, False)

    @cuda.jit
    def run(ctl, geo, par, y, dy):
        runs, stride, group = geo
        lane = cuda.threadIdx.x
        for m in range(cuda.blockIdx.y * cuda.blockDim.y + cuda.threadIdx.y, ctl[ROWS] * runs, cuda.gridsize(2)[1]):
            first, total = m // runs * stride + m % runs * group, T(0)
            for j in range(lane, group, WARP):
                total += dy[first + j] * y[first + j]
            total = fold(total)
            for j in range(lane, group, WARP):
                dy[first + j] = y[first + j] * (dy[first + j] - total)

    return run


@cache
def log_softmax_rows(T):
    """y = log softmax(x), each run of `group` numbers by itself. Stable: the largest is taken off first."""
    f, fold, largest = functions(T), warp_fold(T, False), warp_fold(T, True)
    exp, log = f.exp, f.log

    @cuda.jit
    def run(ctl, geo, par, x, y):
        runs, stride, group = geo
        lane = cuda.threadIdx.x
        for m in range(cuda.blockIdx.y * cuda.blockDim.y + cuda.threadIdx.y, ctl[ROWS] * runs, cuda.gridsize(2)[1]):
            first, top, total = m // runs * stride + m % runs * group, T(-math.inf), T(0)
            for j in range(lane, group, WARP):
                top = x[first + j] if x[first + j] > top else top
            top = largest(top)
            for j in range(lane, group, WARP):
                total += exp(x[first + j] - top)
            total = log(fold(total))
            for j in range(lane, group, WARP):
                y[first + j] = (x[first + j] - top) - total

    return run


@cache
def log_softmax_gradient(T):
    """dy = dy - e^y sum dy, each run of `group` numbers by itself."""
    exp, fold = functions(T).exp, warp_fold(T, False)

    @cuda.jit
    def run(ctl, geo, par, y, dy):
        runs, stride, group = geo
        lane = cuda.threadIdx.x
        for m in range(cuda.blockIdx.y * cuda.blockDim.y + cuda.threadIdx.y, ctl[ROWS] * runs, cuda.gridsize(2)[1]):
            first, total = m // runs * stride + m % runs * group, T(0)
            for j in range(lane, group, WARP):
                total += dy[first + j]
            total = fold(total)
            for j in range(lane, group, WARP):
                dy[first + j] -= exp(y[first + j]) * total

    return run


def _softmax(make, c: Context, op: tuple) -> list[Launch]:
    x, y, width, group = op
    runs = width // group
    return [c.warps(make(c.T), c.batch * runs, (runs, row_stride(width), group), (), *c.arrays(x, y))]


LAUNCHERS = {
    "loss.softmax": partial(_softmax, softmax_rows),
    "loss.softmax_grad": partial(_softmax, softmax_gradient),
    "loss.log_softmax": partial(_softmax, log_softmax_rows),
    "loss.log_softmax_grad": partial(_softmax, log_softmax_gradient),
}
