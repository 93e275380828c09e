"""Who owns what: how the work of one step is cut into parts. Stage: kernels, used by nearly all of them.

Every element of an output belongs to exactly one part, and the cut never changes the order in which the terms of a sum
are added: results do not depend on the number of parts. Must not know: threads.

    COLUMNS   runs of whole panels of columns, all rows
    ROWS      runs of rows in grains of a tile's rows, all columns
"""

from __future__ import annotations

from .declare import device
from .step import COLUMNS, NARROW, PANEL, row_stride
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
def columns(width, part, parts):
    """Part `part` of `width` columns in runs of whole panels; a narrow last panel goes with the one before it."""
    panels = width // PANEL + (width % PANEL > NARROW)
    first = min(panels * part // parts * PANEL, width)
    return first, width if part == parts - 1 else min(panels * (part + 1) // parts * PANEL, width)


@device
def rectangle(share, rows, width, part, parts):
    """What a part owns of a rows x width matrix: first row, last row, first column, last column."""
    if share == COLUMNS:
        first, last = columns(width, part, parts)
        return 0, rows, first, last
    first, last = cut(rows, TILE_ROWS, part, parts)
    return first, last, 0, width
