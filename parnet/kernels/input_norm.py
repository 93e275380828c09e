"""Gradients of a batch normalisation at a model's inputs, by way of the weights behind it. Stage: kernels.

    y = gamma h + beta,   z = y W + b          h = (x - mean) / sqrt(var + eps)

Nobody needs the gradient of x, so dY = dZ W^T, a third of the work of both layers, need not be made: in the sums over
rows and units the rows may come first.

    G = h^T dZ,   s = sum of dZ over the rows          a weight gradient (`product.py`), a bias gradient
    dW[k, f] = gamma[k] G[k, f] + beta[k] s[f]
    dgamma[k] = sum over f of W[k, f] G[k, f],   dbeta[k] = sum over f of W[k, f] s[f]

The sums over f are made panel by panel, whoever owns the panel, and then added up: the bits do not depend on the number
of parts. Must not know: layers.
"""

from __future__ import annotations

from .ahead import NOTHING
from .control import ROWS, SCRATCH
from .declare import device, kernel
from .intrinsics import at, pointer_at
from .product import gradient_mode, is_narrow, narrow_gradient, own_lines, tiles, turn
from .reduce import CHUNK, deliver, sum_rows
from .share import columns, stride_of, weights_of
from .spread import LEFT, make_spread, spread_columns
from .step import LINE, PANEL
from .step import SCRATCH as SPARE
from .tile import ADD, STORE

spread_panel, spread_row = make_spread(PANEL), make_spread()
#: numbers of scratch memory for a block of G, the sums of dZ, and what LINE rows leave, as it is and turned
BLOCK = LINE * PANEL
TOTALS, LEFTS, TURNED = BLOCK, BLOCK + PANEL, BLOCK + PANEL + 2 * LEFT * LINE
OWN = TURNED + 2 * LEFT * LINE


@kernel
def standardise(op, ctl, mem, part, parts):
    """x (rows, K) -> h (rows, K) = (x - mean) inverse.   op: x, h, mean, inverse, K.   Owner: columns."""
    mean, inverse, width = at(mem, op[2]), at(mem, op[3]), op[4]
    first, last = columns(width, part, parts)
    for i in range(ctl[ROWS]):
        x, h = at(mem, op[0] + i * stride_of(width)), at(mem, op[1] + i * stride_of(width))
        for j in range(first, last):
            h[j] = (x[j] - mean[j]) * inverse[j]


@kernel
def spread(op, ctl, mem, part, parts):
    """w (K, F) in panels, h (rows, K), dz (rows, F), gamma, beta (K,) -> dw (K, F) written, added to, or w updated; sums
    (2 panels, K) written: for each panel those of w g over its columns, and of w s. FLOPs 2 rows K F + 8 K F.

    op: w, h, dz, gamma, beta, dw, sums, K, F, update, share, g, whether g (K, F) in panels holds h^T dz already.
    Owner: columns or rows of dw.
    """
    height, width, rows = op[7], op[8], ctl[ROWS]
    r0, r1, c0, c1 = weights_of(op[10], height, width, part, parts)
    block = at(pointer_at(mem, ctl[SCRATCH]), SPARE - OWN)
    for c in range(c0, c1, PANEL):
        wide, dz, dz_row = min(PANEL, c1 - c), at(mem, op[2] + c), stride_of(width)
        if rows * PANEL <= SPARE - OWN:
            dz, dz_row = own_lines(ctl, dz, dz_row, rows, wide, parts)
        sum_rows(rows, dz, dz_row, at(block, TOTALS), wide)
        if is_narrow(width, c):
            for i in range(r0, r1, PANEL):
                narrow_block(op, ctl, mem, c, i, min(PANEL, r1 - i), wide, dz, dz_row, block)
        else:
            for i in range(r0, r1, LINE):
                panel_block(op, ctl, mem, c, i, min(LINE, r1 - i), wide, dz, dz_row, block)


@device
def panel_block(op, ctl, mem, c, i, count, wide, dz, dz_row, block):
    """Rows i, i + 1, ... of the panel whose first column is c."""
    height, row, s, lefts = op[7], stride_of(wide), at(block, TOTALS), at(block, LEFTS)
    start = c * height + i * row
    mode, scale = gradient_mode(ctl, mem, op[9])
    w, g, g_row, dw = at(mem, op[0] + start), block, PANEL, at(mem, op[5] + start)
    if op[12]:
        g, g_row = at(mem, op[11] + start), row
    else:
        h, h_row = at(mem, op[1] + i), stride_of(height)
        tiles(0, count, 0, wide, ctl[ROWS], h, 1, h_row, dz, dz_row, block, PANEL, STORE, scale, 0, 0, NOTHING, 0)
    gamma, beta = at(mem, op[3] + i), at(mem, op[4] + i)
    for r in range(count):
        old, now, out, left = at(w, r * row), at(g, r * g_row), at(dw, r * row), at(lefts, 2 * LEFT * r)
        if wide == PANEL:
            spread_panel(wide, old, now, s, out, gamma[r], beta[r], left, scale, mode == ADD)
        else:
            spread_row(wide, old, now, s, out, gamma[r], beta[r], left, scale, mode == ADD)
    turned = at(block, TURNED)
    turn(lefts, 2 * LEFT, turned, LINE, LINE, 2 * LEFT)
    of_g = at(mem, op[6] + 2 * (c // PANEL) * stride_of(height) + i)
    add_halves(turned, of_g, count)
    add_halves(at(turned, LEFT * LINE), at(of_g, stride_of(height)), count)


@device
def add_halves(strands, out, count):
    """out[r] = the strands of row r, LEFT rows of LINE numbers, added in halves."""
    half = LEFT // 2
    while half > 0:
        far = at(strands, half * LINE)
        for j in range(half * LINE):
            strands[j] += far[j]
        half //= 2
    for r in range(count):
        out[r] = strands[r]


@device
def narrow_block(op, ctl, mem, c, i, count, wide, dz, dz_row, block):
    """The same for a last panel of few columns, which lies transposed."""
    height, row, s = op[7], stride_of(op[7]), at(block, TOTALS)
    start = c * height + i
    mode, scale = gradient_mode(ctl, mem, op[9])
    g, g_row = at(mem, op[11] + start), row
    if not op[12]:
        g, g_row = block, PANEL
        narrow_gradient(0, count, ctl[ROWS], at(mem, op[1] + i), row, dz, dz_row, block, PANEL, wide, STORE, scale)
    gamma, beta = at(mem, op[3] + i), at(mem, op[4] + i)
    w, dw = at(mem, op[0] + start), at(mem, op[5] + start)
    of_g = at(mem, op[6] + 2 * (c // PANEL) * row + i)
    spread_columns(count, wide, w, g, g_row, s, dw, row, gamma, beta, of_g, at(of_g, row), scale, mode == ADD)


@kernel
def collect(op, ctl, mem, part, parts):
    """sums (2 panels, K) -> dgamma, dbeta (K,) written, added to, or updated.

    op: sums, dgamma, dbeta, K, panels, update.   Owner: columns.
    """
    sums, width, panels = at(mem, op[0]), op[3], op[4]
    mode, scale = gradient_mode(ctl, mem, op[5])
    total, row = pointer_at(mem, ctl[SCRATCH]), stride_of(width)
    first, last = columns(width, part, parts)
    for j in range(first, last, CHUNK):
        n = min(CHUNK, last - j)
        sum_rows(panels, at(sums, j), 2 * row, total, n)
        deliver(at(mem, op[1] + j), total, n, mode, scale)
        sum_rows(panels, at(sums, row + j), 2 * row, total, n)
        deliver(at(mem, op[2] + j), total, n, mode, scale)
