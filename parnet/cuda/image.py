"""Images moved as they are: padded, cropped, turned, enlarged; as `parnet/kernels/image.py` and `upsample.py`. Stage: cuda.

A thread makes a number of the output, or of the input's gradient.
"""

from __future__ import annotations

from functools import cache, partial

from ..kernels.control import ROWS
from ..kernels.step import row_stride
from .launch import Context, Launch, lower, upper
from .runtime import cuda


@cache
def shifted(T):
    """y[h, w] = x[h + down, w + right], 0 where that is outside."""

    @cuda.jit
    def run(ctl, geo, par, x, y):
        height, width, out_height, out_width, down_by, right_by, channels, x_row, y_row = geo
        j0, image0 = cuda.grid(2)
        across, down = cuda.gridsize(2)
        for image in range(image0, ctl[ROWS], down):
            for j in range(j0, out_height * out_width * channels, across):
                pixel, c = j // channels, j % channels
                h, w = pixel // out_width + down_by, pixel % out_width + right_by
                inside = h >= 0 and h < height and w >= 0 and w < width
                y[image * y_row + j] = x[image * x_row + (h * width + w) * channels + c] if inside else T(0)

    return run


@cache
def permuted(T):
    """y = x with its axes in another order."""

    @cuda.jit
    def run(ctl, geo, par, x, y):
        width, stride, nb, nc, nd, step_a, step_b, step_c, step_d = geo
        j0, image0 = cuda.grid(2)
        across, down = cuda.gridsize(2)
        for image in range(image0, ctl[ROWS], down):
            for j in range(j0, width, across):
                place = j // (nb * nc * nd) * step_a + j // (nc * nd) % nb * step_b + j // nd % nc * step_c + j % nd * step_d
                y[image * stride + j] = x[image * stride + place]

    return run


@cache
def nearest(T):
    """y = x, each pixel repeated."""

    @cuda.jit
    def run(ctl, geo, par, x, y):
        height, width, times_y, times_x, channels, x_row, y_row = geo
        j0, image0 = cuda.grid(2)
        across, down = cuda.gridsize(2)
        wide = width * times_x
        for image in range(image0, ctl[ROWS], down):
            for j in range(j0, height * times_y * wide * channels, across):
                pixel, c = j // channels, j % channels
                source = pixel // wide // times_y * width + pixel % wide // times_x
                y[image * y_row + j] = x[image * x_row + source * channels + c]

    return run


@cache
def nearest_gradient(T):
    """dx = the sum over a pixel's copies."""

    @cuda.jit
    def run(ctl, geo, par, dy, dx):
        height, width, times_y, times_x, channels, x_row, y_row = geo
        j0, image0 = cuda.grid(2)
        across, down = cuda.gridsize(2)
        wide = width * times_x
        for image in range(image0, ctl[ROWS], down):
            for j in range(j0, height * width * channels, across):
                pixel, c, total = j // channels, j % channels, T(0)
                for a in range(times_y):
                    line = (pixel // width * times_y + a) * wide + pixel % width * times_x
                    for b in range(times_x):
                        total += dy[image * y_row + (line + b) * channels + c]
                dx[image * x_row + j] = total

    return run


@cache
def beside(T):
    """(i, times, size) -> between which pixels output pixel i lies: the first, the second, how much the second counts."""

    @cuda.jit(device=True)
    def run(i, times, size):
        doubled = max(0, min(2 * i + 1 - times, 2 * times * (size - 1)))  # its place, times 2 `times`
        one = doubled // (2 * times)
        return one, min(one + 1, size - 1), T(doubled - one * 2 * times) / T(2 * times)

    return run


@cache
def bilinear(T):
    """y = the mean of the four pixels about each place, by how near they are."""
    between = beside(T)

    @cuda.jit
    def run(ctl, geo, par, x, y):
        height, width, times_y, times_x, channels, x_row, y_row = geo
        j0, image0 = cuda.grid(2)
        across, down = cuda.gridsize(2)
        wide, one = width * times_x, T(1)
        for image in range(image0, ctl[ROWS], down):
            first = image * x_row
            for j in range(j0, height * times_y * wide * channels, across):
                pixel, c = j // channels, j % channels
                h0, h1, v = between(pixel // wide, times_y, height)
                w0, w1, u = between(pixel % wide, times_x, width)
                top = (one - u) * x[first + (h0 * width + w0) * channels + c]
                top += u * x[first + (h0 * width + w1) * channels + c]
                low = (one - u) * x[first + (h1 * width + w0) * channels + c]
                low += u * x[first + (h1 * width + w1) * channels + c]
                y[image * y_row + j] = (one - v) * top + v * low

    return run


@cache
def bilinear_gradient(T):
    """dx = the sum over the output pixels that a pixel counts in, by how much."""
    between = beside(T)

    @cuda.jit(device=True)
    def share_of(i, times, size, place):
        first, second, u = between(i, times, size)
        mine = T(1) - u if first == place else T(0)
        return mine + u if second == place else mine

    @cuda.jit
    def run(ctl, geo, par, dy, dx):
        height, width, times_y, times_x, channels, x_row, y_row = geo
        j0, image0 = cuda.grid(2)
        across, down = cuda.gridsize(2)
        high, wide = height * times_y, width * times_x
        for image in range(image0, ctl[ROWS], down):
            for j in range(j0, height * width * channels, across):
                pixel, c, total = j // channels, j % channels, T(0)
                h, w = pixel // width, pixel % width
                for o in range(max(0, (h - 1) * times_y), min(high, (h + 2) * times_y)):
                    v = share_of(o, times_y, height, h)
                    for q in range(max(0, (w - 1) * times_x), min(wide, (w + 2) * times_x)):
                        factor = v * share_of(q, times_x, width, w)
                        total += factor * dy[image * y_row + (o * wide + q) * channels + c]
                dx[image * x_row + j] = total

    return run


def _moved(sign: int, c: Context, op: tuple) -> list[Launch]:
    x, y, size, out, by, channels = op
    before, after = upper(size) * lower(size) * channels, upper(out) * lower(out) * channels
    geo = (upper(size), lower(size), upper(out), lower(out), sign * upper(by), sign * lower(by), channels)
    return [c.plane(shifted(c.T), after, (*geo, row_stride(before), row_stride(after)), (), *c.arrays(x, y))]


def _permuted(c: Context, op: tuple) -> list[Launch]:
    x, y, *sizes = op
    width = sizes[0] * sizes[1] * sizes[2] * sizes[3]
    return [c.plane(permuted(c.T), width, (width, row_stride(width), *sizes[1:]), (), *c.arrays(x, y))]


def _enlarged(make, back: bool, c: Context, op: tuple) -> list[Launch]:
    x, y, size, times, channels = op
    before = upper(size) * lower(size) * channels
    after = before * upper(times) * lower(times)
    geo = (upper(size), lower(size), upper(times), lower(times), channels, row_stride(before), row_stride(after))
    return [c.plane(make(c.T), before if back else after, geo, (), *c.arrays(x, y))]


LAUNCHERS = {
    "image.pad": partial(_moved, -1),
    "image.crop": partial(_moved, 1),
    "image.permute": _permuted,
    "upsample.nearest": partial(_enlarged, nearest, False),
    "upsample.nearest_gradient": partial(_enlarged, nearest_gradient, True),
    "upsample.bilinear": partial(_enlarged, bilinear, False),
    "upsample.bilinear_gradient": partial(_enlarged, bilinear_gradient, True),
}
