"""Dropout and normal noise with the CPU's random numbers; as `parnet/kernels/noise.py`, a thread four numbers. Stage: cuda.

Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3", section 3.3.
"""

from __future__ import annotations

import math
from functools import cache

from ..kernels.control import EPOCH, ROWS, SEED
from ..kernels.step import row_stride
from .gather import source_row
from .launch import Context, Fed, Launch, float_of
from .runtime import cuda

MASK = 0xFFFFFFFF
MULTIPLY_0, MULTIPLY_1 = 0xD2511F53, 0xCD9E8D57
WEYL_0, WEYL_1 = 0x9E3779B9, 0xBB67AE85


@cuda.jit(device=True)
def philox(c0, c1, c2, c3, k0, k1):
    """Four random 32-bit words (as int64) for a counter of four and a key of two 32-bit words."""
    for _ in range(10):
        p0, p1 = MULTIPLY_0 * c0, MULTIPLY_1 * c2
        high0, high1 = (p0 >> 32) & MASK, (p1 >> 32) & MASK
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, p1 & MASK, high0 ^ c3 ^ k1, p0 & MASK
        k0, k1 = (k0 + WEYL_0) & MASK, (k1 + WEYL_1) & MASK
    return c0, c1, c2, c3


@cuda.jit(device=True)
def draw(ctl, order, i, k, layer):
    """Four random words of number k of row i of the batch."""
    sample = source_row(ctl, order, i) & MASK
    return philox(k, sample, ctl[EPOCH] & MASK, layer, ctl[SEED] & MASK, (ctl[SEED] >> 32) & MASK)


@cache
def dropout(T):
    """mask = 0 or 1 / (1 - rate), y = x mask. Source: Srivastava et al. 2014, section 4, inverted."""

    @cuda.jit
    def run(ctl, geo, par, x, y, mask, order):
        width, stride, layer, threshold = geo
        q0, i0 = cuda.grid(2)
        across, down = cuda.gridsize(2)
        for i in range(i0, ctl[ROWS], down):
            for q in range(q0, (width + 3) // 4, across):
                words = draw(ctl, order, i, q, layer)
                for k in range(4):
                    j = 4 * q + k
                    if j < width:
                        factor = par[0] if words[k] >= threshold else T(0)
                        mask[i * stride + j] = factor
                        y[i * stride + j] = x[i * stride + j] * factor

    return run


@cache
def dropout_grad(T):
    """dy *= mask."""

    @cuda.jit
    def run(ctl, geo, par, mask, dy):
        width, stride = geo
        j0, i0 = cuda.grid(2)
        across, down = cuda.gridsize(2)
        for i in range(i0, ctl[ROWS], down):
            for j in range(j0, width, across):
                dy[i * stride + j] *= mask[i * stride + j]

    return run


@cache
def gaussian(T):
    """y = x + deviation n, n normally distributed. Source: Box & Muller 1958."""

    @cuda.jit
    def run(ctl, geo, par, x, y, order):
        width, stride, layer = geo
        q0, i0 = cuda.grid(2)
        across, down = cuda.gridsize(2)
        for i in range(i0, ctl[ROWS], down):
            for q in range(q0, (width + 3) // 4, across):
                words = draw(ctl, order, i, q, layer)
                for k in range(4):
                    j = 4 * q + k
                    if j < width:
                        radius = math.sqrt(-2.0 * math.log((words[k // 2] + 1) / 4294967296.0))
                        angle = 2.0 * math.pi * words[2 + k // 2] / 4294967296.0
                        n = radius * (math.cos(angle) if k % 2 == 0 else math.sin(angle))
                        y[i * stride + j] = x[i * stride + j] + par[0] * T(n)

    return run


def _dropout(c: Context, op: tuple) -> list[Launch]:
    x, y, mask, width, rate, layer, _ = op
    rate = c.T(float_of(rate))
    geo = (width, row_stride(width), layer, int(rate * c.T(4294967296.0)))
    return [c.plane(dropout(c.T), -(-width // 4), geo, (c.T(1) / (c.T(1) - rate),), *c.arrays(x, y, mask), Fed("order"))]


def _dropout_grad(c: Context, op: tuple) -> list[Launch]:
    mask, dy, width, _ = op
    return [c.plane(dropout_grad(c.T), width, (width, row_stride(width)), (), *c.arrays(mask, dy))]


def _gaussian(c: Context, op: tuple) -> list[Launch]:
    x, y, width, deviation, layer, _ = op
    geo = (width, row_stride(width), layer)
    return [c.plane(gaussian(c.T), -(-width // 4), geo, (float_of(deviation),), *c.arrays(x, y), Fed("order"))]


LAUNCHERS = {"noise.dropout": _dropout, "noise.dropout_grad": _dropout_grad, "noise.gaussian": _gaussian}
