"""A block of gathered rows times a run of panelled columns: what both products of `conv.py` run on. Stage: kernels.

Chooses the tile of `window.py` by the columns that are left, and cuts the sum into blocks whose weights stay in the cache.
Must not know: geometry, layers.
"""

from __future__ import annotations

import math

from .declare import device
from .intrinsics import at, lanes, like
from .product import MASK_ALWAYS
from .share import TILE_ROWS, TILE_VECTORS, panel_of, stride_of
from .target import vector_registers
from .tile import CONTINUE, STORE
from .window import PLAIN, make_gathered

WIDEST = min(3, TILE_VECTORS)
#: where there are registers for it, four vectors side by side and fewer rows: 64 columns, as most networks have them
QUAD_ROWS = 6 if vector_registers() == 32 else TILE_ROWS
QUAD_VECTORS = 4 if vector_registers() == 32 else TILE_VECTORS
gathered_4, masked_4 = make_gathered(QUAD_VECTORS, False, QUAD_ROWS), make_gathered(QUAD_VECTORS, True, QUAD_ROWS)
#: the last rows of a block in a tile of their own: 49 pixels are eight tiles of six rows and one row, which took as long
FEW_ROWS = 2
few_4 = make_gathered(QUAD_VECTORS, True, FEW_ROWS)
gathered_1, gathered_2, gathered_3 = make_gathered(1, False), make_gathered(2, False), make_gathered(WIDEST, False)
masked_1, masked_2, masked_3 = make_gathered(1, True), make_gathered(2, True), make_gathered(WIDEST, True)
#: rows of a panel of weights that are used by all tiles of a block before the next are fetched
DEPTH = 768
#: weights of more numbers do not stay in a core's own cache
FAR = 100_000
NO_FLOOR = -math.inf


# fmt: off
@device
def gather_tile(segments, depth, skip, table, pitch, places, shifts, b, b_k, c, rows, wide, mode, ending, scale, shift,
                other, floor, ahead, soon):
    """One tile of up to QUAD_VECTORS vectors of columns, of QUAD_ROWS or FEW_ROWS rows if that wide; else TILE_ROWS."""
    width = lanes(c)
    vectors = (wide + width - 1) // width
    tail = wide - (vectors - 1) * width
    if vectors == 4 and rows <= FEW_ROWS:
        few_4(segments, depth, skip, table, pitch, places, shifts, b, b_k, c, rows, tail, mode, ending, scale, shift,
              other, floor, ahead, soon)
    elif MASK_ALWAYS or tail < width:
        if vectors == 4:
            masked_4(segments, depth, skip, table, pitch, places, shifts, b, b_k, c, rows, tail, mode, ending, scale, shift,
                     other, floor, ahead, soon)
        elif vectors == 3:
            masked_3(segments, depth, skip, table, pitch, places, shifts, b, b_k, c, rows, tail, mode, ending, scale, shift,
                     other, floor, ahead, soon)
        elif vectors == 2:
            masked_2(segments, depth, skip, table, pitch, places, shifts, b, b_k, c, rows, tail, mode, ending, scale, shift,
                     other, floor, ahead, soon)
        else:
            masked_1(segments, depth, skip, table, pitch, places, shifts, b, b_k, c, rows, tail, mode, ending, scale, shift,
                     other, floor, ahead, soon)
    elif vectors == 4:
        gathered_4(segments, depth, skip, table, pitch, places, shifts, b, b_k, c, rows, tail, mode, ending, scale, shift,
                   other, floor, ahead, soon)
    elif vectors == 3:
        gathered_3(segments, depth, skip, table, pitch, places, shifts, b, b_k, c, rows, tail, mode, ending, scale, shift,
                   other, floor, ahead, soon)
    elif vectors == 2:
        gathered_2(segments, depth, skip, table, pitch, places, shifts, b, b_k, c, rows, tail, mode, ending, scale, shift,
                   other, floor, ahead, soon)
    else:
        gathered_1(segments, depth, skip, table, pitch, places, shifts, b, b_k, c, rows, tail, mode, ending, scale, shift,
                   other, floor, ahead, soon)
# fmt: on


@device
def tile_shape(b_k, run):
    """Columns and rows of the tiles for a panel whose rows are b_k numbers apart."""
    return (QUAD_VECTORS * run, QUAD_ROWS) if b_k % (4 * run) == 0 else (TILE_VECTORS * run, TILE_ROWS)


@device
def gather_block(
    rows, taps, depth, table, pitch, places, shifts, b, b_k, c, wide, ending, scale, shift, other, floor, far, beyond
):
    """All rows of a table times one run of columns, the sum in blocks whose weights stay in the cache.

    far: the weights come from far away: four of the tiles ask for a quarter each of the next block, which lies right
    behind this one. beyond: what is wanted after the last lies so many numbers further.
    """
    per = max(1, DEPTH // depth)
    span, step = tile_shape(b_k, lanes(c))
    for first in range(0, taps, per):
        some = min(per, taps - first)
        for k in range(0, depth, DEPTH):
            deep, mode, end, low_end = min(DEPTH, depth - k), CONTINUE, PLAIN, like(c, NO_FLOOR)
            if first == 0 and k == 0:
                mode = STORE
            if first + some == taps and k + deep == depth:
                end, low_end = ending, floor
            near = some * deep * b_k + (beyond if first + some == taps and k + deep == depth else 0)
            for j in range(0, wide, span):
                now, b_at, c_at, other_at = min(span, wide - j), at(b, j), at(c, j), at(other, j)
                high, by, plus = step if now + lanes(c) > span else TILE_ROWS, at(scale, j), at(shift, j)
                turns = max(1, (rows + high - 1) // high // 4)  # of the tiles between two that ask
                for i in range(0, rows, high):
                    words, spots, left = at(table, i * pitch + first), at(places, i), min(high, rows - i)
                    soon = words[high * pitch] if taps == 1 and i + high < rows else words[0]
                    turn = i // high
                    ahead = near + turn // turns * lanes(c) if far and turn % turns == 0 and turn < 4 * turns else 0
                    gather_tile(
                        some, deep, k, words, pitch, spots, at(shifts, first), b_at, b_k, c_at, left, now, mode, end, by,
                        plus, other_at, low_end, ahead, soon,
                    )  # fmt: skip


# fmt: off
@device
def gather_columns(rows, taps, depth, table, places, pitch, shifts, w, height, c0, c1, width, y, ending, scale, shift, other,
                   floor, far, beyond):
    """A block of rows times columns c0..c1 of weights (height, width) in panels; `far`, `beyond` as of `gather_block`."""
    c, wide = c0, panel_of(width)
    while c < c1:
        panel = c // wide * wide
        end = min(panel + wide, c1)
        b, b_k = at(w, panel * height + c - panel), stride_of(min(wide, width - panel))
        gather_block(
            rows, taps, depth, table, pitch, places, shifts, b, b_k, at(y, c), end - c, ending, at(scale, c), at(shift, c),
            at(other, c), floor, far, beyond if end == c1 else 0,
        )
        c = end
# fmt: on
