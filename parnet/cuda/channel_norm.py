"""Batch normalisation of images, channel by channel; as `parnet/kernels/channel_norm.py`, whose chunks it sums. Stage: cuda.

A thread sums one channel of one chunk of pixels; another one a channel combines the chunks, in order.
"""

from __future__ import annotations

from functools import cache

from ..kernels.control import ROWS
from ..kernels.step import CHUNK_PIXELS, row_stride
from .deliver import deliver
from .launch import Context, Fed, Launch, float_of
from .maths import functions
from .runtime import cuda


def chunks_of(pixels: int) -> int:
    """Chunks of an image."""
    return -(-pixels // CHUNK_PIXELS)


@cache
def moments(T):
    """The mean, and the sum of squares about it, of each chunk."""

    @cuda.jit
    def run(ctl, geo, par, x, sums):
        pixels, width, x_row, s_row, chunks = geo
        j0, i0 = cuda.grid(2)
        across, down = cuda.gridsize(2)
        for i in range(i0, ctl[ROWS], down):
            for j in range(j0, chunks * width, across):
                chunk, c = j // width, j % width
                p0, p1 = chunk * CHUNK_PIXELS, min(pixels, (chunk + 1) * CHUNK_PIXELS)
                middle, squares = T(0), T(0)
                for p in range(p0, p1):
                    middle += x[i * x_row + p * width + c]
                middle /= T(p1 - p0)
                for p in range(p0, p1):
                    away = x[i * x_row + p * width + c] - middle
                    squares += away * away
                sums[i * s_row + chunk * 2 * width + c] = middle
                sums[i * s_row + (chunk * 2 + 1) * width + c] = squares

    return run


@cache
def combine_moments(T):
    """Chunks' moments to mean, variance and 1 / sqrt(variance + epsilon). Source: Chan, Golub & LeVeque 1979, eq. 2.1."""
    sqrt = functions(T).sqrt

    @cuda.jit
    def run(ctl, geo, par, sums, mean, variance, inverse):
        pixels, width, s_row, chunks = geo
        if ctl[ROWS] == 0:
            return
        for c in range(cuda.grid(1), width, cuda.gridsize(1)):
            middle, squares, seen = T(0), T(0), 0
            for i in range(ctl[ROWS]):
                for chunk in range(chunks):
                    size = min(pixels, (chunk + 1) * CHUNK_PIXELS) - chunk * CHUNK_PIXELS
                    own = sums[i * s_row + chunk * 2 * width + c]
                    new, away = T(size) / T(seen + size), own - middle
                    middle += away * new
                    squares += sums[i * s_row + (chunk * 2 + 1) * width + c] + away * away * (new * T(seen))
                    seen += size
            mean[c], variance[c] = middle, squares / T(seen)
            inverse[c] = T(1) / sqrt(squares / T(seen) + par[0])

    return run


@cache
def scaled(T, frozen: bool):
    """y = gamma (x - mean) inverse + beta; frozen: the moving variance stands in the place of inverse."""
    sqrt = functions(T).sqrt

    @cuda.jit
    def run(ctl, geo, par, x, y, gamma, beta, mean, inverse):
        pixels, width, row = geo
        j0, i0 = cuda.grid(2)
        across, down = cuda.gridsize(2)
        for j in range(j0, pixels * width, across):
            c = j % width
            if frozen:
                scale = gamma[c] / sqrt(inverse[c] + par[0])
            else:
                scale = gamma[c] * inverse[c]
            shift = beta[c] - mean[c] * scale
            for i in range(i0, ctl[ROWS], down):
                y[i * row + j] = x[i * row + j] * scale + shift

    return run


@cache
def gradient_sums(T):
    """Of each chunk the sums of dy and of dy (x - mean)."""

    @cuda.jit
    def run(ctl, geo, par, x, dy, mean, sums):
        pixels, width, x_row, s_row, chunks = geo
        j0, i0 = cuda.grid(2)
        across, down = cuda.gridsize(2)
        for i in range(i0, ctl[ROWS], down):
            for j in range(j0, chunks * width, across):
                chunk, c = j // width, j % width
                plain, along = T(0), T(0)
                for p in range(chunk * CHUNK_PIXELS, min(pixels, (chunk + 1) * CHUNK_PIXELS)):
                    g = dy[i * x_row + p * width + c]
                    plain += g
                    along += g * (x[i * x_row + p * width + c] - mean[c])
                sums[i * s_row + chunk * 2 * width + c] = plain
                sums[i * s_row + (chunk * 2 + 1) * width + c] = along

    return run


@cache
def combine_gradients(T):
    """Chunks' sums to dgamma and dbeta, and to a, b, s with dx = a dy + b x + s."""
    give = deliver(T)

    @cuda.jit
    def run(ctl, geo, par, sums, mean, inverse, gamma, dgamma, dbeta, a, b, s, rates):
        pixels, width, s_row, chunks, mode = geo
        if ctl[ROWS] == 0:
            return
        for c in range(cuda.grid(1), width, cuda.gridsize(1)):
            plain, along, count = T(0), T(0), T(ctl[ROWS] * pixels)
            for i in range(ctl[ROWS]):
                for chunk in range(chunks):
                    plain += sums[i * s_row + chunk * 2 * width + c]
                    along += sums[i * s_row + (chunk * 2 + 1) * width + c]
            along *= inverse[c]
            factor = gamma[c] * inverse[c]
            give(ctl, rates, mode, dgamma, c, along)
            give(ctl, rates, mode, dbeta, c, plain)
            along = -factor * inverse[c] * along / count
            a[c], b[c], s[c] = factor, along, -factor * plain / count - mean[c] * along

    return run


@cache
def input_gradient(T):
    """dy = a dy + b x + s."""

    @cuda.jit
    def run(ctl, geo, par, x, dy, a, b, s):
        pixels, width, row = geo
        j0, i0 = cuda.grid(2)
        across, down = cuda.gridsize(2)
        for j in range(j0, pixels * width, across):
            c = j % width
            for i in range(i0, ctl[ROWS], down):
                dy[i * row + j] = a[c] * dy[i * row + j] + (b[c] * x[i * row + j] + s[c])

    return run


@cache
def frozen_gradient(T):
    """dy *= gamma / sqrt(moving variance + epsilon)."""
    sqrt = functions(T).sqrt

    @cuda.jit
    def run(ctl, geo, par, dy, gamma, variance):
        pixels, width, row = geo
        j0, i0 = cuda.grid(2)
        across, down = cuda.gridsize(2)
        for j in range(j0, pixels * width, across):
            scale = gamma[j % width] / sqrt(variance[j % width] + par[0])
            for i in range(i0, ctl[ROWS], down):
                dy[i * row + j] *= scale

    return run


def _chunked(pixels: int, width: int) -> tuple[int, ...]:
    chunks = chunks_of(pixels)
    return pixels, width, row_stride(pixels * width), row_stride(chunks * 2 * width), chunks


def _moments(c: Context, op: tuple) -> list[Launch]:
    x, sums, pixels, width = op
    geo = _chunked(pixels, width)
    return [c.plane(moments(c.T), geo[-1] * width, geo, (), *c.arrays(x, sums))]


def _combine_moments(c: Context, op: tuple) -> list[Launch]:
    *arrays, pixels, width, epsilon = op
    _, _, _, s_row, chunks = _chunked(pixels, width)
    geo = (pixels, width, s_row, chunks)
    return [c.flat(combine_moments(c.T), width, geo, (float_of(epsilon),), *c.arrays(*arrays))]


def _normalise(c: Context, op: tuple) -> list[Launch]:
    *arrays, pixels, width = op
    size = pixels * width
    return [c.plane(scaled(c.T, False), size, (pixels, width, row_stride(size)), (), *c.arrays(*arrays))]


def _inference(c: Context, op: tuple) -> list[Launch]:
    *arrays, pixels, width, epsilon = op
    size, par = pixels * width, (float_of(epsilon),)
    return [c.plane(scaled(c.T, True), size, (pixels, width, row_stride(size)), par, *c.arrays(*arrays))]


def _gradient_sums(c: Context, op: tuple) -> list[Launch]:
    *arrays, pixels, width = op
    geo = _chunked(pixels, width)
    return [c.plane(gradient_sums(c.T), geo[-1] * width, geo, (), *c.arrays(*arrays))]


def _combine_gradients(c: Context, op: tuple) -> list[Launch]:
    *arrays, pixels, width, mode = op
    _, _, _, s_row, chunks = _chunked(pixels, width)
    geo = (pixels, width, s_row, chunks, mode)
    return [c.flat(combine_gradients(c.T), width, geo, (), *c.arrays(*arrays), Fed("rates"))]


def _input_gradient(c: Context, op: tuple) -> list[Launch]:
    *arrays, pixels, width = op
    size = pixels * width
    return [c.plane(input_gradient(c.T), size, (pixels, width, row_stride(size)), (), *c.arrays(*arrays))]


def _frozen_gradient(c: Context, op: tuple) -> list[Launch]:
    *arrays, pixels, width, epsilon = op
    size, par = pixels * width, (float_of(epsilon),)
    return [c.plane(frozen_gradient(c.T), size, (pixels, width, row_stride(size)), par, *c.arrays(*arrays))]


LAUNCHERS = {
    "channel_norm.moments": _moments,
    "channel_norm.combine_moments": _combine_moments,
    "channel_norm.normalise": _normalise,
    "channel_norm.inference": _inference,
    "channel_norm.gradient_sums": _gradient_sums,
    "channel_norm.combine_gradients": _combine_gradients,
    "channel_norm.input_gradient": _input_gradient,
    "channel_norm.frozen_gradient": _frozen_gradient,
}
