"""Who owns what: how the work of one step is cut into parts. Stage: kernels, used by nearly all of them.

Every element of an output belongs to exactly one part, and the cut never changes the order in which the terms of a sum
are added: results do not depend on the number of parts. Must not know: threads.

    TILES     whole vectors of columns, equally many a part, all rows; the vectors left over by rows
    COLUMNS   runs of whole vectors of columns, all rows
    ROWS      runs of rows in grains of a tile's rows, all columns
"""

from __future__ import annotations

from .declare import device
from .step import COLUMNS, ROWS_SHARED, row_stride
from .tile import tile_rows, tile_vectors

stride_of = device(row_stride)
TILE_ROWS = tile_rows()
TILE_VECTORS = tile_vectors()


@device
def cut(n, grain, part, parts):
    """Part `part` of 0..n in runs of whole grains: (first, last)."""
    grains = (n + grain - 1) // grain
    first = grains * part // parts * grain
    last = grains * (part + 1) // parts * grain
    return min(first, n), min(last, n)


@device
def whole(n, lanes):
    """n rounded up to whole vectors: a loop over them may reach into the padding of a row, and leaves no single steps."""
    return (n + lanes - 1) // lanes * lanes


@device
def rectangle(share, which, rows, width, lanes, part, parts):
    """What a part owns of a rows x width matrix: at most two rectangles, which = 0 and 1.

    With TILES the first is the part's own whole vectors of columns, so that its columns of a weight matrix stay in its
    cache from step to step, and the second its rows of the vectors left over.

    Returns:
        first row, last row, first column, last column.
    """
    if share == COLUMNS:
        first, last = cut(width, lanes, part, parts)
        return 0, rows * (1 - which), first, last
    if share == ROWS_SHARED:
        first, last = cut(rows, TILE_ROWS, part, parts)
        return first, last, 0, width * (1 - which)
    own = (width + lanes - 1) // lanes // parts * lanes
    if which == 0:
        return 0, rows, min(part * own, width), min((part + 1) * own, width)
    first, last = cut(rows, TILE_ROWS, part, parts)
    return first, last, min(parts * own, width), width
