"""Means over windows of images (rows, H, W, C). Stage: kernels.

A mean counts the pixels that the window has inside of the image. Geometry words, each a `pair`: input height and width;
output height and width; taps; steps of windows; padding above and left. Must not know: layers.
"""

from __future__ import annotations

from .control import ROWS
from .declare import device, kernel
from .intrinsics import at, like
from .share import pixels_of, stride_of
from .step import high, low

upper, lower = device(high), device(low)


@device
def inside(place, taps, size):
    """The taps of a window that starts at `place` which lie in an image of that size: (first, last)."""
    return max(0, -place), max(max(0, -place), min(taps, size - place))


@device
def reaching(place, taps, step, windows):
    """The windows that take the pixel at `place`, padding counted: (first, last)."""
    return max(0, (place - taps + step) // step), min(windows, place // step + 1)


@kernel
def forward(op, ctl, mem, part, parts):
    """x (rows, H, W, C) -> y (rows, Ho, Wo, C) written, 0 for a window of padding alone.

    op: x, y, geometry (5 words), C.   Owner: pixels of y.
    """
    height, width, out_height, out_width = upper(op[2]), lower(op[2]), upper(op[3]), lower(op[3])
    channels, pixels = op[7], out_height * out_width
    x_row, y_row = stride_of(height * width * channels), stride_of(pixels * channels)
    first, last = pixels_of(ctl[ROWS], pixels, channels, part, parts)
    for m in range(first, last):
        image, p = m // pixels, m % pixels
        h, w = p // out_width * upper(op[5]) - upper(op[6]), p % out_width * lower(op[5]) - lower(op[6])
        (a0, a1), (b0, b1) = inside(h, upper(op[4]), height), inside(w, lower(op[4]), width)
        n, y = b1 - b0, at(mem, op[1] + image * y_row + p * channels)
        factor = like(mem, 1) / like(mem, max(1, (a1 - a0) * n))
        for c in range(channels):
            y[c] = like(mem, 0)
        for a in range(a0, a1):
            x = at(mem, op[0] + image * x_row + ((h + a) * width + w + b0) * channels)
            b = 0
            while b + 2 <= n:  # by twos: half as many passes over y
                one, two = at(x, b * channels), at(x, (b + 1) * channels)
                for c in range(channels):
                    y[c] = y[c] + one[c] + two[c]
                b += 2
            if b < n:
                one = at(x, b * channels)
                for c in range(channels):
                    y[c] += one[c]
        for c in range(channels):
            y[c] *= factor


@kernel
def input_gradient(op, ctl, mem, part, parts):
    """dy (rows, Ho, Wo, C) -> dx (rows, H, W, C) written.

    op: dy, dx, geometry (5 words), C.   Owner: pixels of dx; windows in rising order.
    """
    height, width, out_height, out_width = upper(op[2]), lower(op[2]), upper(op[3]), lower(op[3])
    kh, kw, step_y, step_x, channels = upper(op[4]), lower(op[4]), upper(op[5]), lower(op[5]), op[7]
    pixels = height * width
    dx_row, dy_row = stride_of(pixels * channels), stride_of(out_height * out_width * channels)
    first, last = pixels_of(ctl[ROWS], pixels, channels, part, parts)
    for m in range(first, last):
        image, p = m // pixels, m % pixels
        dx = at(mem, op[1] + image * dx_row + p * channels)
        (o0, o1) = reaching(p // width + upper(op[6]), kh, step_y, out_height)
        (q0, q1) = reaching(p % width + lower(op[6]), kw, step_x, out_width)
        for c in range(channels):
            dx[c] = like(mem, 0)
        for o in range(o0, o1):
            a0, a1 = inside(o * step_y - upper(op[6]), kh, height)
            for q in range(q0, q1):
                b0, b1 = inside(q * step_x - lower(op[6]), kw, width)
                factor = like(mem, 1) / like(mem, (a1 - a0) * (b1 - b0))
                dy = at(mem, op[0] + image * dy_row + (o * out_width + q) * channels)
                for c in range(channels):
                    dx[c] += dy[c] * factor
