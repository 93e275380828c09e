"""Pooling of images, a thread a number of the output; as `parnet/kernels/pool.py` and `average_pool.py`. Stage: cuda.

A gradient is summed by the thread of the input's pixel, windows in rising order. Geometry words come as pairs.
"""

from __future__ import annotations

from functools import cache, partial

from ..kernels.control import ROWS
from ..kernels.step import row_stride
from .launch import Context, Launch, lower, upper
from .runtime import cuda


@cuda.jit(device=True)
def wins(new, old):
    """Whether a number takes the place of one before it: it is larger, or the first NaN."""
    return new > old or (new != new and old == old)


@cache
def largest(T):
    """The largest number of each window, and which tap it was."""

    @cuda.jit
    def run(ctl, geo, par, x, y, where):
        height, width, out_height, out_width, kh, kw, step_y, step_x, above, left, channels, x_row, y_row, noted = geo
        j0, image0 = cuda.grid(2)
        across, down = cuda.gridsize(2)
        for image in range(image0, ctl[ROWS], down):
            for j in range(j0, out_height * out_width * channels, across):
                pixel, c = j // channels, j % channels
                h, w = pixel // out_width * step_y - above, pixel % out_width * step_x - left
                h0, w0 = max(0, -h), max(0, -w)
                best, tap = x[image * x_row + ((h + h0) * width + w + w0) * channels + c], h0 * kw + w0
                for a in range(h0, min(kh, height - h)):
                    for b in range(w0, min(kw, width - w)):
                        new = x[image * x_row + ((h + a) * width + w + b) * channels + c]
                        if wins(new, best):
                            best, tap = new, a * kw + b
                y[image * y_row + j] = best
                if noted:
                    where[image * y_row + j] = T(tap)

    return run


@cache
def largest_gradient(T):
    """Each dy goes to the number its window took."""

    @cuda.jit
    def run(ctl, geo, par, where, dy, dx):
        height, width, out_height, out_width, kh, kw, step_y, step_x, above, left, channels, x_row, y_row, _ = geo
        j0, image0 = cuda.grid(2)
        across, down = cuda.gridsize(2)
        for image in range(image0, ctl[ROWS], down):
            for j in range(j0, height * width * channels, across):
                pixel, c, total = j // channels, j % channels, T(0)
                h, w = pixel // width + above, pixel % width + left
                for o in range(max(0, (h - kh) // step_y + 1), min(out_height, h // step_y + 1)):
                    for q in range(max(0, (w - kw) // step_x + 1), min(out_width, w // step_x + 1)):
                        spot = image * y_row + (o * out_width + q) * channels + c
                        if where[spot] == T((h - o * step_y) * kw + w - q * step_x):
                            total += dy[spot]
                dx[image * x_row + j] = total

    return run


@cache
def average(T):
    """The mean of each window's pixels within the image; 0 for a window of padding alone."""

    @cuda.jit
    def run(ctl, geo, par, x, y):
        height, width, out_height, out_width, kh, kw, step_y, step_x, above, left, channels, x_row, y_row, _ = geo
        j0, image0 = cuda.grid(2)
        across, down = cuda.gridsize(2)
        for image in range(image0, ctl[ROWS], down):
            for j in range(j0, out_height * out_width * channels, across):
                pixel, c, total, count = j // channels, j % channels, T(0), 0
                h, w = pixel // out_width * step_y - above, pixel % out_width * step_x - left
                for a in range(max(0, -h), min(kh, height - h)):
                    for b in range(max(0, -w), min(kw, width - w)):
                        total += x[image * x_row + ((h + a) * width + w + b) * channels + c]
                        count += 1
                y[image * y_row + j] = total / T(max(1, count))

    return run


@cache
def average_gradient(T):
    """dx = the sum of dy / count over the windows that take a pixel."""

    @cuda.jit
    def run(ctl, geo, par, dy, dx):
        height, width, out_height, out_width, kh, kw, step_y, step_x, above, left, channels, x_row, y_row, _ = geo
        j0, image0 = cuda.grid(2)
        across, down = cuda.gridsize(2)
        for image in range(image0, ctl[ROWS], down):
            for j in range(j0, height * width * channels, across):
                pixel, c, total = j // channels, j % channels, T(0)
                h, w = pixel // width + above, pixel % width + left
                for o in range(max(0, (h - kh + step_y) // step_y), min(out_height, h // step_y + 1)):
                    y = o * step_y - above
                    tall = min(kh, height - y) - max(0, -y)
                    for q in range(max(0, (w - kw + step_x) // step_x), min(out_width, w // step_x + 1)):
                        z = q * step_x - left
                        wide = min(kw, width - z) - max(0, -z)
                        factor = T(1) / T(tall * wide)
                        total += dy[image * y_row + (o * out_width + q) * channels + c] * factor
                dx[image * x_row + j] = total

    return run


@cache
def image_mean(T):
    """y = the mean of each channel of an image."""

    @cuda.jit
    def run(ctl, geo, par, x, y):
        pixels, width, x_row, y_row = geo
        c0, image0 = cuda.grid(2)
        across, down = cuda.gridsize(2)
        for image in range(image0, ctl[ROWS], down):
            for c in range(c0, width, across):
                total = T(0)
                for p in range(pixels):
                    total += x[image * x_row + p * width + c]
                y[image * y_row + c] = total / T(pixels)

    return run


@cache
def image_mean_gradient(T):
    """dx = dy / P."""

    @cuda.jit
    def run(ctl, geo, par, dy, dx):
        pixels, width, x_row, y_row = geo
        j0, image0 = cuda.grid(2)
        across, down = cuda.gridsize(2)
        share = T(1) / T(pixels)
        for image in range(image0, ctl[ROWS], down):
            for j in range(j0, pixels * width, across):
                dx[image * x_row + j] = dy[image * y_row + j % width] * share

    return run


@cache
def image_largest(T):
    """The largest number of each channel of an image, and the pixel it is in."""

    @cuda.jit
    def run(ctl, geo, par, x, y, where):
        pixels, width, x_row, y_row = geo
        c0, image0 = cuda.grid(2)
        across, down = cuda.gridsize(2)
        for image in range(image0, ctl[ROWS], down):
            for c in range(c0, width, across):
                best, pixel = x[image * x_row + c], 0
                for p in range(1, pixels):
                    new = x[image * x_row + p * width + c]
                    if wins(new, best):
                        best, pixel = new, p
                y[image * y_row + c], where[image * y_row + c] = best, T(pixel)

    return run


@cache
def image_largest_gradient(T):
    """dx = dy at one pixel of each channel."""

    @cuda.jit
    def run(ctl, geo, par, where, dy, dx):
        pixels, width, x_row, y_row = geo
        j0, image0 = cuda.grid(2)
        across, down = cuda.gridsize(2)
        for image in range(image0, ctl[ROWS], down):
            for j in range(j0, pixels * width, across):
                spot = image * y_row + j % width
                dx[image * x_row + j] = dy[spot] if where[spot] == T(j // width) else T(0)

    return run


def _geometry(words, channels: int, noted: int = 0) -> tuple[tuple[int, ...], int, int]:
    """The words of a kernel, and how many numbers an image has before and after."""
    size, out, taps, steps, padding = (half for word in words for half in ((upper(word), lower(word)),))
    before, after = size[0] * size[1] * channels, out[0] * out[1] * channels
    geo = (*size, *out, *taps, *steps, *padding, channels, row_stride(before), row_stride(after), noted)
    return geo, before, after


def _largest(c: Context, op: tuple) -> list[Launch]:
    x, y, where, *words, channels, _ = op  # padding that counts as zeros is a shortcut of the CPU
    geo, _, after = _geometry(words, channels, int(not isinstance(where, int)))
    return [c.plane(largest(c.T), after, geo, (), *c.arrays(x, y, where))]


def _largest_gradient(c: Context, op: tuple) -> list[Launch]:
    where, dy, dx, *words, channels = op
    geo, before, _ = _geometry(words, channels)
    return [c.plane(largest_gradient(c.T), before, geo, (), *c.arrays(where, dy, dx))]


def _average(c: Context, op: tuple) -> list[Launch]:
    x, y, *words, channels = op
    geo, _, after = _geometry(words, channels)
    return [c.plane(average(c.T), after, geo, (), *c.arrays(x, y))]


def _average_gradient(c: Context, op: tuple) -> list[Launch]:
    dy, dx, *words, channels = op
    geo, before, _ = _geometry(words, channels)
    return [c.plane(average_gradient(c.T), before, geo, (), *c.arrays(dy, dx))]


def _whole(make, spread: bool, c: Context, op: tuple) -> list[Launch]:
    *arrays, pixels, width = op
    geo = (pixels, width, row_stride(pixels * width), row_stride(width))
    return [c.plane(make(c.T), pixels * width if spread else width, geo, (), *c.arrays(*arrays))]


LAUNCHERS = {
    "pool.largest": _largest,
    "pool.largest_gradient": _largest_gradient,
    "pool.image_mean": partial(_whole, image_mean, False),
    "pool.image_mean_gradient": partial(_whole, image_mean_gradient, True),
    "pool.image_largest": partial(_whole, image_largest, False),
    "pool.image_largest_gradient": partial(_whole, image_largest_gradient, True),
    "average_pool.forward": _average,
    "average_pool.input_gradient": _average_gradient,
}
