"""Layer normalisation, a warp a row or pixel; as `parnet/kernels/layer_norm.py`, with the same chunks. Stage: cuda.

Source: Ba, Kiros & Hinton 2016, "Layer Normalization", equation 4.
"""

from __future__ import annotations

from functools import cache

from ..kernels.control import ROWS
from ..kernels.step import LINE, row_stride
from .deliver import deliver
from .launch import Context, Fed, Launch, float_of
from .maths import functions
from .runtime import WARP, cuda
from .sums import warp_fold

#: positions whose sums are made together, as `parnet.kernels.layer_norm.CHUNK` says
CHUNK = 32


def pitch_of(width: int) -> int:
    """Numbers from one row of sums to the next."""
    return -(-width // LINE) * LINE


@cache
def forward(T):
    """y = gamma (x - mean) / sqrt(var + epsilon) + beta over the features of each position."""
    fold, sqrt = warp_fold(T, False), functions(T).sqrt

    @cuda.jit
    def run(ctl, geo, par, x, y, gamma, beta, mean, inverse):
        pixels, width, row, few, has_gamma, has_beta = geo
        lane = cuda.threadIdx.x
        for m in range(cuda.blockIdx.y * cuda.blockDim.y + cuda.threadIdx.y, ctl[ROWS] * pixels, cuda.gridsize(2)[1]):
            spot, place = m // pixels * row + m % pixels * width, m // pixels * few + m % pixels
            middle, squares = T(0), T(0)
            for c in range(lane, width, WARP):
                middle += x[spot + c]
            middle = fold(middle) / T(width)
            for c in range(lane, width, WARP):
                squares += (x[spot + c] - middle) * (x[spot + c] - middle)
            factor = T(1) / sqrt(fold(squares) / T(width) + par[0])
            for c in range(lane, width, WARP):
                scale = factor * gamma[c] if has_gamma else factor
                shift = beta[c] if has_beta else T(0)
                y[spot + c] = (x[spot + c] - middle) * scale + shift
            if lane == 0:
                mean[place], inverse[place] = middle, factor

    return run


@cache
def chunk_sums(T):
    """Of each chunk of positions the sums of dy h and of dy, h = (x - mean) inverse; a thread a feature."""

    @cuda.jit
    def run(ctl, geo, par, x, dy, mean, inverse, sums):
        pixels, width, row, few, pitch = geo
        c0, k0 = cuda.grid(2)
        across, down = cuda.gridsize(2)
        positions = ctl[ROWS] * pixels
        for chunk in range(k0, (positions + CHUNK - 1) // CHUNK, down):
            for c in range(c0, width, across):
                along, plain = T(0), T(0)
                for m in range(chunk * CHUNK, min(positions, (chunk + 1) * CHUNK)):
                    spot, place = m // pixels * row + m % pixels * width + c, m // pixels * few + m % pixels
                    along += dy[spot] * ((x[spot] - mean[place]) * inverse[place])
                    plain += dy[spot]
                sums[2 * chunk * pitch + c] = along
                sums[(2 * chunk + 1) * pitch + c] = plain

    return run


@cache
def input_gradient(T):
    """dx = inverse (g - mean(g) - h mean(g h)), g = gamma dy, over dy."""
    fold = warp_fold(T, False)

    @cuda.jit
    def run(ctl, geo, par, x, dy, mean, inverse, gamma):
        pixels, width, row, few, has_gamma = geo
        lane = cuda.threadIdx.x
        for m in range(cuda.blockIdx.y * cuda.blockDim.y + cuda.threadIdx.y, ctl[ROWS] * pixels, cuda.gridsize(2)[1]):
            spot, place = m // pixels * row + m % pixels * width, m // pixels * few + m % pixels
            middle, factor, plain, along = mean[place], inverse[place], T(0), T(0)
            for c in range(lane, width, WARP):
                g = dy[spot + c] * gamma[c] if has_gamma else dy[spot + c]
                plain += g
                along += g * (x[spot + c] - middle)
            plain = fold(plain) / T(width) * factor
            along = fold(along) / T(width) * (factor * factor * factor)
            for c in range(lane, width, WARP):
                g = dy[spot + c] * gamma[c] if has_gamma else dy[spot + c]
                dy[spot + c] = g * factor - plain - (x[spot + c] - middle) * along

    return run


@cache
def combine(T):
    """The sums of all chunks, in order, to one gradient; geo's last word says which of the two."""
    give = deliver(T)

    @cuda.jit
    def run(ctl, geo, par, sums, gradient, rates):
        pixels, width, pitch, mode, which = geo
        if ctl[ROWS] == 0:
            return
        for c in range(cuda.grid(1), width, cuda.gridsize(1)):
            total = T(0)
            for chunk in range((ctl[ROWS] * pixels + CHUNK - 1) // CHUNK):
                total += sums[(2 * chunk + which) * pitch + c]
            give(ctl, rates, mode, gradient, c, total)

    return run


def _forward(c: Context, op: tuple) -> list[Launch]:
    *arrays, has_gamma, has_beta, pixels, width, epsilon = op
    geo = (pixels, width, row_stride(pixels * width), row_stride(pixels), has_gamma, has_beta)
    return [c.warps(forward(c.T), c.batch * pixels, geo, (float_of(epsilon),), *c.arrays(*arrays))]


def _backward(c: Context, op: tuple) -> list[Launch]:
    x, dy, mean, inverse, gamma, sums, has_gamma, pixels, width, wanted, sums_wanted = op
    row, few, positions = row_stride(pixels * width), row_stride(pixels), c.batch * pixels
    found = []
    if sums_wanted:
        geo = (pixels, width, row, few, pitch_of(width))
        arrays = c.arrays(x, dy, mean, inverse, sums)
        found.append(c.plane(chunk_sums(c.T), width, geo, (), *arrays, rows=-(-positions // CHUNK)))
    if wanted:
        geo = (pixels, width, row, few, has_gamma)
        found.append(c.warps(input_gradient(c.T), positions, geo, (), *c.arrays(x, dy, mean, inverse, gamma)))
    return found


def _combine(c: Context, op: tuple) -> list[Launch]:
    sums, dgamma, dbeta, has_gamma, has_beta, pixels, width, gamma_mode, beta_mode = op
    wanted = ((dgamma, has_gamma, gamma_mode), (dbeta, has_beta, beta_mode))
    return [
        c.flat(
            combine(c.T), width, (pixels, width, pitch_of(width), mode, which), (), *c.arrays(sums, gradient), Fed("rates")
        )
        for which, (gradient, has, mode) in enumerate(wanted)
        if has
    ]


LAUNCHERS = {"layer_norm.forward": _forward, "layer_norm.backward": _backward, "layer_norm.combine": _combine}
