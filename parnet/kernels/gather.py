"""The shuffled batch: rows of the data set, converted and scaled on their way into the arena. Stage: kernels, first of
a step.

Slices taken outside the inner loop and a prefetch of the rows to come: 2.8 us for 32 rows of 784 uint8, against 20 us when
indexed naively. Small batches are asked for by a product before, see `ahead.py`. Must not know: where the data came from.
"""

from __future__ import annotations

from .ahead import which
from .control import FIRST, MORE_OUT, MORE_X, MORE_Y, ORDER, OUT, ROWS, TOTAL, WEIGHT, X, Y
from .declare import Kernel, device, kernel
from .intrinsics import at, float32_at, float64_at, float_word, int64_at, like, pointer_at, prefetch, uint8_at
from .share import TILE_ROWS, cut, rectangle, span, stride_of

AHEAD = 16  # rows
CACHE_LINE = 64  # bytes
ASKED_LINES = 8  # of a row, the processor goes on by itself: 14.8 us for 32 rows of 784 float32, 16.9 with all 49 lines


@device
def source_row(ctl, i):
    """Which row of the data set is row i of this batch."""
    place = ctl[FIRST] + i
    if ctl[ORDER]:
        place = int64_at(ctl[ORDER])[place]
    return place


@device
def ask_ahead(ctl, data, width, c0, c1, line, i):
    """Prefetch the first lines of columns c0:c1 of the row that will be gathered AHEAD rows later."""
    place = ctl[FIRST] + i + AHEAD
    if ctl[ORDER] and place < ctl[TOTAL]:
        row = at(data, int64_at(ctl[ORDER])[place] * width)
        for c in range(c0, min(c1, c0 + ASKED_LINES * line), line):
            prefetch(row, c)
        prefetch(row, c1 - 1)  # its end may lie on a page of its own: 150 for 165 us a batch of 256 from shared memory


def _gather_kernel(name, data_at, size):
    """The kernel out = data[order] * scale + shift.

    op: out (rows, width) written, width, scale, shift, share (ROWS, COLUMNS; a part of its own copy is part 0 of 1), number
        of the input, 1 where nobody else asks for the rows to come.
    """

    def run(op, ctl, mem, part, parts):
        width, stride, scale, shift = op[1], stride_of(op[1]), float_word(mem, op[2]), float_word(mem, op[3])
        data = data_at(ctl[which(X, MORE_X, op[5])])
        first, last, c0, c1 = rectangle(op[4], ctl[ROWS], width, part, parts)
        for i in range(first, last):
            left, right = span(op[4], width, i, first, last, c0, c1)
            if op[6]:
                ask_ahead(ctl, data, width, left, right, CACHE_LINE // size, i)
            row, out = at(data, source_row(ctl, i) * width + left), at(mem, op[0] + i * stride + left)
            for j in range(right - left):
                out[j] = like(mem, row[j]) * scale + shift

    run.__doc__ = _gather_kernel.__doc__
    return Kernel(name, run)


uint8 = _gather_kernel("gather.uint8", uint8_at, 1)
float32 = _gather_kernel("gather.float32", float32_at, 4)
float64 = _gather_kernel("gather.float64", float64_at, 8)


@device
def copy_rows(ctl, data, out, width, first, last):
    """out[i] = data[row of i] for rows of `width` numbers; the data lie without padding."""
    for i in range(first, last):
        row, spot = at(data, source_row(ctl, i) * width), at(out, i * stride_of(width))
        for j in range(width):
            spot[j] = row[j]


@kernel
def targets(op, ctl, mem, part, parts):
    """op: y (rows, width) written, width, number of the output.   Owner: rows.

    Class numbers travel as T, exact up to 2^24 in float32.
    """
    first, last = cut(ctl[ROWS], TILE_ROWS, part, parts)
    copy_rows(ctl, pointer_at(mem, ctl[which(Y, MORE_Y, op[2])]), at(mem, op[0]), op[1], first, last)


@kernel
def weights(op, ctl, mem, part, parts):
    """op: w (rows,) written.   Owner: rows."""
    first, last = cut(ctl[ROWS], TILE_ROWS, part, parts)
    out, data = at(mem, op[0]), pointer_at(mem, ctl[WEIGHT])
    for i in range(first, last):
        out[i] = data[source_row(ctl, i)]


@kernel
def output(op, ctl, mem, part, parts):
    """The rows of a prediction leave the arena.   op: y (rows, width), width, number of the output.   Owner: rows."""
    width = op[1]
    stride = stride_of(width)
    first, last = cut(ctl[ROWS], TILE_ROWS, part, parts)
    for i in range(first, last):
        out, y = at(pointer_at(mem, ctl[which(OUT, MORE_OUT, op[2])]), (ctl[FIRST] + i) * width), at(mem, op[0] + i * stride)
        for j in range(width):
            out[j] = y[j]
