"""Sums over rows, and over long vectors in fixed blocks. Stage: kernels. Must not know: what is summed.

A sum over rows adds them in rising order, each column by one part. A sum over a long vector adds up blocks of BLOCK
numbers, then the blocks in order: the number of parts cannot be seen in the result.
"""

from __future__ import annotations

from .control import ROWS, SCRATCH
from .declare import device, kernel
from .intrinsics import at, float_word, lanes, like, pointer_at, square_root
from .product import gradient_mode
from .share import columns, cut, run_of, stride_of, whole
from .strands import sum_of_magnitudes, sum_of_squares
from .tile import ADD

BLOCK = 4096
#: columns summed at a time; part of the scratch memory holds their sums
CHUNK = 512


@device
def sum_rows(rows, x, stride, sums, n):
    """sums[j] = sum over i of x[i, j] for j < n, rows in rising order."""
    n = whole(n, lanes(x))
    for j in range(n):
        sums[j] = x[j]
    for i in range(1, rows):
        row = at(x, i * stride)
        for j in range(n):
            sums[j] += row[j]


@device
def deliver(gradient, sums, n, mode, scale):
    """A finished gradient goes where it belongs, see `gradient_mode`."""
    if mode == ADD:
        for j in range(n):
            gradient[j] += scale * sums[j]
    else:
        for j in range(n):
            gradient[j] = sums[j]


@kernel
def bias_gradient(op, ctl, mem, part, parts):
    """dy (rows, F) -> db (F,) written or added to, or b updated.

    op: dy, db, F, update.   Owner: columns.
    """
    dy, db, width = at(mem, op[0]), at(mem, op[1]), op[2]
    sums = pointer_at(mem, ctl[SCRATCH])
    mode, scale = gradient_mode(ctl, mem, op[3])
    first, last = columns(width, part, parts)
    for j in range(first, last, CHUNK):
        n = min(CHUNK, last - j)
        sum_rows(ctl[ROWS], at(dy, j), stride_of(width), sums, n)
        deliver(at(db, j), sums, n, mode, scale)


@kernel
def block_squares(op, ctl, mem, part, parts):
    """x (n,) -> sums (blocks,) of x^2, one a block of BLOCK numbers.   op: x, sums, n.   Owner: blocks."""
    x, sums, n = at(mem, op[0]), at(mem, op[1]), op[2]
    blocks = (n + BLOCK - 1) // BLOCK
    first, last = cut(blocks, 1, part, parts)
    for b in range(first, last):
        sums[b] = sum_of_squares(min(n - b * BLOCK, BLOCK), at(x, b * BLOCK), like(mem, 0))


@kernel
def norm_factor(op, ctl, mem, part, parts):
    """sums (blocks,) -> factor (1,) that cuts the norm to `limit`: min(1, limit / norm).

    op: sums, factor, blocks, limit.   Owner: one part.
    Source: Pascanu et al. 2013, "On the difficulty of training recurrent neural networks", algorithm 1.
    """
    sums, factor, limit = at(mem, op[0]), at(mem, op[1]), float_word(mem, op[3])
    total = like(mem, 0)
    for b in range(op[2]):
        total += sums[b]
    norm = square_root(total)
    factor[0] = limit / norm if norm > limit else like(mem, 1)


@kernel
def multiply(op, ctl, mem, part, parts):
    """x (n,) *= factor (1,).   op: x, factor, n.   Owner: runs of x."""
    x, factor = at(mem, op[0]), at(mem, op[1])[0]
    first, last = run_of(op[2], lanes(mem), part, parts)
    for j in range(first, last):
        x[j] *= factor


@kernel
def clip(op, ctl, mem, part, parts):
    """x (n,) cut to [-limit, limit]; a NaN stays one.   op: x, n, limit.   Owner: runs of x."""
    x, limit = at(mem, op[0]), float_word(mem, op[2])
    first, last = run_of(op[1], lanes(mem), part, parts)
    for j in range(first, last):
        high = limit if x[j] > limit else x[j]
        x[j] = -limit if high < -limit else high


@kernel
def penalty(op, ctl, mem, part, parts):
    """w (n,) -> out (1,) = l1 sum |w| + l2 sum w^2.   op: w, out, n, l1, l2.   Owner: one part.

    As one chain of additions the 78,400 weights of 784-100-10 took 133 of 937 us a step at batch 200.
    """
    w, n, l1, l2 = at(mem, op[0]), op[2], float_word(mem, op[3]), float_word(mem, op[4])
    total = like(mem, 0)
    if l1 != 0:
        total += l1 * sum_of_magnitudes(n, w)
    if l2 != 0:
        total += l2 * sum_of_squares(n, w, like(mem, 0))
    at(mem, op[1])[0] = total


@kernel
def penalty_gradient(op, ctl, mem, part, parts):
    """dw (n,) += l1 sign(w) + 2 l2 w.   op: w, dw, n, l1, l2.   Owner: runs of w."""
    w, dw, l1, l2 = at(mem, op[0]), at(mem, op[1]), float_word(mem, op[3]), float_word(mem, op[4])
    first, last = run_of(op[2], lanes(mem), part, parts)
    for j in range(first, last):
        sign = like(mem, 1) if w[j] > like(mem, 0) else like(mem, -1)
        sign = like(mem, 0) if w[j] == like(mem, 0) else sign
        dw[j] += l1 * sign + like(mem, 2) * l2 * w[j]
