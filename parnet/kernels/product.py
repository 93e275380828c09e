"""Matrix products: forward, weight gradient and input gradient of every linear layer. Stage: kernels.

All three are the tile of `tile.py`; they differ in strides, in who owns what and in what becomes of the sums:

    forward          Y (rows, F)  = X (rows, K) . W (K, F)        columns owned: a part's panels of W stay in its cache
    weight gradient  dW (K, F)    = X^T . dY                      the same panels
    input gradient   dX (rows, K) = dY . W^T                      K owned; computed as dX^T = W . dY^T, so that W is
                                                                  read as it lies, and transposed on the way out
What a part reads or writes again and again lies in memory of its own: where parts own neighbouring columns of a matrix, the
prefetchers of each core keep fetching the other's lines (`own_lines`). Must not know: layers.
"""

from __future__ import annotations

from .ahead import LENGTH, NOTHING, TERMS, part_of_next, piece_of_next
from .control import ACCUMULATE, RATES, RATES_PER_STEP, ROWS, SCRATCH, STEP
from .declare import device, kernel
from .dot import dot_rows, make_dots
from .intrinsics import address_of, at, float64_at, lanes, like, pointer_at
from .share import TILE_ROWS, TILE_VECTORS, rectangle, stride_of, weights_of
from .step import ADDS, ALWAYS_STORES, LINE, NARROW, PANEL, RIDES
from .step import SCRATCH as SPARE
from .target import simd
from .tile import ADD, CONTINUE, STORE, make_tile, transpose_block

MASK_ALWAYS = simd() == "avx512"  # there a masked load costs what a plain one does, and half of the tiles do not exist
#: columns of a narrow panel that are made at a time
FEWEST = 4
dots, DOT_ROWS = make_dots(FEWEST), dot_rows()
fewest_tile = make_tile(TILE_VECTORS, True, rows=FEWEST)
#: weights of more numbers do not stay in a core's own cache: their next block is asked for while this one is used. 2048 x
#: 2048 forward: 103 GFLOP/s for 91
FAR = 200_000
#: rows of A that are used by all panels before the next are fetched: with k = 784, 200 KB
ROW_BLOCK = 64
#: the same of a weight gradient, which reads a line of each row: 784 x 200 for 512 rows 1.64 ms, 1.79 with 64 at a time.
#: Each tile asks for the next line of each row: two threads of 784-100-10 at batch 512 take 2.18 us a sample, 2.27 without
LINE_BLOCK = 32
#: features of the input whose gradient is made at a time: their weights stay in the second cache for all rows. With 16
#: of 2048 x 2048 the rows came from memory again and again: 58 GFLOP/s for 85
HIGH = 64
#: more columns of a weight gradient are made panel by panel for FEATURES features and all rows, 48 columns of dY in the
#: first cache meanwhile: 2048 x 2048 at 92 GFLOP/s, 74 with all columns for 16 features at a time. That is better for few
#: columns and many rows: each row of X comes once (100 columns for 512 rows: 102 GFLOP/s for 86)
FEW, FEATURES = 192, 512
#: rows so many numbers apart each lie on a page of their own
APART = 1024

one_masked, two_masked, three_masked = make_tile(1, True), make_tile(2, True), make_tile(min(3, TILE_VECTORS), True)
one, two, three = make_tile(1, False), make_tile(2, False), make_tile(min(3, TILE_VECTORS), False)


@device
def tiles(row, rows, column, columns, k, a, a_row, a_k, b, b_k, c, c_row, mode, scale, ahead, further, asked, done):
    """C[row:rows, column:columns] by tiles, the rows within a block of columns, k whole.

    ahead: where the next block of B lies from this one, 0 if it need not be asked for: each of the first tiles asks for a
    line of each row. further: of A, how many numbers further each tile asks for a line of each k, 0 for none.
    asked: what is asked for of the next batch, see `ahead.py`; done: how many tiles have.
    """
    width, size = lanes(c), address_of(at(b, 1)) - address_of(b)
    j = column
    while j < columns:
        vectors = min((columns - j + width - 1) // width, TILE_VECTORS)
        tail = min(columns - j - (vectors - 1) * width, width)
        b_at = at(b, j)
        for i in range(row, rows, TILE_ROWS):
            a_at, c_at, left = at(a, i * a_row), at(c, i * c_row + j), rows - i
            turn = (i - row) // TILE_ROWS
            soon, soon_k = address_of(at(b_at, ahead + min(2, turn) * LINE if ahead else 0)), b_k * size
            if further:
                soon, soon_k = address_of(at(a_at, further)), a_k * size
            piece = piece_of_next(asked, done + turn)
            if piece:
                soon, soon_k = piece, (asked[LENGTH] + k - 1) // k
            if MASK_ALWAYS:
                if vectors == 3:
                    three_masked(k, a_at, a_row, a_k, b_at, b_k, c_at, c_row, left, tail, mode, scale, soon, soon_k)
                elif vectors == 2:
                    two_masked(k, a_at, a_row, a_k, b_at, b_k, c_at, c_row, left, tail, mode, scale, soon, soon_k)
                else:
                    one_masked(k, a_at, a_row, a_k, b_at, b_k, c_at, c_row, left, tail, mode, scale, soon, soon_k)
            elif tail == width:
                if vectors == 2:
                    two(k, a_at, a_row, a_k, b_at, b_k, c_at, c_row, left, tail, mode, scale, soon, soon_k)
                elif vectors == 1:
                    one(k, a_at, a_row, a_k, b_at, b_k, c_at, c_row, left, tail, mode, scale, soon, soon_k)
                else:
                    three(k, a_at, a_row, a_k, b_at, b_k, c_at, c_row, left, tail, mode, scale, soon, soon_k)
            elif vectors == 2:
                two_masked(k, a_at, a_row, a_k, b_at, b_k, c_at, c_row, left, tail, mode, scale, soon, soon_k)
            elif vectors == 1:
                one_masked(k, a_at, a_row, a_k, b_at, b_k, c_at, c_row, left, tail, mode, scale, soon, soon_k)
            else:
                three_masked(k, a_at, a_row, a_k, b_at, b_k, c_at, c_row, left, tail, mode, scale, soon, soon_k)
        j += vectors * width


@device
def is_narrow(width, column):
    """Whether the panel that starts at `column` is stored transposed."""
    return column > 0 and width - column <= NARROW


@device
def copy_block(source, source_row, out, out_row, rows, columns):
    """out = source, (rows, columns)."""
    for i in range(rows):
        a, b = at(source, i * source_row), at(out, i * out_row)
        for j in range(columns):
            b[j] = a[j]


@device
def own_lines(ctl, source, source_row, rows, columns, parts):
    """A block of a matrix and the distance of its rows: a copy in the part's scratch memory, if it fits, where others own
    what lies beside it or each of its rows lies on a page of its own; else as it is.

    784-100-10 at batch 32 on two threads: without it a weight gradient of 22 us a part took 32, at 96 units 66.
    """
    spare, row = pointer_at(source, ctl[SCRATCH]), stride_of(columns)
    if (parts == 1 and source_row < APART) or rows * row > SPARE:
        return source, source_row
    copy_block(source, source_row, spare, row, rows, columns)
    return spare, row


@device
def panel_forward(row, rows, wide, k, block, x, x_row, panel, y, y_row, far, asked, done):
    """Y = X . panel, in blocks of k that stay in the cache; the chain of sums goes on, so the bits are those of one block.

    Returns how many tiles have asked for a piece of the next batch: those of whole blocks.
    """
    for first in range(0, k, block):
        depth, mode = min(block, k - first), STORE if first == 0 else CONTINUE
        b_row = stride_of(wide)
        ahead = depth * b_row if far else 0
        a, b, none = at(x, first), at(panel, first * b_row), like(y, 0)
        now = asked if depth == block else NOTHING
        tiles(row, rows, 0, wide, depth, a, x_row, 1, b, b_row, y, y_row, mode, none, ahead, 0, now, done)
        done += tiles_of(rows - row) if depth == block else 0
    return done


@device
def tiles_of(rows):
    """Tiles that so many rows make up."""
    return (rows + TILE_ROWS - 1) // TILE_ROWS


@kernel
def forward(op, ctl, mem, part, parts):
    """x (rows, K), w (K, F) in panels -> y (rows, F) written; FLOPs 2 rows K F.

    op: x, w, y, K, F, share, then what is asked for meanwhile, see `ahead.py`.
    Owner: columns of y, or rows where there are few columns.
    """
    x, w, y, k, width = at(mem, op[0]), at(mem, op[1]), at(mem, op[2]), op[3], op[4]
    x_row, y_row = stride_of(k), stride_of(width)
    r0, r1, c0, c1 = rectangle(op[5], ctl[ROWS], width, part, parts)
    panels = (c1 - c0 + PANEL - 1) // PANEL
    panels -= is_narrow(width, c0 + (panels - 1) * PANEL)
    block, done = op[6 + TERMS], 0
    asked = part_of_next(ctl, at(op, 6), panels * (k // block) * tiles_of(r1 - r0), part, parts)
    far = k * (c1 - c0) > FAR
    for row in range(r0, r1, ROW_BLOCK):
        rows = min(row + ROW_BLOCK, r1)
        for c in range(c0, c1, PANEL):
            panel, wide = at(w, c * k), min(PANEL, c1 - c)
            if is_narrow(width, c):
                for i in range(row, rows, DOT_ROWS):
                    a, out = at(x, i * x_row), at(y, i * y_row + c)
                    for j in range(0, wide, FEWEST):
                        b, some = at(panel, j * stride_of(k)), min(wide - j, FEWEST)
                        dots(k, a, x_row, b, stride_of(k), at(out, j), y_row, min(rows - i, DOT_ROWS), some)
            elif parts == 1 or k <= block:
                done = panel_forward(row, rows, wide, k, block, x, x_row, panel, at(y, c), y_row, far, asked, done)
            else:  # see `own_lines`
                spare = pointer_at(mem, ctl[SCRATCH])
                a = at(x, row * x_row)
                done = panel_forward(0, rows - row, wide, k, block, a, x_row, panel, spare, PANEL, far, asked, done)
                copy_block(spare, PANEL, at(y, row * y_row + c), y_row, rows - row, wide)


@device
def gradient_mode(ctl, mem, update):
    """What becomes of a weight gradient: (mode, scale): stored, added to what is there, or W += -rate * gradient.

    update: STORES, or added where the run says so (ACCUMULATE); RIDES: W += -rate * gradient; ADDS: always, the part of a
    shared layer's further call; ALWAYS_STORES, for another step that goes on with it.
    """
    if update == ALWAYS_STORES:
        return STORE, like(mem, 0)
    if update == ADDS:
        return ADD, like(mem, 1)
    if update == RIDES:
        return ADD, like(mem, -float64_at(ctl[RATES])[ctl[STEP] * RATES_PER_STEP])
    if ctl[ACCUMULATE]:
        return ADD, like(mem, 1)
    return STORE, like(mem, 0)


@kernel
def weight_gradient(op, ctl, mem, part, parts):
    """x (rows, K), dy (rows, F) -> dw (K, F) in panels written or added to, or w updated; FLOPs 2 rows K F.

    op: x, dy, dw, K, F, update (1: dw is w, and w += -rate * gradient), share.   Owner: columns or rows of dw.
    """
    x, dy, dw, height, width = at(mem, op[0]), at(mem, op[1]), at(mem, op[2]), op[3], op[4]
    mode, scale = gradient_mode(ctl, mem, op[5])
    x_row, dy_row = stride_of(height), stride_of(width)
    r0, r1, c0, c1 = weights_of(op[6], height, width, part, parts)
    rows, wide = ctl[ROWS], c1 - c0 > FEW
    block = max(1, rows) if mode == ADD else LINE_BLOCK  # a sum that is added at its end cannot be made in pieces
    features = FEATURES if wide or rows <= block else LINE
    further = LINE if features == LINE else 0
    last = width // PANEL * PANEL
    end = last if is_narrow(width, last) and last < c1 else c1
    for start in range(0, rows, max(1, rows) if wide else block):
        stop = rows if wide else min(start + block, rows)
        near, near_row = at(dy, start * dy_row + c0), dy_row
        if not wide:
            near, near_row = own_lines(ctl, near, dy_row, stop - start, c1 - c0, parts)
        for i in range(r0, r1, features):
            for c in range(c0, end, PANEL):
                high, span = min(i + features, r1), min(PANEL, end - c)
                for first in range(start, stop, block):
                    k, b, b_row = min(block, rows - first), at(near, c - c0), near_row
                    if wide:
                        b, b_row = own_lines(ctl, at(dy, first * dy_row + c), dy_row, k, span, parts)
                    a, out, row, now = at(x, first * x_row), at(dw, c * height), stride_of(span), CONTINUE if first else mode
                    tiles(i, high, 0, span, k, a, 1, x_row, b, b_row, out, row, now, scale, 0, further, NOTHING, 0)
        if end < c1:
            for first in range(start, stop, block):
                k, a, now = min(block, rows - first), at(x, first * x_row), CONTINUE if first else mode
                b, b_row = (at(dy, first * dy_row + end), dy_row) if wide else (at(near, end - c0), near_row)
                narrow_gradient(r0, r1, k, a, x_row, b, b_row, at(dw, end * height), x_row, c1 - end, now, scale)


@device
def narrow_gradient(i, high, k, x, x_row, dy, dy_row, panel, row, wide, mode, scale):
    """The same for a last panel of few columns, which lies transposed."""
    span, left = TILE_VECTORS * lanes(x), i
    while wide <= FEWEST and high - left > span - lanes(x):
        tail = min(high - left, span) - (span - lanes(x))
        b, c = at(x, left), at(panel, left)
        fewest_tile(k, dy, 1, dy_row, b, x_row, c, row, wide, tail, mode, scale, address_of(b), 0)
        left += span
    tiles(0, wide, min(left, high), high, k, dy, 1, dy_row, x, x_row, panel, row, mode, scale, 0, 0, NOTHING, 0)


@device
def turn(source, source_row, out, out_row, rows, columns):
    """out (columns, rows) = source (rows, columns) transposed: whole blocks in registers, the rest one by one."""
    run = lanes(source)
    for i in range(0, rows, run):
        for j in range(0, columns, run):
            if i + run <= rows and j + run <= columns:
                transpose_block(at(source, i * source_row + j), source_row, at(out, j * out_row + i), out_row)
            else:
                for r in range(i, min(i + run, rows)):
                    for q in range(j, min(j + run, columns)):
                        out[q * out_row + r] = source[r * source_row + q]


@kernel
def transpose(op, ctl, mem, part, parts):
    """x (rows, width) -> y (width, rows) written, its rows as far apart as those of a full batch.

    op: x, y, width, batch, share.   Owner: columns or rows of x.
    """
    x_row, y_row = stride_of(op[2]), stride_of(op[3])
    r0, r1, c0, c1 = rectangle(op[4], ctl[ROWS], op[2], part, parts)
    turn(at(mem, op[0] + r0 * x_row + c0), x_row, at(mem, op[1] + c0 * y_row + r0), y_row, r1 - r0, c1 - c0)


@kernel
def input_gradient(op, ctl, mem, part, parts):
    """w (K, F) in panels, dyt (F, batch) -> dx (rows, K) written; FLOPs 2 rows K F.

    op: w, dyt, dx, K, F, batch, share.   Owner: columns or rows of dx.
    A block of lanes x rows sums is made in the part's scratch memory and goes from there to dx.
    """
    w, dyt, dx, height, width = at(mem, op[0]), at(mem, op[1]), at(mem, op[2]), op[3], op[4]
    dx_row, dyt_row = stride_of(height), stride_of(op[5])
    block, run = pointer_at(mem, ctl[SCRATCH]), lanes(mem)
    r0, r1, first, last = rectangle(op[6], ctl[ROWS], height, part, parts)
    span, far = TILE_VECTORS * run, height * width > FAR
    for j in range(first, last, HIGH):
        high = min(HIGH, last - j)
        for i in range(r0, r1, span):
            wide = min(span, r1 - i)
            for c in range(0, width, PANEL):
                panel, k, mode = at(w, c * height), min(PANEL, width - c), STORE if c == 0 else CONTINUE
                b = at(dyt, c * dyt_row + i)
                if is_narrow(width, c):
                    a, a_row, a_k = at(panel, j), 1, stride_of(height)
                else:
                    a, a_row, a_k = at(panel, j * stride_of(k)), stride_of(k), 1
                none, ahead = like(mem, 0), PANEL * dyt_row if far else 0
                tiles(0, high, 0, wide, k, a, a_row, a_k, b, dyt_row, block, span, mode, none, ahead, 0, NOTHING, 0)
            turn(block, span, at(dx, i * dx_row + j), dx_row, high, wide)
