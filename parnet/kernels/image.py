"""Images moved as they are: padded, cropped, their axes in another order. Stage: kernels. Must not know: layers."""

from __future__ import annotations

from .control import ROWS
from .declare import device, kernel
from .intrinsics import at, like
from .share import TILE_ROWS, cut, pixels_of, stride_of
from .step import high, low

upper, lower = device(high), device(low)


@device
def line_of(m, last, out_width, pixels):
    """The run of output pixels from m that lie in one line: image, line, first column, last column + 1."""
    p = m % pixels
    q = p % out_width
    return m // pixels, p // out_width, q, min(out_width, q + last - m)


@device
def clear(y, first, last):
    """y[first:last] = 0."""
    for j in range(first, last):
        y[j] = like(y, 0)


@kernel
def pad(op, ctl, mem, part, parts):
    """x (rows, H, W, C) -> y (rows, Hy, Wy, C) written, zeros where x is not.

    op: x, y, (H, W), (Hy, Wy), pixels (above, left), C.   Owner: pixels of y.
    """
    height, width, out_height, out_width, channels = upper(op[2]), lower(op[2]), upper(op[3]), lower(op[3]), op[5]
    above, left, pixels = upper(op[4]), lower(op[4]), out_height * out_width
    x_row, y_row = stride_of(height * width * channels), stride_of(pixels * channels)
    m, last = pixels_of(ctl[ROWS], pixels, channels, part, parts)
    while m < last:
        image, o, q, end = line_of(m, last, out_width, pixels)
        h, a, b = o - above, end, end
        if 0 <= h < height:
            a, b = min(end, max(q, left)), min(end, max(q, left + width))
        x = at(mem, op[0] + image * x_row + (h * width - left) * channels)
        y = at(mem, op[1] + image * y_row + o * out_width * channels)
        clear(y, q * channels, a * channels)
        for j in range(a * channels, b * channels):
            y[j] = x[j]
        clear(y, b * channels, end * channels)
        m += end - q


@kernel
def crop(op, ctl, mem, part, parts):
    """x (rows, H, W, C) -> y (rows, Hy, Wy, C) written, the part of x that starts some pixels down and right.

    op: x, y, (H, W), (Hy, Wy), pixels (down, right), C.   Owner: pixels of y.
    """
    height, width, out_height, out_width, channels = upper(op[2]), lower(op[2]), upper(op[3]), lower(op[3]), op[5]
    pixels = out_height * out_width
    x_row, y_row = stride_of(height * width * channels), stride_of(pixels * channels)
    m, last = pixels_of(ctl[ROWS], pixels, channels, part, parts)
    while m < last:
        image, o, q, end = line_of(m, last, out_width, pixels)
        x = at(mem, op[0] + image * x_row + ((o + upper(op[4])) * width + lower(op[4])) * channels)
        y = at(mem, op[1] + image * y_row + o * out_width * channels)
        for j in range(q * channels, end * channels):
            y[j] = x[j]
        m += end - q


@kernel
def permute(op, ctl, mem, part, parts):
    """x (rows, ...) -> y (rows, A, B, C, D) written, the axes of x in another order.

    op: x, y, A, B, C, D, numbers from one to the next along each of these axes in x.   Owner: rows.
    """
    row = stride_of(op[2] * op[3] * op[4] * op[5])
    first, last = cut(ctl[ROWS], TILE_ROWS, part, parts)
    for i in range(first, last):
        x, place = at(mem, op[0] + i * row), op[1] + i * row
        for a in range(op[2]):
            for b in range(op[3]):
                for c in range(op[4]):
                    line, y = at(x, a * op[6] + b * op[7] + c * op[8]), at(mem, place)
                    for d in range(op[5]):
                        y[d] = line[d * op[9]]
                    place += op[5]
