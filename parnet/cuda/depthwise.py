"""Depthwise convolution, a thread a number; as `parnet/kernels/depthwise.py`, with its packed weights. Stage: cuda.

`packed` (taps + 2, pitch) has a row a tap, then the bias or zeros, then zeros. Sums of the weight gradient are made for
chunks of lines of an image, and combined in order.
"""

from __future__ import annotations

from functools import cache

from ..kernels.control import ROWS
from ..kernels.step import LINE, row_stride
from .deliver import deliver
from .launch import Context, Fed, Launch, lower, upper
from .runtime import cuda


def pitch_of(channels: int) -> int:
    """Numbers from one row of `packed` to the next."""
    return -(-channels // LINE) * LINE


@cache
def pack(T):
    """w (taps C, multiplier), bias -> packed."""

    @cuda.jit
    def run(ctl, geo, par, w, bias, packed):
        taps, channels, times, row, pitch, has_bias = geo
        j0, t0 = cuda.grid(2)
        across, down = cuda.gridsize(2)
        for t in range(t0, taps + 2, down):
            for j in range(j0, channels * times, across):
                value = T(0)
                if t < taps:
                    value = w[(t * channels + j // times) * row + j % times]
                elif t == taps and has_bias:
                    value = bias[j]
                packed[t * pitch + j] = value

    return run


@cache
def forward(T):
    """y = the window of each channel times its weights, plus the bias, cut off at 0 if wanted."""

    @cuda.jit
    def run(ctl, geo, par, x, packed, y):
        height, width, out_height, out_width, kh, kw, tap_y, tap_x, step_y, step_x, above, left = geo[:12]
        channels, pitch, x_row, y_row, relu = geo[12:]
        j0, image0 = cuda.grid(2)
        across, down = cuda.gridsize(2)
        for image in range(image0, ctl[ROWS], down):
            for j in range(j0, out_height * out_width * channels, across):
                pixel, c = j // channels, j % channels
                h, w = pixel // out_width * step_y - above, pixel % out_width * step_x - left
                total = packed[kh * kw * pitch + c]
                for a in range(kh):
                    for b in range(kw):
                        i, k = h + a * tap_y, w + b * tap_x
                        if i >= 0 and i < height and k >= 0 and k < width:
                            tap = packed[(a * kw + b) * pitch + c]
                            total += x[image * x_row + (i * width + k) * channels + c] * tap
                y[image * y_row + j] = T(0) if relu and total < T(0) else total

    return run


@cache
def input_gradient(T):
    """dx = the sum over the windows that reach a pixel."""

    @cuda.jit
    def run(ctl, geo, par, dy, packed, dx):
        height, width, out_height, out_width, kh, kw, tap_y, tap_x, step_y, step_x, above, left = geo[:12]
        channels, pitch, x_row, y_row, _ = geo[12:]
        j0, image0 = cuda.grid(2)
        across, down = cuda.gridsize(2)
        for image in range(image0, ctl[ROWS], down):
            for j in range(j0, height * width * channels, across):
                pixel, c, total = j // channels, j % channels, T(0)
                for a in range(kh):
                    h = pixel // width + above - a * tap_y
                    for b in range(kw):
                        w = pixel % width + left - b * tap_x
                        if h >= 0 and w >= 0 and h % step_y == 0 and w % step_x == 0:
                            o, q = h // step_y, w // step_x
                            if o < out_height and q < out_width:
                                tap = packed[(a * kw + b) * pitch + c]
                                total += dy[image * y_row + (o * out_width + q) * channels + c] * tap
                dx[image * x_row + j] = total

    return run


@cache
def weight_gradient(T):
    """sums (rows, chunks, taps + 1, pitch): of each tap over the lines of a chunk, and of dy."""

    @cuda.jit
    def run(ctl, geo, par, x, dy, sums):
        height, width, out_height, out_width, kh, kw, tap_y, tap_x, step_y, step_x, above, left = geo[:12]
        channels, pitch, x_row, y_row, lines, chunks, sums_row = geo[12:]
        j0, image0 = cuda.grid(2)
        across, down = cuda.gridsize(2)
        taps = kh * kw
        for image in range(image0, ctl[ROWS], down):
            for j in range(j0, chunks * (taps + 1) * channels, across):
                c, chunk, t = j % channels, j // channels // (taps + 1), j // channels % (taps + 1)
                y, z, total = t // kw * tap_y - above, t % kw * tap_x - left, T(0)
                for o in range(chunk * lines, min(out_height, (chunk + 1) * lines)):
                    h = o * step_y + y
                    if t == taps or (h >= 0 and h < height):
                        for q in range(out_width):
                            w, g = q * step_x + z, dy[image * y_row + (o * out_width + q) * channels + c]
                            if t == taps:
                                total += g
                            elif w >= 0 and w < width:
                                total += g * x[image * x_row + (h * width + w) * channels + c]
                sums[image * sums_row + (chunk * (taps + 1) + t) * pitch + c] = total

    return run


@cache
def combine(T):
    """The sums of all images and chunks, in order, to dw (taps C, multiplier) and db."""
    give = deliver(T)

    @cuda.jit
    def run(ctl, geo, par, sums, dw, db, rates):
        chunks, taps, channels, times, row, pitch, sums_row, has_bias, mode, bias_mode = geo
        if ctl[ROWS] == 0:
            return
        j0, t0 = cuda.grid(2)
        across, down = cuda.gridsize(2)
        for t in range(t0, taps + 1 if has_bias else taps, down):
            for j in range(j0, channels * times, across):
                total = T(0)
                for image in range(ctl[ROWS]):
                    for chunk in range(chunks):
                        total += sums[image * sums_row + (chunk * (taps + 1) + t) * pitch + j]
                if t == taps:
                    give(ctl, rates, bias_mode, db, j, total)
                else:
                    give(ctl, rates, mode, dw, (t * channels + j // times) * row + j % times, total)

    return run


@cache
def repeat(T):
    """y = x, each number `times` times."""

    @cuda.jit
    def run(ctl, geo, par, x, y):
        size, times, x_row, y_row = geo
        j0, image0 = cuda.grid(2)
        across, down = cuda.gridsize(2)
        for image in range(image0, ctl[ROWS], down):
            for j in range(j0, size * times, across):
                y[image * y_row + j] = x[image * x_row + j // times]

    return run


@cache
def repeat_gradient(T):
    """dx = the sum of `times` neighbours."""

    @cuda.jit
    def run(ctl, geo, par, dy, dx):
        size, times, x_row, y_row = geo
        j0, image0 = cuda.grid(2)
        across, down = cuda.gridsize(2)
        for image in range(image0, ctl[ROWS], down):
            for j in range(j0, size, across):
                total = T(0)
                for t in range(times):
                    total += dy[image * y_row + j * times + t]
                dx[image * x_row + j] = total

    return run


def _geometry(words, channels: int) -> tuple[tuple[int, ...], int, int]:
    """The kernels' words, and how many numbers an image has before and after."""
    pairs = [(upper(word), lower(word)) for word in words]
    (height, width), (out_height, out_width) = pairs[:2]
    before, after = height * width * channels, out_height * out_width * channels
    flat = tuple(half for pair in pairs for half in pair)
    return (*flat, channels, pitch_of(channels), row_stride(before), row_stride(after)), before, after


def _pack(c: Context, op: tuple) -> list[Launch]:
    w, bias, packed, has_bias, taps, channels, times = op
    width = channels * times
    geo = (taps, channels, times, row_stride(times), pitch_of(width), has_bias)
    return [c.plane(pack(c.T), width, geo, (), *c.arrays(w, bias, packed), rows=taps + 2)]


def _forward(c: Context, op: tuple) -> list[Launch]:
    x, packed, y, *words, channels, relu = op
    geo, _, after = _geometry(words, channels)
    return [c.plane(forward(c.T), after, (*geo, relu), (), *c.arrays(x, packed, y))]


def _input_gradient(c: Context, op: tuple) -> list[Launch]:
    dy, packed, dx, *words, channels = op
    geo, before, _ = _geometry(words, channels)
    return [c.plane(input_gradient(c.T), before, (*geo, 0), (), *c.arrays(dy, packed, dx))]


def _weight_gradient(c: Context, op: tuple) -> list[Launch]:
    x, dy, sums, *words, channels, lines = op
    geo, _, _ = _geometry(words, channels)
    taps, chunks = upper(words[2]) * lower(words[2]), -(-upper(words[1]) // lines)
    sums_row = row_stride(chunks * (taps + 1) * pitch_of(channels))
    size = chunks * (taps + 1) * channels
    return [c.plane(weight_gradient(c.T), size, (*geo, lines, chunks, sums_row), (), *c.arrays(x, dy, sums))]


def _combine(c: Context, op: tuple) -> list[Launch]:
    sums, dw, db, has_bias, chunks, taps, channels, times, mode, bias_mode = op
    pitch = pitch_of(channels * times)
    arrays, sums_row = (*c.arrays(sums, dw, db), Fed("rates")), row_stride(chunks * (taps + 1) * pitch)
    geo = (chunks, taps, channels, times, row_stride(times), pitch, sums_row, has_bias, mode, bias_mode)
    return [c.plane(combine(c.T), channels * times, geo, (), *arrays, rows=taps + has_bias)]


def _repeat(c: Context, op: tuple) -> list[Launch]:
    x, y, pixels, channels, times = op
    size = pixels * channels
    geo = (size, times, row_stride(size), row_stride(size * times))
    return [c.plane(repeat(c.T), size * times, geo, (), *c.arrays(x, y))]


def _repeat_gradient(c: Context, op: tuple) -> list[Launch]:
    dy, dx, pixels, channels, times = op
    size = pixels * channels
    geo = (size, times, row_stride(size), row_stride(size * times))
    return [c.plane(repeat_gradient(c.T), size, geo, (), *c.arrays(dy, dx))]


LAUNCHERS = {
    "depthwise.pack": _pack,
    "depthwise.forward": _forward,
    "depthwise.input_gradient": _input_gradient,
    "depthwise.weight_gradient": _weight_gradient,
    "depthwise.combine": _combine,
    "depthwise.repeat": _repeat,
    "depthwise.repeat_gradient": _repeat_gradient,
}
