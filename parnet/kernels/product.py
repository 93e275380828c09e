"""Matrix products: forward, weight gradient and input gradient of every linear layer. Stage: kernels.

All three are the tile of `tile.py`; they differ in strides, in who owns what and in what becomes of the sums:

    forward          Y (rows, F)  = X (rows, K) . W (K, F)        columns owned: a part's columns of W stay in its cache
    weight gradient  dW (K, F)    = X^T . dY                      the same columns
    input gradient   dX (rows, K) = dY . W^T                      K owned; computed as dX^T = W . dY^T, so that W is
                                                                  read as it lies, and transposed on the way out
Must not know: layers.
"""

from __future__ import annotations

from .control import ACCUMULATE, RATES, RATES_PER_STEP, ROWS, SCRATCH, STEP
from .declare import device, kernel
from .intrinsics import at, float64_at, lanes, like, pointer_at
from .share import TILE_ROWS, TILE_VECTORS, cut, rectangle, stride_of
from .target import simd
from .tile import ADD, CONTINUE, STORE, make_tile, transpose_block

MASK_ALWAYS = simd() == "avx512"  # there a masked load costs what a plain one does, and half of the tiles do not exist
DEPTH = 192  # of a block of k: 192 x 48 numbers of B, 36 KB, are used by all row tiles before the next are fetched

one_masked, two_masked, three_masked = make_tile(1, True), make_tile(2, True), make_tile(min(3, TILE_VECTORS), True)
one, two, three = make_tile(1, False), make_tile(2, False), make_tile(min(3, TILE_VECTORS), False)


@device
def tiles(row, rows, column, columns, k, a, a_row, a_k, b, b_k, c, c_row, mode, scale):
    """C[row:rows, column:columns] by tiles, the rows within a block of columns, k whole."""
    width = lanes(c)
    j = column
    while j < columns:
        vectors = min((columns - j + width - 1) // width, TILE_VECTORS)
        tail = min(columns - j - (vectors - 1) * width, width)
        b_at = at(b, j)
        for i in range(row, rows, TILE_ROWS):
            a_at, c_at, left = at(a, i * a_row), at(c, i * c_row + j), rows - i
            if MASK_ALWAYS:
                if vectors == 3:
                    three_masked(k, a_at, a_row, a_k, b_at, b_k, c_at, c_row, left, tail, mode, scale)
                elif vectors == 2:
                    two_masked(k, a_at, a_row, a_k, b_at, b_k, c_at, c_row, left, tail, mode, scale)
                else:
                    one_masked(k, a_at, a_row, a_k, b_at, b_k, c_at, c_row, left, tail, mode, scale)
            elif tail == width:
                if vectors == 2:
                    two(k, a_at, a_row, a_k, b_at, b_k, c_at, c_row, left, tail, mode, scale)
                elif vectors == 1:
                    one(k, a_at, a_row, a_k, b_at, b_k, c_at, c_row, left, tail, mode, scale)
                else:
                    three(k, a_at, a_row, a_k, b_at, b_k, c_at, c_row, left, tail, mode, scale)
            elif vectors == 2:
                two_masked(k, a_at, a_row, a_k, b_at, b_k, c_at, c_row, left, tail, mode, scale)
            elif vectors == 1:
                one_masked(k, a_at, a_row, a_k, b_at, b_k, c_at, c_row, left, tail, mode, scale)
            else:
                three_masked(k, a_at, a_row, a_k, b_at, b_k, c_at, c_row, left, tail, mode, scale)
        j += vectors * width


@device
def blocked(row, rows, column, columns, k, a, a_row, a_k, b, b_k, c, c_row, mode, scale):
    """The same, k in blocks: the chain of sums goes on from block to block, so the bits are those of `tiles`."""
    if mode == ADD or k <= DEPTH:
        tiles(row, rows, column, columns, k, a, a_row, a_k, b, b_k, c, c_row, mode, scale)
        return
    step = TILE_VECTORS * lanes(c)
    for j in range(column, columns, step):
        for first in range(0, k, DEPTH):
            depth, now = min(DEPTH, k - first), STORE if first == 0 else CONTINUE
            last = min(j + step, columns)
            a_at, b_at = at(a, first * a_k), at(b, first * b_k)
            tiles(row, rows, j, last, depth, a_at, a_row, a_k, b_at, b_k, c, c_row, now, scale)


@kernel
def forward(op, ctl, mem, part, parts):
    """x (rows, K), w (K, F) -> y (rows, F) written; FLOPs 2 rows K F.

    op: x, w, y, K, F, share.   Owner: columns of y, or rows where there are few columns.
    """
    x, w, y, depth, width = at(mem, op[0]), at(mem, op[1]), at(mem, op[2]), op[3], op[4]
    x_row, y_row = stride_of(depth), stride_of(width)
    r0, r1, c0, c1 = rectangle(op[5], ctl[ROWS], width, lanes(mem), part, parts)
    blocked(r0, r1, c0, c1, depth, x, x_row, 1, w, y_row, y, y_row, STORE, like(mem, 0))


@device
def gradient_mode(ctl, mem, update):
    """What becomes of a weight gradient: (mode, scale): stored, added to what is there, or W += -rate * gradient."""
    if update:
        return ADD, like(mem, -float64_at(ctl[RATES])[ctl[STEP] * RATES_PER_STEP])
    if ctl[ACCUMULATE]:
        return ADD, like(mem, 1)
    return STORE, like(mem, 0)


@kernel
def weight_gradient(op, ctl, mem, part, parts):
    """x (rows, K), dy (rows, F) -> dw (K, F) written or added to, or w (K, F) updated; FLOPs 2 rows K F.

    op: x, dy, dw, K, F, update (1: dw is w, and w += -rate * gradient), share.   Owner: columns or rows of
    dw.
    """
    x, dy, dw, height, width = at(mem, op[0]), at(mem, op[1]), at(mem, op[2]), op[3], op[4]
    mode, scale = gradient_mode(ctl, mem, op[5])
    x_row, row = stride_of(height), stride_of(width)
    r0, r1, c0, c1 = rectangle(op[6], height, width, lanes(mem), part, parts)
    tiles(r0, r1, c0, c1, ctl[ROWS], x, 1, x_row, dy, row, dw, row, mode, scale)


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

    op: x, y, width, batch.   Owner: columns of x.
    """
    x, y, width = at(mem, op[0]), at(mem, op[1]), op[2]
    x_row, y_row = stride_of(width), stride_of(op[3])
    first, last = cut(width, lanes(mem), part, parts)
    turn(at(x, first), x_row, at(y, first * y_row), y_row, ctl[ROWS], last - first)


@kernel
def input_gradient(op, ctl, mem, part, parts):
    """w (K, F), dyt (F, batch) -> dx (rows, K) written; FLOPs 2 rows K F.

    op: w, dyt, dx, K, F, batch.   Owner: columns of dx, in runs of a vector.
    A block of lanes x rows sums is made in the part's scratch memory and goes from there to dx.
    """
    w, dyt, dx, height, depth = at(mem, op[0]), at(mem, op[1]), at(mem, op[2]), op[3], op[4]
    w_row, dx_row, dyt_row = stride_of(depth), stride_of(height), stride_of(op[5])
    block, rows, run = pointer_at(mem, ctl[SCRATCH]), ctl[ROWS], lanes(mem)
    first, last = cut(height, run, part, parts)
    span = TILE_VECTORS * run
    for j in range(first, last, run):
        high = min(run, last - j)
        for i in range(0, rows, span):
            wide = min(span, rows - i)
            tiles(0, high, 0, wide, depth, at(w, j * w_row), w_row, 1, at(dyt, i), dyt_row, block, span, STORE, like(mem, 0))
            turn(block, span, at(dx, i * dx_row + j), dx_row, high, wide)
