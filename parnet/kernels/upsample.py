"""Images enlarged by whole numbers, and the gradients of that. Stage: kernels.

Bilinear: output pixel i lies at (i + 1/2) / size - 1/2 of the input, cut to the input's pixels; the pixels beside it count
by how near they are. Must not know: layers.
"""

from __future__ import annotations

from .control import ROWS
from .declare import device, kernel
from .intrinsics import at, like
from .share import pixels_of, stride_of
from .step import high, low

upper, lower = device(high), device(low)


@kernel
def nearest(op, ctl, mem, part, parts):
    """x (rows, H, W, C) -> y (rows, H sy, W sx, C) written, each pixel repeated.

    op: x, y, (H, W), (sy, sx), C.   Owner: pixels of y.
    """
    height, width, times_y, times_x, channels = upper(op[2]), lower(op[2]), upper(op[3]), lower(op[3]), op[4]
    wide, pixels = width * times_x, height * width * times_y * times_x
    x_row, y_row = stride_of(height * width * channels), stride_of(pixels * channels)
    first, last = pixels_of(ctl[ROWS], pixels, channels, part, parts)
    for m in range(first, last):
        image, p = m // pixels, m % pixels
        source = p // wide // times_y * width + p % wide // times_x
        x, y = at(mem, op[0] + image * x_row + source * channels), at(mem, op[1] + image * y_row + p * channels)
        for c in range(channels):
            y[c] = x[c]


@kernel
def nearest_gradient(op, ctl, mem, part, parts):
    """dy (rows, H sy, W sx, C) -> dx (rows, H, W, C) written: the sum over a pixel's copies.

    op: dy, dx, (H, W), (sy, sx), C.   Owner: pixels of dx.
    """
    height, width, times_y, times_x, channels = upper(op[2]), lower(op[2]), upper(op[3]), lower(op[3]), op[4]
    wide, pixels = width * times_x, height * width
    dx_row, dy_row = stride_of(pixels * channels), stride_of(pixels * times_y * times_x * channels)
    first, last = pixels_of(ctl[ROWS], pixels, channels, part, parts)
    for m in range(first, last):
        image, p = m // pixels, m % pixels
        dx = at(mem, op[1] + image * dx_row + p * channels)
        for c in range(channels):
            dx[c] = like(mem, 0)
        for a in range(times_y):
            line = (p // width * times_y + a) * wide + p % width * times_x
            for b in range(times_x):
                dy = at(mem, op[0] + image * dy_row + (line + b) * channels)
                for c in range(channels):
                    dx[c] += dy[c]


@device
def beside(mem, i, times, size):
    """Between which pixels output pixel i lies: the first, the second, and how much the second counts."""
    doubled = max(0, min(2 * i + 1 - times, 2 * times * (size - 1)))  # its place, times 2 `times`
    one = doubled // (2 * times)
    return one, min(one + 1, size - 1), like(mem, doubled - one * 2 * times) / like(mem, 2 * times)


@kernel
def bilinear(op, ctl, mem, part, parts):
    """x (rows, H, W, C) -> y (rows, H sy, W sx, C) written.   op: x, y, (H, W), (sy, sx), C.   Owner: pixels of y."""
    height, width, times_y, times_x, channels = upper(op[2]), lower(op[2]), upper(op[3]), lower(op[3]), op[4]
    wide, pixels, one = width * times_x, height * width * times_y * times_x, like(mem, 1)
    x_row, y_row = stride_of(height * width * channels), stride_of(pixels * channels)
    first, last = pixels_of(ctl[ROWS], pixels, channels, part, parts)
    for m in range(first, last):
        image, p = m // pixels, m % pixels
        (h0, h1, v), (w0, w1, u) = beside(mem, p // wide, times_y, height), beside(mem, p % wide, times_x, width)
        x, y = at(mem, op[0] + image * x_row), at(mem, op[1] + image * y_row + p * channels)
        x00, x01 = at(x, (h0 * width + w0) * channels), at(x, (h0 * width + w1) * channels)
        x10, x11 = at(x, (h1 * width + w0) * channels), at(x, (h1 * width + w1) * channels)
        for c in range(channels):
            y[c] = (one - v) * ((one - u) * x00[c] + u * x01[c]) + v * ((one - u) * x10[c] + u * x11[c])


@device
def share_of(mem, i, times, size, place):
    """How much input pixel `place` counts in output pixel i."""
    first, second, u = beside(mem, i, times, size)
    mine = like(mem, 1) - u if first == place else like(mem, 0)
    return mine + u if second == place else mine


@kernel
def bilinear_gradient(op, ctl, mem, part, parts):
    """dy (rows, H sy, W sx, C) -> dx (rows, H, W, C) written.   op: dy, dx, (H, W), (sy, sx), C.   Owner: pixels of dx."""
    height, width, times_y, times_x, channels = upper(op[2]), lower(op[2]), upper(op[3]), lower(op[3]), op[4]
    high, wide, pixels = height * times_y, width * times_x, height * width
    dx_row, dy_row = stride_of(pixels * channels), stride_of(high * wide * channels)
    first, last = pixels_of(ctl[ROWS], pixels, channels, part, parts)
    for m in range(first, last):
        image, h, w = m // pixels, m % pixels // width, m % pixels % width
        dx = at(mem, op[1] + image * dx_row + m % pixels * channels)
        for c in range(channels):
            dx[c] = like(mem, 0)
        for i in range(max(0, (h - 1) * times_y), min(high, (h + 2) * times_y)):
            v = share_of(mem, i, times_y, height, h)
            if v != like(mem, 0):
                for j in range(max(0, (w - 1) * times_x), min(wide, (w + 2) * times_x)):
                    factor = v * share_of(mem, j, times_x, width, w)
                    dy = at(mem, op[0] + image * dy_row + (i * wide + j) * channels)
                    for c in range(channels):
                        dx[c] += factor * dy[c]
