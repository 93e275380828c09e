"""Batch normalisation over the rows of a batch, a thread a feature; as `parnet/kernels/norm.py`. Stage: cuda.

Source: Ioffe & Szegedy 2015, algorithm 1. Threads of a warp read neighbouring features of a row.
"""

from __future__ import annotations

from functools import cache

from ..kernels.control import ROWS
from ..kernels.step import row_stride
from .deliver import deliver
from .launch import Context, Fed, Launch, float_of
from .maths import functions
from .runtime import cuda


@cache
def batch_forward(T):
    """y = gamma (x - mean) inverse + beta, with the mean and the variance of the batch, in two passes."""
    sqrt = functions(T).sqrt

    @cuda.jit
    def run(ctl, geo, par, x, y, gamma, beta, mean, variance, inverse):
        width, stride = geo
        rows = ctl[ROWS]
        if rows == 0:
            return
        for j in range(cuda.grid(1), width, cuda.gridsize(1)):
            middle, spread = T(0), T(0)
            for i in range(rows):
                middle += x[i * stride + j]
            middle /= T(rows)
            for i in range(rows):
                away = x[i * stride + j] - middle
                spread += away * away
            spread /= T(rows)
            factor = T(1) / sqrt(spread + par[0])
            mean[j], variance[j], inverse[j] = middle, spread, factor
            factor *= gamma[j]
            for i in range(rows):
                y[i * stride + j] = (x[i * stride + j] - middle) * factor + beta[j]

    return run


@cache
def move_averages(T):
    """moving = momentum old + (1 - momentum) new."""

    @cuda.jit
    def run(ctl, geo, par, mean, variance, moving_mean, moving_variance):
        if ctl[ROWS] == 0:
            return
        new = T(1) - par[0]
        for j in range(cuda.grid(1), geo[0], cuda.gridsize(1)):
            moving_mean[j] = par[0] * moving_mean[j] + new * mean[j]
            moving_variance[j] = par[0] * moving_variance[j] + new * variance[j]

    return run


@cache
def batch_inference(T):
    """y = gamma (x - moving mean) / sqrt(moving variance + epsilon) + beta."""
    sqrt = functions(T).sqrt

    @cuda.jit
    def run(ctl, geo, par, x, y, gamma, beta, mean, variance):
        width, stride = geo
        j0, i0 = cuda.grid(2)
        across, down = cuda.gridsize(2)
        for j in range(j0, width, across):
            factor = gamma[j] / sqrt(variance[j] + par[0])
            for i in range(i0, ctl[ROWS], down):
                y[i * stride + j] = (x[i * stride + j] - mean[j]) * factor + beta[j]

    return run


@cache
def batch_backward(T):
    """dbeta = sum dy, dgamma = sum dy h, dx = gamma inverse / n (n dy - dbeta - h dgamma), h = (x - mean) inverse."""
    give = deliver(T)

    @cuda.jit
    def run(ctl, geo, par, x, dy, mean, inverse, gamma, dgamma, dbeta, rates):
        width, stride, wanted, mode = geo
        rows = ctl[ROWS]
        if rows == 0:
            return
        for j in range(cuda.grid(1), width, cuda.gridsize(1)):
            plain, along, middle, count = T(0), T(0), mean[j], T(rows)
            for i in range(rows):
                plain += dy[i * stride + j]
                along += dy[i * stride + j] * (x[i * stride + j] - middle)
            along *= inverse[j]
            a, b = gamma[j] * inverse[j], inverse[j] * along / count
            give(ctl, rates, mode, dgamma, j, along)
            give(ctl, rates, mode, dbeta, j, plain)
            plain /= count
            if wanted:
                for i in range(rows):
                    dy[i * stride + j] = a * (dy[i * stride + j] - plain - (x[i * stride + j] - middle) * b)

    return run


@cache
def frozen_backward(T):
    """dy *= gamma / sqrt(moving variance + epsilon)."""
    sqrt = functions(T).sqrt

    @cuda.jit
    def run(ctl, geo, par, dy, gamma, variance):
        width, stride = geo
        j0, i0 = cuda.grid(2)
        across, down = cuda.gridsize(2)
        for j in range(j0, width, across):
            factor = gamma[j] / sqrt(variance[j] + par[0])
            for i in range(i0, ctl[ROWS], down):
                dy[i * stride + j] *= factor

    return run


def _batch_forward(c: Context, op: tuple) -> list[Launch]:
    *arrays, width, epsilon = op
    geo = (width, row_stride(width))
    return [c.flat(batch_forward(c.T), width, geo, (float_of(epsilon),), *c.arrays(*arrays))]


def _move_averages(c: Context, op: tuple) -> list[Launch]:
    *arrays, width, momentum = op
    return [c.flat(move_averages(c.T), width, (width,), (float_of(momentum),), *c.arrays(*arrays))]


def _batch_inference(c: Context, op: tuple) -> list[Launch]:
    *arrays, width, epsilon = op
    geo = (width, row_stride(width))
    return [c.plane(batch_inference(c.T), width, geo, (float_of(epsilon),), *c.arrays(*arrays))]


def _batch_backward(c: Context, op: tuple) -> list[Launch]:
    *arrays, width, wanted, mode = op
    geo = (width, row_stride(width), wanted, mode)
    return [c.flat(batch_backward(c.T), width, geo, (), *c.arrays(*arrays), Fed("rates"))]


def _frozen_backward(c: Context, op: tuple) -> list[Launch]:
    *arrays, width, epsilon = op
    geo = (width, row_stride(width))
    return [c.plane(frozen_backward(c.T), width, geo, (float_of(epsilon),), *c.arrays(*arrays))]


LAUNCHERS = {
    "norm.batch_forward": _batch_forward,
    "norm.move_averages": _move_averages,
    "norm.batch_inference": _batch_inference,
    "norm.batch_backward": _batch_backward,
    "norm.frozen_backward": _frozen_backward,
}
