"""Pooling of images (rows, H, W, C): the largest number of each window, and means and maxima of whole images.

Stage: kernels. The geometry words are those of `conv.py`. Must not know: layers.
"""

from __future__ import annotations

import math

from .control import ROWS
from .declare import device, kernel
from .intrinsics import at, like
from .share import TILE_ROWS, cut, pixels_of, stride_of
from .step import high, low

upper, lower = device(high), device(low)


@kernel
def largest(op, ctl, mem, part, parts):
    """x (rows, H, W, C) -> y (rows, Ho, Wo, C): the largest number of each window, NaN if there is one.

    op: x, y, where (0, or like y: which tap it was), (H, W), (Ho, Wo), taps, steps, padding, C.   Owner: pixels of y.
    The first of equal numbers counts, as in TensorFlow and PyTorch.
    """
    height, width, out_height, out_width = upper(op[3]), lower(op[3]), upper(op[4]), lower(op[4])
    kh, kw, channels = upper(op[5]), lower(op[5]), op[8]
    pixels = out_height * out_width
    x_row, y_row = stride_of(height * width * channels), stride_of(pixels * channels)
    first, last = pixels_of(ctl[ROWS], pixels, channels, part, parts)
    for m in range(first, last):
        image, p = m // pixels, m % pixels
        h, w = p // out_width * upper(op[6]) - upper(op[7]), p % out_width * lower(op[6]) - lower(op[7])
        spot = image * y_row + p * channels
        y = at(mem, op[1] + spot)
        for c in range(channels):
            y[c] = like(mem, -math.inf)
        for a in range(max(0, -h), min(kh, height - h)):
            for b in range(max(0, -w), min(kw, width - w)):
                x, tap = at(mem, op[0] + image * x_row + ((h + a) * width + w + b) * channels), like(mem, a * kw + b)
                if op[2]:
                    where = at(mem, op[2] + spot)
                    for c in range(channels):
                        new = not x[c] <= y[c] and y[c] == y[c]
                        where[c] = tap if new else where[c]
                        y[c] = x[c] if new else y[c]
                else:
                    for c in range(channels):
                        y[c] = x[c] if not x[c] <= y[c] and y[c] == y[c] else y[c]


@kernel
def largest_gradient(op, ctl, mem, part, parts):
    """where, dy (rows, Ho, Wo, C) -> dx (rows, H, W, C): each dy goes to the number its window took.

    op: where, dy, dx, (H, W), (Ho, Wo), taps, steps, padding, C.   Owner: pixels of dx; windows in rising order.
    """
    height, width, out_height, out_width = upper(op[3]), lower(op[3]), upper(op[4]), lower(op[4])
    kh, kw, step_y, step_x, channels = upper(op[5]), lower(op[5]), upper(op[6]), lower(op[6]), op[8]
    pixels = height * width
    x_row, y_row = stride_of(pixels * channels), stride_of(out_height * out_width * channels)
    first, last = pixels_of(ctl[ROWS], pixels, channels, part, parts)
    for m in range(first, last):
        image, p = m // pixels, m % pixels
        h, w = p // width + upper(op[7]), p % width + lower(op[7])
        dx = at(mem, op[2] + image * x_row + p * channels)
        for c in range(channels):
            dx[c] = like(mem, 0)
        for i in range(max(0, (h - kh) // step_y + 1), min(out_height, h // step_y + 1)):
            for j in range(max(0, (w - kw) // step_x + 1), min(out_width, w // step_x + 1)):
                spot = image * y_row + (i * out_width + j) * channels
                where, dy = at(mem, op[0] + spot), at(mem, op[1] + spot)
                tap = like(mem, (h - i * step_y) * kw + w - j * step_x)
                for c in range(channels):
                    dx[c] += dy[c] if where[c] == tap else like(mem, 0)


@kernel
def image_mean(op, ctl, mem, part, parts):
    """x (rows, P, C) -> y (rows, C) = the mean of each channel.   op: x, y, P, C.   Owner: rows."""
    pixels, width = op[2], op[3]
    first, last = cut(ctl[ROWS], TILE_ROWS, part, parts)
    for i in range(first, last):
        x, y = at(mem, op[0] + i * stride_of(pixels * width)), at(mem, op[1] + i * stride_of(width))
        for c in range(width):
            y[c] = like(mem, 0)
        for p in range(pixels):
            row = at(x, p * width)
            for c in range(width):
                y[c] += row[c]
        for c in range(width):
            y[c] /= like(mem, pixels)


@kernel
def image_mean_gradient(op, ctl, mem, part, parts):
    """dy (rows, C) -> dx (rows, P, C) = dy / P.   op: dy, dx, P, C.   Owner: pixels of dx."""
    pixels, width = op[2], op[3]
    row, share = stride_of(pixels * width), like(mem, 1) / like(mem, pixels)
    first, last = pixels_of(ctl[ROWS], pixels, width, part, parts)
    for m in range(first, last):
        dy, dx = at(mem, op[0] + m // pixels * stride_of(width)), at(mem, op[1] + m // pixels * row + m % pixels * width)
        for c in range(width):
            dx[c] = dy[c] * share


@kernel
def image_largest(op, ctl, mem, part, parts):
    """x (rows, P, C) -> y (rows, C), the largest of each channel, and where (rows, C), the pixel it is in.

    op: x, y, where, P, C.   Owner: rows.
    """
    pixels, width = op[3], op[4]
    first, last = cut(ctl[ROWS], TILE_ROWS, part, parts)
    for i in range(first, last):
        x, spot = at(mem, op[0] + i * stride_of(pixels * width)), i * stride_of(width)
        y, where = at(mem, op[1] + spot), at(mem, op[2] + spot)
        for c in range(width):
            y[c], where[c] = x[c], like(mem, 0)
        for p in range(1, pixels):
            row, pixel = at(x, p * width), like(mem, p)
            for c in range(width):
                new = not row[c] <= y[c] and y[c] == y[c]
                where[c] = pixel if new else where[c]
                y[c] = row[c] if new else y[c]


@kernel
def image_largest_gradient(op, ctl, mem, part, parts):
    """where, dy (rows, C) -> dx (rows, P, C), dy at one pixel a channel.   op: where, dy, dx, P, C.   Owner: pixels."""
    pixels, width = op[3], op[4]
    row = stride_of(pixels * width)
    first, last = pixels_of(ctl[ROWS], pixels, width, part, parts)
    for m in range(first, last):
        image, pixel, spot = m // pixels, like(mem, m % pixels), m // pixels * stride_of(width)
        where, dy = at(mem, op[0] + spot), at(mem, op[1] + spot)
        dx = at(mem, op[2] + image * row + m % pixels * width)
        for c in range(width):
            dx[c] = dy[c] if where[c] == pixel else like(mem, 0)
