"""The rows of the next batch, asked for while this one is computed. Stage: kernels, used by `product.py`.

A shuffled batch lies in as many places as it has rows, and the gather step waits for memory: 15 of 110 us a step of the
784-100-10 network at batch 32 on float32. The first product of the forward pass asks for these lines in its inner loop,
evenly: the gather step takes 4 us then, the product 44 for 39. Asking in the weight gradient, which goes to the second
cache itself, cost what was gained (57 us for 44); asking for the first lines of each page alone, and leaving the rest to
the processor, half of it. Must not know: what is computed meanwhile.
"""

from __future__ import annotations

from .control import BATCH, FIRST, MORE_X, ORDER, TOTAL, X
from .declare import device
from .intrinsics import int64_at
from .share import rectangle
from .step import EACH

#: asked for at most, bytes a step of the inner loop: a whole line
MOST = 64
#: words of the product's operands that say what is asked for
BYTES, WIDTH, CUT, NUMBER, TERMS = 0, 1, 2, 3, 4
#: of what a part asks for: address of the data, bytes from row to row, address of the order of rows, place in it of the next
#: batch, where the run ends; first row, last row, byte where a row begins, pieces of a row, bytes of a piece
DATA, PITCH, ROW_NUMBERS, START, END, ROW, LAST, BEGIN, PIECES, LENGTH = range(10)
#: nothing is asked for
NOTHING = (0,) * 10


@device
def which(first, more, number):
    """The control word of an input or output: `first` for number 0, then `more`, `more` + 1, ..."""
    return first if number == 0 else more + number - 1


@device
def part_of_next(ctl, op, tiles, part, parts):
    """What a part asks for of the next batch while it computes so many tiles, each a piece of a row.

    op: bytes of a number of the data (0: nothing is asked for), numbers of a row, who gathers what (share), number of the
    input, terms of a tile.
    """
    if op[BYTES] == 0 or tiles == 0:
        return NOTHING
    row, last, c0, c1 = 0, ctl[BATCH], 0, op[WIDTH]
    if op[CUT] != EACH:
        row, last, c0, c1 = rectangle(op[CUT], ctl[BATCH], op[WIDTH], part, parts)
    pieces = max(1, tiles // max(1, last - row))
    length = min(((c1 - c0) * op[BYTES] + pieces - 1) // pieces, MOST * op[TERMS])
    data, pitch = ctl[which(X, MORE_X, op[NUMBER])], op[WIDTH] * op[BYTES]
    return data, pitch, ctl[ORDER], ctl[FIRST] + ctl[BATCH], ctl[TOTAL], row, last, c0 * op[BYTES], pieces, length


@device
def piece_of_next(asked, tile):
    """The address of the piece that tile number `tile` asks for; 0 where there is none."""
    if asked[LENGTH] == 0:
        return 0
    row = asked[ROW] + tile // asked[PIECES]
    place = asked[START] + row
    if row >= asked[LAST] or place >= asked[END]:
        return 0
    if asked[ROW_NUMBERS]:
        place = int64_at(asked[ROW_NUMBERS])[place]
    return asked[DATA] + place * asked[PITCH] + asked[BEGIN] + tile % asked[PIECES] * asked[LENGTH]
