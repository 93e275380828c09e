"""Convolution of images (rows, height, width, channels): forward and input gradient. Stage: kernels.

Both are products on the tiles of `window.py`; no window is copied. Weights (kh, kw, channels of a group, F) lie as a
matrix of (tap, channel) rows and F columns in panels (`step.window_panel`).

    forward          a row of the product is an output pixel; its segments are the taps of its window. Taps outside of the
                     image point at zeros. Where nothing is padded sideways, a whole row of taps is one segment.
    input gradient   the same with input pixels for rows, and for segments the taps of the windows that reach them;
                     pixels are taken by their place within a stride, for only some taps reach each kind.

Eight operand words describe the geometry, each a `pair`: input height and width; output height and width; channels and F
of a group; taps; groups, and whether a row of taps is one segment; steps of taps; steps of windows; padding above and left.
Must not know: layers.
"""

from __future__ import annotations

from .control import ROWS, SCRATCH
from .declare import device, kernel
from .gathered import FAR, NO_FLOOR, gather_columns
from .intrinsics import address_of, at, float_word, int64_at, like, pointer_at, square_root
from .product import turn
from .share import cut, panel_of, pixels_of, stride_of
from .step import PANELS, high, low
from .window import PLAIN, SCALED, SCALED_AND_ADDED

#: operand bits of `forward`: what is done to a finished sum
BIAS, OTHER, RELU, NORM = 1, 2, 4, 8
upper, lower = device(high), device(low)


@device
def owned(share, images, pixels, width, part, parts):
    """What a part owns of images: first pixel, last pixel, first channel, last channel."""
    if share == PANELS:
        first, last = cut(width, panel_of(width), part, parts)
        return 0, images * pixels, first, last
    first, last = pixels_of(images, pixels, width, part, parts)
    return first, last, 0, width


@device
def tap_distances(op, size, distances):
    """How far each tap of a window lies from its first, in bytes."""
    pixel, kw = upper(op[8]) * upper(op[10]), lower(op[9])
    across = 1 if lower(op[10]) else kw
    for a in range(upper(op[9])):
        for b in range(across):
            distances[a * across + b] = (a * upper(op[11]) * lower(op[6]) + b * lower(op[11])) * pixel * size


@device
def forward_table(op, x, m, rows, group, zeros, size, distances, table, places):
    """Where the windows of output pixels m..m + rows lie, and where their sums go."""
    height, width, out_height, out_width = upper(op[6]), lower(op[6]), upper(op[7]), lower(op[7])
    channels, outputs, kh, kw = upper(op[8]), lower(op[8]), upper(op[9]), lower(op[9])
    groups, tap_y, tap_x, step_y, step_x = upper(op[10]), upper(op[11]), lower(op[11]), upper(op[12]), lower(op[12])
    pixel, pixels, across = channels * groups, out_height * out_width, 1 if lower(op[10]) else kw
    taps = kh * across
    x_row, y_row = stride_of(height * width * pixel), stride_of(pixels * outputs * groups)
    image, p = m // pixels, m % pixels
    o, q = p // out_width, p % out_width
    for i in range(rows):
        places[i] = image * y_row + (o * out_width + q) * outputs * groups
        h, w, words = o * step_y - upper(op[13]), q * step_x - lower(op[13]), at(table, i * taps)
        first = x + (image * x_row + group * channels + (h * width + w) * pixel) * size
        for s in range(taps):
            words[s] = first + distances[s]
        if h < 0 or h + (kh - 1) * tap_y >= height or w < 0 or w + (across - 1) * tap_x >= width:
            for s in range(taps):
                y, z = h + s // across * tap_y, w + s % across * tap_x
                if y < 0 or y >= height or z < 0 or z >= width:
                    words[s] = zeros
        q += 1  # a division here would cost as much as a pixel of a small convolution
        if q == out_width:
            q, o = 0, o + 1
        if o == out_height:
            o, image = 0, image + 1


@device
def ends(op, mem, c0, c1, scale, shift):
    """The vectors that finished sums of columns c0..c1 are multiplied by and shifted with: bias, then normalisation."""
    bias, gamma, beta, mean, variance = at(mem, op[3]), at(mem, op[16]), at(mem, op[17]), at(mem, op[18]), at(mem, op[19])
    for c in range(c0, c1):
        scale[c] = like(mem, 1)
        shift[c] = like(mem, 0)
    if op[5] & BIAS:
        for c in range(c0, c1):
            shift[c] = bias[c]
    if op[5] & NORM:
        epsilon = float_word(mem, op[20])
        for c in range(c0, c1):
            scale[c] = gamma[c] / square_root(variance[c] + epsilon)
            shift[c] = beta[c] + (shift[c] - mean[c]) * scale[c]


@kernel
def forward(op, ctl, mem, part, parts):
    """x (rows, H, W, C), w, bias (F,), other like y -> y (rows, Ho, Wo, F) written; FLOPs 2 rows Ho Wo F taps C / groups.

    y = relu(norm(x * w + bias) + other), where norm, that of batch normalisation in inference, relu, bias and other are
    there if the flags say so.
    op: x, w, y, bias, other, flags (BIAS, OTHER, RELU, NORM), geometry (8 words), share, rows of a block, gamma, beta,
    moving mean, moving variance (F,), epsilon.   Owner: pixels of y, or columns where the weights are more than the pixels.
    """
    channels, outputs, kh, kw = upper(op[8]), lower(op[8]), upper(op[9]), lower(op[9])
    groups, merged, flags, block = upper(op[10]), lower(op[10]), op[5], op[15]
    taps, depth = (kh, kw * channels) if merged else (kh * kw, channels)
    width, pixels, size = outputs * groups, upper(op[7]) * lower(op[7]), address_of(at(mem, 1)) - address_of(mem)
    places = int64_at(ctl[SCRATCH])
    table, shifts = at(places, block), at(places, block + block * taps)
    distances = at(shifts, taps)
    zeros = pointer_at(mem, address_of(at(distances, taps)))
    scale, shift = at(zeros, depth), at(zeros, depth + width)
    tap_distances(op, size, distances)
    for s in range(taps):
        shifts[s] = s * depth
    for j in range(depth):
        zeros[j] = like(mem, 0)
    floor = like(mem, 0) if flags & RELU else like(mem, NO_FLOOR)
    ending = SCALED_AND_ADDED if flags & OTHER else SCALED if flags else PLAIN
    m0, m1, c0, c1 = owned(op[14], ctl[ROWS], pixels, width, part, parts)
    ends(op, mem, c0, c1, scale, shift)
    w, y, other, x = at(mem, op[1]), at(mem, op[2]), at(mem, op[4]), address_of(at(mem, op[0]))
    for g in range(c0 // outputs, (c1 + outputs - 1) // outputs):
        first, last = max(c0, g * outputs), min(c1, (g + 1) * outputs)
        for m in range(m0, m1, block):
            rows = min(block, m1 - m)
            forward_table(op, x, m, rows, g, address_of(zeros), size, distances, table, places)
            gather_columns(
                rows, taps, depth, table, places, taps, shifts, w, taps * depth, first, last, width, y, ending, scale, shift,
                other, floor, taps * depth * width > FAR, 0,
            )  # fmt: skip


@kernel
def turn_weights(op, ctl, mem, part, parts):
    """w (taps C, F G) -> v (taps F, C G) written, both in panels: each group's C x F block of each tap transposed.

    op: w, v, taps, C, F, groups.   Owner: runs of blocks of v.
    """
    taps, channels, outputs, groups = op[2], op[3], op[4], op[5]
    into, width = channels * groups, outputs * groups
    span, source_span = panel_of(into), panel_of(width)
    panels = (into + span - 1) // span
    first, last = cut(taps * panels, 1, part, parts)
    for item in range(first, last):
        tap, panel = item // panels, item % panels * span
        end, out_row = min(into, panel + span), stride_of(min(span, into - panel))
        v = at(mem, op[1] + panel * taps * outputs + tap * outputs * out_row)
        c = panel
        while c < end:
            g = c // channels
            stop = min(end, (g + 1) * channels)
            f = g * outputs
            while f < (g + 1) * outputs:
                source = f // source_span * source_span
                edge, row = min(source + source_span, (g + 1) * outputs), stride_of(min(source_span, width - source))
                w = at(mem, op[0] + source * taps * channels + (tap * channels + c - g * channels) * row + f - source)
                turn(w, row, at(v, (f - g * outputs) * out_row + c - panel), out_row, stop - c, edge - f)
                f = edge
            c = stop


@device
def reach(op, ry, rx, shifts, down, right):
    """The taps whose windows reach pixels at place (ry, rx) of a stride: how many.

    Written for each: its row of v, and how many outputs further down and right than the pixel its window is.
    """
    outputs, kh, kw = lower(op[5]), upper(op[6]), lower(op[6])
    tap_y, tap_x, step_y, step_x = upper(op[8]), lower(op[8]), upper(op[9]), lower(op[9])
    count = 0
    for a in range(kh):
        for b in range(kw):
            y, z = ry + upper(op[10]) - a * tap_y, rx + lower(op[10]) - b * tap_x
            if y % step_y == 0 and z % step_x == 0:
                shifts[count], down[count], right[count] = (a * kw + b) * outputs, y // step_y, z // step_x
                count += 1
    return count  # down and right fall from tap to tap: the first is the furthest, the last the nearest


@device
def gradient_table(op, dy, state, m1, group, taps, down, right, zeros, size, table, places):
    """The next pixels of one place in a stride: where their sums go, and where the gradients of the windows that reach them
    lie. Returns how many they are: as many as fit, 0 at the end.

    state: int64[6], image, row and column of strides of the next pixel; its place in the stride; the first pixel wanted.
    """
    height, width, out_height, out_width = upper(op[3]), lower(op[3]), upper(op[4]), lower(op[4])
    channels, outputs, groups, step_y, step_x = upper(op[5]), lower(op[5]), upper(op[7]), upper(op[9]), lower(op[9])
    into, out, ry, rx, m0 = channels * groups, outputs * groups, state[3], state[4], state[5]
    x_row, dy_row = stride_of(height * width * into), stride_of(out_height * out_width * out)
    image, a, b, rows = state[0], state[1], state[2], 0
    while rows < op[12]:
        h, w = a * step_y + ry, b * step_x + rx
        if h >= height:
            a, b, image = 0, 0, image + 1
            if image * height * width >= m1:  # steps longer than the image leave places that no pixel has
                break
            continue
        if w >= width:
            a, b = a + 1, 0
            continue
        m = (image * height + h) * width + w
        if m >= m1:
            break
        if m >= m0:
            places[rows] = image * x_row + (h * width + w) * into
            first, words = dy + (image * dy_row + group * outputs) * size, at(table, rows * taps)
            for s in range(taps):
                words[s] = first + ((a + down[s]) * out_width + b + right[s]) * out * size
            outside = taps and (a + down[taps - 1] < 0 or a + down[0] >= out_height)
            if outside or (taps and (b + right[taps - 1] < 0 or b + right[0] >= out_width)):
                for s in range(taps):
                    y, z = a + down[s], b + right[s]
                    if y < 0 or y >= out_height or z < 0 or z >= out_width:
                        words[s] = zeros
            rows += 1
        b += 1
    state[0], state[1], state[2] = image, a, b
    return rows


@kernel
def input_gradient(op, ctl, mem, part, parts):
    """v (taps F, C), dy (rows, Ho, Wo, F) -> dx (rows, H, W, C) written; FLOPs as forward.

    op: v, dy, dx, geometry (8 words), share, rows of a block.   Owner: pixels or columns of dx.
    """
    width, channels, outputs, block = lower(op[3]), upper(op[5]), lower(op[5]), op[12]
    most, groups, step_y, step_x = upper(op[6]) * lower(op[6]), upper(op[7]), upper(op[9]), lower(op[9])
    pixels, into, size = upper(op[3]) * width, channels * groups, address_of(at(mem, 1)) - address_of(mem)
    state = int64_at(ctl[SCRATCH])
    shifts, places = at(state, 6), at(state, 6 + 3 * most)
    down, right, table = at(shifts, most), at(shifts, 2 * most), at(places, block)
    zeros = pointer_at(mem, address_of(at(table, block * most)))
    for j in range(outputs):
        zeros[j] = like(mem, 0)
    v, dx, dy, nothing = at(mem, op[0]), at(mem, op[2]), address_of(at(mem, op[1])), address_of(zeros)
    m0, m1, c0, c1 = owned(op[11], ctl[ROWS], pixels, into, part, parts)
    for g in range(c0 // channels, (c1 + channels - 1) // channels):
        first, last = max(c0, g * channels), min(c1, (g + 1) * channels)
        for kind in range(step_y * step_x):
            state[0], state[1], state[2] = m0 // pixels, m0 % pixels // width // step_y, 0
            state[3], state[4], state[5] = kind // step_x, kind % step_x, m0
            taps = reach(op, state[3], state[4], shifts, down, right)
            rows = gradient_table(op, dy, state, m1, g, taps, down, right, nothing, size, table, places)
            while rows:
                if taps:
                    gather_columns(
                        rows, taps, outputs, table, places, taps, shifts, v, most * outputs, first, last, into, dx, PLAIN,
                        dx, dx, dx, like(mem, NO_FLOOR), most * outputs * into > FAR, 0,
                    )  # fmt: skip
                else:
                    for i in range(rows):
                        for j in range(first, last):
                            dx[places[i] + j] = like(mem, 0)
                rows = gradient_table(op, dy, state, m1, g, taps, down, right, nothing, size, table, places)
