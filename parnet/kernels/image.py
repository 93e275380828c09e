"""Images moved as they are: padded, cropped, enlarged. Stage: kernels. Must not know: layers."""

from __future__ import annotations

from .control import ROWS
from .declare import device, kernel
from .intrinsics import at, like
from .share import pixels_of, stride_of
from .step import high, low

upper, lower = device(high), device(low)


@kernel
def pad(op, ctl, mem, part, parts):
    """x (rows, H, W, C) -> y (rows, Hy, Wy, C) written, zeros where x is not.

    op: x, y, (H, W), (Hy, Wy), pixels (above, left), C.   Owner: pixels of y.
    """
    height, width, out_height, out_width, channels = upper(op[2]), lower(op[2]), upper(op[3]), lower(op[3]), op[5]
    pixels = out_height * out_width
    x_row, y_row = stride_of(height * width * channels), stride_of(pixels * channels)
    first, last = pixels_of(ctl[ROWS], pixels, channels, part, parts)
    for m in range(first, last):
        image, p = m // pixels, m % pixels
        h, w = p // out_width - upper(op[4]), p % out_width - lower(op[4])
        y = at(mem, op[1] + image * y_row + p * channels)
        if 0 <= h < height and 0 <= w < width:
            x = at(mem, op[0] + image * x_row + (h * width + w) * channels)
            for c in range(channels):
                y[c] = x[c]
        else:
            for c in range(channels):
                y[c] = like(mem, 0)


@kernel
def crop(op, ctl, mem, part, parts):
    """x (rows, H, W, C) -> y (rows, Hy, Wy, C) written, the part of x that starts some pixels down and right.

    op: x, y, (H, W), (Hy, Wy), pixels (down, right), C.   Owner: pixels of y.
    """
    height, width, out_height, out_width, channels = upper(op[2]), lower(op[2]), upper(op[3]), lower(op[3]), op[5]
    pixels = out_height * out_width
    x_row, y_row = stride_of(height * width * channels), stride_of(pixels * channels)
    first, last = pixels_of(ctl[ROWS], pixels, channels, part, parts)
    for m in range(first, last):
        image, p = m // pixels, m % pixels
        h, w = p // out_width + upper(op[4]), p % out_width + lower(op[4])
        x, y = at(mem, op[0] + image * x_row + (h * width + w) * channels), at(mem, op[1] + image * y_row + p * channels)
        for c in range(channels):
            y[c] = x[c]
