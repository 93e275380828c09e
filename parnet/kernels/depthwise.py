"""Depthwise convolution of images (rows, H, W, C): every channel has a window of its own. Stage: kernels.

    y[o, q, c] = b[c] + sum over (a, b) of x[o step + a dilation - above, q step + b dilation - left, c] w[(a, b), c]

Taps outside of the image are left out. Along a line of pixels most windows miss nothing: they are done as one run, in tiles
of `channel_tile.py`; the pixels at the ends of the line one by one. The input gradient is the same sum over the windows that
reach a pixel, with the pixels of a line taken by their place within a stride.

Weights (taps, C, multiplier) are packed before they are used, as `packed` (taps + 2, pitch): a row a tap, then the bias or
zeros, then zeros. pitch: C multiplier, in whole lines of a cache.

Six operand words describe the geometry, each a `pair`: input height and width; output height and width; taps; steps of taps;
steps of windows; padding above and left. Must not know: layers.
"""

from __future__ import annotations

import math

from .channel_tile import TILE_PIXELS, TILE_TAPS, make_products, make_taps
from .control import ROWS, SCRATCH
from .declare import device, kernel
from .intrinsics import at, int64_at, lanes, like, pointer_at
from .product import gradient_mode
from .share import columns, cut, pixels_of, stride_of
from .step import LINE, high, low
from .tile import ADD

taps_1, taps_2 = make_taps(1, True), make_taps(2, True)
products_1, products_2 = make_products(1, True), make_products(2, False)
upper, lower = device(high), device(low)
NO_FLOOR = -math.inf
#: pixels of a line that are done for all channels before the next: they stay in the nearest cache
BLOCK = 8


@device
def pitch_of(channels):
    """Numbers from one row of `packed` to the next."""
    return (channels + LINE - 1) // LINE * LINE


@kernel
def pack(op, ctl, mem, part, parts):
    """w (taps C, multiplier), bias (C multiplier,) -> packed (taps + 2, pitch) written.

    op: w, bias, packed, has bias, taps, C, multiplier.   Owner: columns of packed.
    """
    w, bias, taps, channels, times = at(mem, op[0]), at(mem, op[1]), op[4], op[5], op[6]
    width, row = channels * times, stride_of(times)
    first, last = columns(width, part, parts)
    for t in range(taps):
        packed = at(mem, op[2] + t * pitch_of(width))
        for j in range(first, last):
            packed[j] = w[(t * channels + j // times) * row + j % times]
    start, zeros = at(mem, op[2] + taps * pitch_of(width)), at(mem, op[2] + (taps + 1) * pitch_of(width))
    for j in range(first, last):
        start[j] = bias[j] if op[3] else like(mem, 0)
        zeros[j] = like(mem, 0)


@device
def span_of(size, step, offset, k0, k1):
    """The k of k0..k1 with 0 <= k step + offset < size: (first, last), k0 <= first <= last <= k1."""
    first = max(k0, (-offset + step - 1) // step)
    return min(first, k1), max(min(first, k1), min(k1, (size - 1 - offset) // step + 1))


@device
def run_of_pixels(taps, table, x, x_pixel, w, start, y, y_pixel, pixels, channels, floor):
    """The same taps for some neighbouring pixels, all channels, in blocks whose pixels stay in the nearest cache."""
    for first in range(0, pixels, BLOCK):
        last = min(pixels, first + BLOCK)
        for c in range(0, channels, 2 * lanes(x)):
            wide = min(2 * lanes(x), channels - c)
            for p in range(first, last, TILE_PIXELS):
                x_p, y_p, now = at(x, p * x_pixel + c), at(y, p * y_pixel + c), min(TILE_PIXELS, last - p)
                if wide > lanes(x):
                    taps_2(taps, table, x_p, x_pixel, at(w, c), y_p, y_pixel, now, wide - lanes(x), at(start, c), floor)
                else:
                    taps_1(taps, table, x_p, x_pixel, at(w, c), y_p, y_pixel, now, wide, at(start, c), floor)


@device
def line_of_pixels(over, down, across, right, table, size, step, kw, channels, x, w, start, y, y_step, k0, k1, floor):
    """Pixels k0..k1 of a line of y.

    down: int64, two words for each of `over` rows of taps: its number, and where its line of x starts.
    right: int64, two words for each of `across` columns of taps: its number, and which column of x it takes for k = 0;
    those of the next k lie `step` columns further.
    """
    pitch, inner0, inner1 = pitch_of(channels), k0, k1
    for j in range(across):
        first, last = span_of(size, step, right[2 * j + 1], k0, k1)
        inner0, inner1 = max(inner0, first), min(inner1, last)
    k = k0
    while k < k1:
        run, inside = 1, inner0 <= k and k < inner1
        if inside:
            run = inner1 - k
        taps = 0
        for i in range(over):
            for j in range(across):
                z = k * step + right[2 * j + 1]
                if 0 <= z < size:
                    table[2 * taps] = down[2 * i + 1] + z * channels
                    table[2 * taps + 1] = (down[2 * i] * kw + right[2 * j]) * pitch
                    taps += 1
        out = at(y, k * y_step)
        if taps:
            run_of_pixels(taps, table, x, step * channels, w, start, out, y_step, run, channels, floor)
        else:
            for p in range(run):
                for c in range(channels):
                    out[p * y_step + c] = floor if start[c] < floor else start[c]
        k += run


@kernel
def forward(op, ctl, mem, part, parts):
    """x (rows, H, W, C), packed -> y (rows, Ho, Wo, C) written; FLOPs 2 rows Ho Wo taps C.

    op: x, packed, y, geometry (6 words), C, relu.   Owner: pixels of y.
    """
    height, width, out_width = upper(op[3]), lower(op[3]), lower(op[4])
    kh, kw, channels, pixels = upper(op[5]), lower(op[5]), op[9], upper(op[4]) * out_width
    x_row, y_row = stride_of(height * width * channels), stride_of(pixels * channels)
    down = int64_at(ctl[SCRATCH])
    right, table = at(down, 2 * kh), at(down, 2 * kh + 2 * kw)
    w, start = at(mem, op[1]), at(mem, op[1] + kh * kw * pitch_of(channels))
    floor = like(mem, 0) if op[10] else like(mem, NO_FLOOR)
    for b in range(kw):
        right[2 * b], right[2 * b + 1] = b, b * lower(op[6]) - lower(op[8])
    m, last = pixels_of(ctl[ROWS], pixels, channels, part, parts)
    while m < last:
        image, o = m // pixels, m % pixels // out_width
        q = m % pixels - o * out_width
        end, over = min(out_width, q + last - m), 0
        for a in range(kh):
            h = o * upper(op[7]) + a * upper(op[6]) - upper(op[8])
            if 0 <= h < height:
                down[2 * over], down[2 * over + 1] = a, h * width * channels
                over += 1
        x, y = at(mem, op[0] + image * x_row), at(mem, op[2] + image * y_row + o * out_width * channels)
        line_of_pixels(
            over, down, kw, right, table, width, lower(op[7]), kw, channels, x, w, start, y, channels, q, end, floor
        )
        m += end - q


@device
def reaching(place, padding, step, dilation, taps, found):
    """The taps whose windows reach pixels at `place` of a stride: how many; their numbers, and how many windows further."""
    count = 0
    for a in range(taps):
        y = place + padding - a * dilation
        if y % step == 0:
            found[2 * count], found[2 * count + 1] = a, y // step
            count += 1
    return count


@kernel
def input_gradient(op, ctl, mem, part, parts):
    """packed, dy (rows, Ho, Wo, C) -> dx (rows, H, W, C) written; FLOPs as forward.

    op: dy, packed, dx, geometry (6 words), C.   Owner: pixels of dx.
    """
    width, out_height, out_width = lower(op[3]), upper(op[4]), lower(op[4])
    kh, kw, channels, pixels = upper(op[5]), lower(op[5]), op[9], upper(op[3]) * width
    step_y, step_x = upper(op[7]), lower(op[7])
    dx_row, dy_row = stride_of(pixels * channels), stride_of(out_height * out_width * channels)
    down = int64_at(ctl[SCRATCH])
    right, table = at(down, 2 * kh), at(down, 2 * kh + 2 * kw)
    w, zeros = at(mem, op[1]), at(mem, op[1] + (kh * kw + 1) * pitch_of(channels))
    m, last = pixels_of(ctl[ROWS], pixels, channels, part, parts)
    while m < last:
        image, h = m // pixels, m % pixels // width
        c0 = m % pixels - h * width
        c1, over = min(width, c0 + last - m), 0
        found = reaching(h % step_y, upper(op[8]), step_y, upper(op[6]), kh, down)
        for i in range(found):
            o = h // step_y + down[2 * i + 1]
            if 0 <= o < out_height:
                down[2 * over], down[2 * over + 1] = down[2 * i], o * out_width * channels
                over += 1
        dy, dx = at(mem, op[0] + image * dy_row), at(mem, op[2] + image * dx_row + h * width * channels)
        for place in range(step_x):
            across = reaching(place, lower(op[8]), step_x, lower(op[6]), kw, right)
            k0, k1 = (c0 - place + step_x - 1) // step_x, (c1 - place + step_x - 1) // step_x
            line_of_pixels(
                over, down, across, right, table, out_width, 1, kw, channels, dy, w, zeros, at(dx, place * channels),
                step_x * channels, k0, k1, like(mem, NO_FLOOR),
            )  # fmt: skip
        m += c1 - c0


@device
def products(lines, length, x, x_line, x_pixel, x_tap, dy, dy_line, dy_pixel, sums, sums_tap, taps, wide):
    """The sums of some neighbouring taps over lines of pixels, for up to two vectors of channels."""
    if lines > 0 and length > 0:
        if wide == 2 * lanes(x):
            products_2(lines, length, x, x_line, x_pixel, x_tap, dy, dy_line, dy_pixel, sums, sums_tap, taps, lanes(x))
        else:
            products_1(lines, length, x, x_line, x_pixel, x_tap, dy, dy_line, dy_pixel, sums, sums_tap, taps, wide)


@device
def chunk_of_taps(op, x, dy, o0, o1, a, b0, taps, sums, wide):
    """The sums of taps (a, b0..b0 + taps) over the lines o0..o1 of an image's windows."""
    height, width, out_width, channels = upper(op[3]), lower(op[3]), lower(op[4]), op[9]
    step, pixel, tap = lower(op[7]), lower(op[7]) * channels, lower(op[6]) * channels
    offset = a * upper(op[6]) - upper(op[8])
    first, last = span_of(height, upper(op[7]), offset, o0, o1)
    x_line, dy_line = upper(op[7]) * width * channels, out_width * channels
    x, dy = at(x, (first * upper(op[7]) + offset) * width * channels), at(dy, first * dy_line)
    inner0, inner1 = 0, out_width
    for b in range(b0, b0 + taps):
        q0, q1 = span_of(width, step, b * lower(op[6]) - lower(op[8]), 0, out_width)
        inner0, inner1 = max(inner0, q0), min(inner1, q1)
    inner1, sums_tap = max(inner0, inner1), pitch_of(channels)
    z = inner0 * step + b0 * lower(op[6]) - lower(op[8])
    products(
        last - first, inner1 - inner0, at(x, z * channels), x_line, pixel, tap, at(dy, inner0 * channels), dy_line, channels,
        sums, sums_tap, taps, wide,
    )  # fmt: skip
    for t in range(taps):  # what not all of the taps have
        z = (b0 + t) * lower(op[6]) - lower(op[8])
        q0, q1 = span_of(width, step, z, 0, out_width)
        mine = at(sums, t * sums_tap)
        left, right = min(q1, inner0), max(q0, inner1)
        products(
            last - first, left - q0, at(x, (q0 * step + z) * channels), x_line, pixel, tap, at(dy, q0 * channels), dy_line,
            channels, mine, sums_tap, 1, wide,
        )  # fmt: skip
        products(
            last - first, q1 - right, at(x, (right * step + z) * channels), x_line, pixel, tap, at(dy, right * channels),
            dy_line, channels, mine, sums_tap, 1, wide,
        )  # fmt: skip


@kernel
def weight_gradient(op, ctl, mem, part, parts):
    """x (rows, H, W, C), dy (rows, Ho, Wo, C) -> sums (rows, chunks, taps + 1, pitch) written; FLOPs as forward.

    op: x, dy, sums, geometry (6 words), C, lines of a chunk.   Owner: chunks. The last row of a chunk's sums is that of dy.
    """
    out_height, out_width, kh, kw = upper(op[4]), lower(op[4]), upper(op[5]), lower(op[5])
    channels, lines, pitch = op[9], op[10], pitch_of(op[9])
    chunks, taps, wide = (out_height + lines - 1) // lines, kh * kw, 2 * lanes(mem)
    x_row, dy_row = stride_of(upper(op[3]) * lower(op[3]) * channels), stride_of(out_height * out_width * channels)
    sums_row = stride_of(chunks * (taps + 1) * pitch)
    first, last = cut(ctl[ROWS] * chunks, 1, part, parts)
    for item in range(first, last):
        image, chunk = item // chunks, item % chunks
        x, dy = at(mem, op[0] + image * x_row), at(mem, op[1] + image * dy_row)
        sums = at(mem, op[2] + image * sums_row + chunk * (taps + 1) * pitch)
        o0, o1 = chunk * lines, min(out_height, (chunk + 1) * lines)
        for j in range((taps + 1) * pitch):
            sums[j] = like(mem, 0)
        c = 0
        while c < channels:
            n = wide if c + wide <= channels else min(lanes(mem), channels - c)
            for a in range(kh):
                for b in range(0, kw, TILE_TAPS):
                    mine = at(sums, (a * kw + b) * pitch + c)
                    chunk_of_taps(op, at(x, c), at(dy, c), o0, o1, a, b, min(TILE_TAPS, kw - b), mine, n)
            c += n
        total = at(sums, taps * pitch)
        for p in range(o0 * out_width, o1 * out_width):
            row = at(dy, p * channels)
            for j in range(channels):
                total[j] += row[j]


@kernel
def combine(op, ctl, mem, part, parts):
    """sums (rows, chunks, taps + 1, pitch) -> dw (taps C, multiplier), db (C multiplier,) written or added to.

    op: sums, dw, db, has bias, chunks, taps, C, multiplier, update of dw, update of db.   Owner: columns of sums.
    """
    chunks, taps, channels, times = op[4], op[5], op[6], op[7]
    width, pitch, row = channels * times, pitch_of(channels * times), stride_of(times)
    sums_row, total = stride_of(chunks * (taps + 1) * pitch), pointer_at(mem, ctl[SCRATCH])
    first, last = columns(width, part, parts)
    for t in range(taps + 1 if op[3] else taps):
        for j in range(first, last):
            total[j - first] = like(mem, 0)
        for image in range(ctl[ROWS]):
            for chunk in range(chunks):
                some = at(mem, op[0] + image * sums_row + (chunk * (taps + 1) + t) * pitch + first)
                for j in range(last - first):
                    total[j] += some[j]
        mode, scale = gradient_mode(ctl, mem, op[9] if t == taps else op[8])
        out = at(mem, op[2] if t == taps else op[1])
        for j in range(first, last):
            spot = j if t == taps else (t * channels + j // times) * row + j % times
            out[spot] = out[spot] + scale * total[j - first] if mode == ADD else total[j - first]


@kernel
def repeat(op, ctl, mem, part, parts):
    """x (rows, pixels, C) -> y (rows, pixels, C multiplier) written, each number so many times.

    op: x, y, pixels, C, multiplier.   Owner: pixels.
    """
    pixels, channels, times = op[2], op[3], op[4]
    x_row, y_row = stride_of(pixels * channels), stride_of(pixels * channels * times)
    first, last = pixels_of(ctl[ROWS], pixels, channels * times, part, parts)
    for m in range(first, last):
        x, y = at(mem, op[0] + m // pixels * x_row), at(mem, op[1] + m // pixels * y_row)
        x, y = at(x, m % pixels * channels), at(y, m % pixels * channels * times)
        for t in range(times):
            for c in range(channels):
                y[c * times + t] = x[c]


@kernel
def repeat_gradient(op, ctl, mem, part, parts):
    """dy (rows, pixels, C multiplier) -> dx (rows, pixels, C) written.

    op: dy, dx, pixels, C, multiplier.   Owner: pixels.
    """
    pixels, channels, times = op[2], op[3], op[4]
    x_row, y_row = stride_of(pixels * channels), stride_of(pixels * channels * times)
    first, last = pixels_of(ctl[ROWS], pixels, channels, part, parts)
    for m in range(first, last):
        dy, dx = at(mem, op[0] + m // pixels * y_row), at(mem, op[1] + m // pixels * x_row)
        dy, dx = at(dy, m % pixels * channels * times), at(dx, m % pixels * channels)
        for c in range(channels):
            dx[c] = dy[c * times]
        for t in range(1, times):
            for c in range(channels):
                dx[c] += dy[c * times + t]
