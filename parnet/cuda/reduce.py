"""Sums over rows and over long vectors, clipping and penalties; as `parnet/kernels/reduce.py`. Stage: cuda."""

from __future__ import annotations

from functools import cache

from ..kernels.control import ROWS
from ..kernels.step import row_stride
from .deliver import deliver
from .launch import Context, Fed, Launch, float_of
from .maths import functions
from .runtime import THREADS, cuda
from .sums import block_sum

#: numbers summed in one piece when a norm is taken, as the plan says (`parnet.plan.update.BLOCK`)
BLOCK = 4096


@cache
def bias_gradient(T):
    """db = the sum of dy over the rows, in rising order, a thread a column."""
    give = deliver(T)

    @cuda.jit
    def run(ctl, geo, par, dy, db, rates):
        width, stride, mode = geo
        if ctl[ROWS] == 0:
            return
        for j in range(cuda.grid(1), width, cuda.gridsize(1)):
            total = T(0)
            for i in range(ctl[ROWS]):
                total += dy[i * stride + j]
            give(ctl, rates, mode, db, j, total)

    return run


@cache
def block_squares(T):
    """sums[b] = the sum of x^2 over block b."""
    total = block_sum(T)

    @cuda.jit
    def run(ctl, geo, par, x, sums):
        b, mine = cuda.blockIdx.x, T(0)
        for j in range(b * BLOCK + cuda.threadIdx.x, min(geo[0], (b + 1) * BLOCK), THREADS):
            mine += x[j] * x[j]
        mine = total(mine)
        if cuda.threadIdx.x == 0:
            sums[b] = mine

    return run


@cache
def norm_factor(T):
    """factor = min(1, limit / norm). Source: Pascanu et al. 2013, algorithm 1."""
    total, sqrt = block_sum(T), functions(T).sqrt

    @cuda.jit
    def run(ctl, geo, par, sums, factor):
        mine = T(0)
        for b in range(cuda.threadIdx.x, geo[0], THREADS):
            mine += sums[b]
        norm = sqrt(total(mine))
        if cuda.threadIdx.x == 0:
            factor[0] = par[0] / norm if norm > par[0] else T(1)

    return run


@cache
def multiply(T):
    """x *= factor."""

    @cuda.jit
    def run(ctl, geo, par, x, factor):
        for j in range(cuda.grid(1), geo[0], cuda.gridsize(1)):
            x[j] *= factor[0]

    return run


@cache
def clip(T):
    """x cut to [-limit, limit]; a NaN stays one."""

    @cuda.jit
    def run(ctl, geo, par, x):
        limit = par[0]
        for j in range(cuda.grid(1), geo[0], cuda.gridsize(1)):
            high = limit if x[j] > limit else x[j]
            x[j] = -limit if high < -limit else high

    return run


@cache
def penalty(T):
    """out = l1 sum |w| + l2 sum w^2, by one block."""
    total = block_sum(T)

    @cuda.jit
    def run(ctl, geo, par, w, out):
        mine = T(0)
        for j in range(cuda.threadIdx.x, geo[0], THREADS):
            mine += par[0] * abs(w[j]) + par[1] * w[j] * w[j]
        mine = total(mine)
        if cuda.threadIdx.x == 0:
            out[0] = mine

    return run


@cache
def penalty_gradient(T):
    """dw += l1 sign(w) + 2 l2 w."""

    @cuda.jit
    def run(ctl, geo, par, w, dw):
        if ctl[ROWS] == 0:
            return
        for j in range(cuda.grid(1), geo[0], cuda.gridsize(1)):
            sign = T(1) if w[j] > T(0) else T(-1)
            sign = T(0) if w[j] == T(0) else sign
            dw[j] += par[0] * sign + T(2) * par[1] * w[j]

    return run


def _bias_gradient(c: Context, op: tuple) -> list[Launch]:
    dy, db, width, mode = op
    geo = (width, row_stride(width), mode)
    return [c.flat(bias_gradient(c.T), width, geo, (), *c.arrays(dy, db), Fed("rates"))]


def _block_squares(c: Context, op: tuple) -> list[Launch]:
    x, sums, n = op
    return [c.block(block_squares(c.T), -(-n // BLOCK), (n,), (), *c.arrays(x, sums))]


def _norm_factor(c: Context, op: tuple) -> list[Launch]:
    sums, factor, blocks, limit = op
    return [c.block(norm_factor(c.T), 1, (blocks,), (float_of(limit),), *c.arrays(sums, factor))]


def _multiply(c: Context, op: tuple) -> list[Launch]:
    x, factor, n = op
    return [c.flat(multiply(c.T), n, (n,), (), *c.arrays(x, factor))]


def _clip(c: Context, op: tuple) -> list[Launch]:
    x, n, limit = op
    return [c.flat(clip(c.T), n, (n,), (float_of(limit),), c.array(x))]


def _penalty(c: Context, op: tuple) -> list[Launch]:
    w, out, n, one, two = op
    return [c.block(penalty(c.T), 1, (n,), (float_of(one), float_of(two)), *c.arrays(w, out))]


def _penalty_gradient(c: Context, op: tuple) -> list[Launch]:
    w, dw, n, one, two = op
    return [c.flat(penalty_gradient(c.T), n, (n,), (float_of(one), float_of(two)), *c.arrays(w, dw))]


LAUNCHERS = {
    "reduce.bias_gradient": _bias_gradient,
    "reduce.block_squares": _block_squares,
    "reduce.norm_factor": _norm_factor,
    "reduce.multiply": _multiply,
    "reduce.clip": _clip,
    "reduce.penalty": _penalty,
    "reduce.penalty_gradient": _penalty_gradient,
}
