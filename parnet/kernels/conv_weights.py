"""The weight gradient of a convolution. Stage: kernels; a part of `conv.py`, whose geometry words it reads.

A row of the product is (tap, channel); the sum runs over the output's pixels in image order, line by line.
Must not know: layers.
"""

from __future__ import annotations

from .control import ACCUMULATE, ROWS, SCRATCH
from .conv import lower, upper
from .declare import device, kernel
from .gathered import QUAD_ROWS, QUAD_VECTORS, WIDEST, panel_of, tile_shape
from .intrinsics import address_of, at, int64_at, lanes, like, pointer_at
from .share import TILE_ROWS, cut, stride_of
from .tile import CONTINUE
from .window import make_streamed

streamed_1, streamed_2, streamed_3 = make_streamed(1, True), make_streamed(2, True), make_streamed(WIDEST, True)
streamed_4 = make_streamed(QUAD_VECTORS, True, QUAD_ROWS)
#: rows of the gradient that a part owns whole runs of
GRAIN = 24
#: mode of a gradient that is always added
ADDED = 2


@device
def stream_tile(segments, depth, a, a_k, b, b_k, table, c, c_row, rows, wide):
    """One tile of up to QUAD_VECTORS vectors of columns, added to what is there."""
    width = lanes(c)
    vectors = (wide + width - 1) // width
    tail = wide - (vectors - 1) * width
    if vectors == 4:
        streamed_4(segments, depth, a, a_k, b, b_k, table, c, c_row, rows, tail, CONTINUE)
    elif vectors == 3:
        streamed_3(segments, depth, a, a_k, b, b_k, table, c, c_row, rows, tail, CONTINUE)
    elif vectors == 2:
        streamed_2(segments, depth, a, a_k, b, b_k, table, c, c_row, rows, tail, CONTINUE)
    else:
        streamed_1(segments, depth, a, a_k, b, b_k, table, c, c_row, rows, tail, CONTINUE)


@device
def bounds(size, out_size, step, offset):
    """The outputs whose pixel step * o + offset lies in an image: first, last + 1."""
    first = max(0, (-offset + step - 1) // step)
    return first, max(first, min(out_size, (size - 1 - offset) // step + 1))


@device
def stream_table(op, tap, group, line0, line1, packed, table):
    """Where the lines of pixels line0..line1 of a tap lie in x and in dy. Returns how many there are, and their length.

    packed: how far apart the pixels of a packed copy of dy's lines are, which starts at line0; 0 for dy itself.
    """
    height, width, out_height, out_width = upper(op[3]), lower(op[3]), upper(op[4]), lower(op[4])
    channels, outputs, kw, groups, merged = upper(op[5]), lower(op[5]), lower(op[6]), upper(op[7]), lower(op[7])
    step_y, step_x, across = upper(op[9]), lower(op[9]), 1 if merged else kw
    y = tap // across * upper(op[8]) - upper(op[10])
    z = tap % across * lower(op[8]) - lower(op[10])
    into, out = channels * groups, outputs * groups
    x_row, dy_row = stride_of(height * width * into), stride_of(out_height * out_width * out)
    first, last = bounds(width - (kw - 1 if merged else 0), out_width, step_x, z)
    count = 0
    for line in range(line0, line1):
        image, o = line // out_height, line % out_height
        h = o * step_y + y
        if 0 <= h < height:
            table[2 * count] = image * x_row + (h * width + first * step_x + z) * into + group * channels
            if packed:
                table[2 * count + 1] = ((line - line0) * out_width + first) * packed
            else:
                table[2 * count + 1] = image * dy_row + (o * out_width + first) * out
            count += 1
    return count, last - first


@device
def pack_lines(op, dy, line0, line1, wide, pack, row):
    """Columns 0..wide of dy's lines side by side, `row` numbers apart: pages apart they would cost a look-up each."""
    out_height, out_width, out = upper(op[4]), lower(op[4]), lower(op[5]) * upper(op[7])
    dy_row = stride_of(out_height * out_width * out)
    for line in range(line0, line1):
        source = at(dy, line // out_height * dy_row + line % out_height * out_width * out)
        target = at(pack, (line - line0) * out_width * row)
        for p in range(out_width):
            a, b = at(source, p * out), at(target, p * row)
            for j in range(wide):
                b[j] = a[j]


@device
def add_lines(op, dy, line0, line1, wide, sums):
    """sums += columns 0..wide of dy's lines, pixels in image order."""
    out_height, out_width, out = upper(op[4]), lower(op[4]), lower(op[5]) * upper(op[7])
    dy_row = stride_of(out_height * out_width * out)
    for line in range(line0, line1):
        source = at(dy, line // out_height * dy_row + line % out_height * out_width * out)
        for p in range(out_width):
            row = at(source, p * out)
            for j in range(wide):
                sums[j] += row[j]


@device
def clear(dw, row, i0, i1, wide):
    """dw[i0:i1, :wide] = 0."""
    for i in range(i0, i1):
        for j in range(wide):
            dw[i * row + j] = like(dw, 0)


@device
def stream_rows(segments, length, x, a_k, b, b_k, table, dw, row, i0, i1, wide):
    """The tiles of dw[i0:i1, :wide] over one block of lines."""
    span, step = tile_shape(row, lanes(dw))
    for j in range(0, wide, span):
        now = min(span, wide - j)
        high = step if now + lanes(dw) > span else TILE_ROWS
        for i in range(i0, i1, high):
            rows = min(high, i1 - i)
            stream_tile(segments, length, at(x, i), a_k, at(b, j), b_k, table, at(dw, i * row + j), row, rows, now)


@kernel
def gradient(op, ctl, mem, part, parts):
    """x (rows, H, W, C), dy (rows, Ho, Wo, F) -> dw (taps C, F) in panels and db (F,) written or added to; FLOPs as forward.

    op: x, dy, dw, geometry (8 words), lines of a block, mode (see `product.gradient_mode`), db, has db.
    Owner: runs of rows of panels of dw. The sum over lines of pixels goes on from block to block; a block's lines stay in
    the cache.
    """
    channels, outputs, kh, kw = upper(op[5]), lower(op[5]), upper(op[6]), lower(op[6])
    groups, merged, lines, block = upper(op[7]), lower(op[7]), ctl[ROWS] * upper(op[4]), op[11]
    taps, depth = (kh, kw * channels) if merged else (kh * kw, channels)
    height, width, keep = taps * depth, outputs * groups, op[12] == ADDED or ctl[ACCUMULATE]
    x, dy, db, table = at(mem, op[0]), at(mem, op[1]), at(mem, op[13]), int64_at(ctl[SCRATCH])
    pack, a_k = pointer_at(mem, address_of(at(table, 2 * block))), lower(op[9]) * channels * groups
    wide, grains = panel_of(width), (depth + GRAIN - 1) // GRAIN
    items, panels = taps * grains, (width + wide - 1) // wide
    first, last = cut(items * panels, 1, part, parts)
    for line in range(0, lines, block):
        end = min(lines, line + block)
        for panel in range(first // items, (last + items - 1) // items):
            item0, item1 = max(0, first - panel * items), min(items, last - panel * items)
            c0, c1 = panel * wide, min(width, panel * wide + wide)
            row = stride_of(c1 - c0)
            packed = row if item1 - item0 > 2 and width > wide else 0
            if packed:
                pack_lines(op, at(dy, c0), line, end, c1 - c0, pack, row)
            if op[14] and item0 == 0:
                if line == 0 and not keep:
                    clear(at(db, c0), 0, 0, 1, c1 - c0)
                add_lines(op, at(dy, c0), line, end, c1 - c0, at(db, c0))
            for tap in range(item0 // grains, (item1 + grains - 1) // grains):
                i0, i1 = max(0, item0 - tap * grains) * GRAIN, min(depth, (item1 - tap * grains) * GRAIN)
                dw = at(mem, op[2] + c0 * height + tap * depth * row)
                if line == 0 and not keep:
                    clear(dw, row, i0, i1, c1 - c0)
                for g in range(c0 // outputs, (c1 + outputs - 1) // outputs):
                    f0, f1 = max(c0, g * outputs), min(c1, (g + 1) * outputs)
                    segments, length = stream_table(op, tap, g, line, end, packed, table)
                    if segments > 0 and length > 0:
                        b, b_k = (at(pack, f0 - c0), packed) if packed else (at(dy, f0), width)
                        stream_rows(segments, length, x, a_k, b, b_k, table, at(dw, f0 - c0), row, i0, i1, f1 - f0)
