"""Pooling of images (rows, H, W, C): the largest number of each window, and means and maxima of whole images.

Stage: kernels. The geometry words are those of `conv.py`. Must not know: layers.
"""

from __future__ import annotations

from .control import ROWS
from .declare import device, kernel
from .intrinsics import at, like
from .share import TILE_ROWS, cut, pixels_of, stride_of
from .step import high, low

upper, lower = device(high), device(low)


@device
def wins(new, old):
    """Whether a number takes the place of one before it: it is larger, or the first NaN."""
    return (new > old) | ((new != new) & (old == old))


@kernel
def largest(op, ctl, mem, part, parts):
    """x (rows, H, W, C) -> y (rows, Ho, Wo, C): the largest number of each window, NaN if there is one.

    op: x, y, where (0, or like y: which tap it was), (H, W), (Ho, Wo), taps, steps, padding, C, whether the padding counts
    as zeros (else it never wins; then no `where`).   Owner: pixels of y.
    The first of equal numbers counts, as in TensorFlow and PyTorch.
    """
    height, width, out_height, out_width = upper(op[3]), lower(op[3]), upper(op[4]), lower(op[4])
    kh, kw, channels = upper(op[5]), lower(op[5]), op[8]
    pixels = out_height * out_width
    x_row, y_row = stride_of(height * width * channels), stride_of(pixels * channels)
    first, last = pixels_of(ctl[ROWS], pixels, channels, part, parts)
    image, i, j = first // pixels, first % pixels // out_width, first % pixels % out_width
    for _ in range(first, last):
        h, w = i * upper(op[6]) - upper(op[7]), j * lower(op[6]) - lower(op[7])
        spot, source = image * y_row + (i * out_width + j) * channels, op[0] + image * x_row
        y, where = at(mem, op[1] + spot), at(mem, op[2] + spot)
        h0, w0 = max(0, -h), max(0, -w)
        start, tap = at(mem, source + ((h + h0) * width + w + w0) * channels), like(mem, h0 * kw + w0)
        for c in range(channels):
            y[c] = start[c]
        if op[2]:
            for c in range(channels):
                where[c] = tap
        for a in range(h0, min(kh, height - h)):
            for b in range(w0, min(kw, width - w)):
                x, tap = at(mem, source + ((h + a) * width + w + b) * channels), like(mem, a * kw + b)
                if op[2]:
                    for c in range(channels):
                        new, old, was = x[c], y[c], where[c]  # loads within a choice would be branches
                        where[c] = tap if wins(new, old) else was
                        y[c] = new if wins(new, old) else old
                else:
                    for c in range(channels):
                        new, old = x[c], y[c]
                        y[c] = new if wins(new, old) else old
        if op[9] and (min(h, w) < 0 or h + kh > height or w + kw > width):
            for c in range(channels):
                old = y[c]
                y[c] = like(mem, 0) if wins(like(mem, 0), old) else old
        j += 1
        if j == out_width:
            i, j = i + 1, 0
        if i == out_height:
            image, i = image + 1, 0


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
    image, y, z = first // pixels, first % pixels // width, first % pixels % width
    for _ in range(first, last):
        h, w = y + upper(op[7]), z + lower(op[7])
        dx, fresh = at(mem, op[2] + image * x_row + (y * width + z) * channels), True
        i, i1 = max(0, (h - kh) // step_y + 1), min(out_height, h // step_y + 1)
        while i < i1:
            j, j1 = max(0, (w - kw) // step_x + 1), min(out_width, w // step_x + 1)
            while j < j1:
                spot = image * y_row + (i * out_width + j) * channels
                where, dy = at(mem, op[0] + spot), at(mem, op[1] + spot)
                tap = like(mem, (h - i * step_y) * kw + w - j * step_x)
                if fresh:
                    for c in range(channels):
                        given = dy[c]
                        dx[c] = given if where[c] == tap else like(mem, 0)
                else:
                    for c in range(channels):
                        given = dy[c]
                        dx[c] += given if where[c] == tap else like(mem, 0)
                fresh = False
                j += 1
            i += 1
        if fresh:
            for c in range(channels):
                dx[c] = like(mem, 0)
        z += 1
        if z == width:
            y, z = y + 1, 0
        if y == height:
            image, y = image + 1, 0


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
                new, old, was = row[c], y[c], where[c]
                where[c] = pixel if wins(new, old) else was
                y[c] = new if wins(new, old) else old


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
            given = dy[c]
            dx[c] = given if where[c] == pixel else like(mem, 0)
