"""Gradients of virtual shards, folded along a fixed binary tree. Stage: kernels. Must not know: workers, who folds what.

A batch of B rows is cut into V shards of consecutive rows: shard s has the rows B s // V up to B (s + 1) // V, so that
sizes differ by one at most and small batches leave some shards empty. The tree adds shards 2k and 2k + 1, then their sums
in pairs, and so on; what has no partner goes up as it is, and an empty shard is no term. The tree hangs on V alone.
"""

from __future__ import annotations

from .control import ACCUMULATE, SCRATCH, SHARDS, WHOLE
from .declare import device, kernel
from .entries import rows_before, rows_in
from .intrinsics import at, lanes, pointer_at
from .share import run_of

#: numbers folded at a time: the sums of all levels of the tree stay in the nearest cache
BLOCK = 512
#: levels of the tree: enough for MOST_SHARDS
LEVELS = 7


first_row, shard_rows = device(rows_before), device(rows_in)


@device
def add(out, a, b, n):
    """out = a + b, n numbers."""
    for j in range(n):
        out[j] = a[j] + b[j]


@device
def copy(out, a, n):
    """out = a, n numbers."""
    for j in range(n):
        out[j] = a[j]


@device
def fold_block(base, stride, rows, begin, end, shards, levels, n):
    """The sum over the shards begin..end of n numbers, `stride` apart from shard to shard, along the tree.

    begin .. end is all of 0 .. shards, or a node of the tree.   levels: LEVELS * BLOCK numbers of scratch; level l holds
    the finished sum of 2**l shards. Returns where the sum lies.
    """
    there = 0  # bit l: level l holds the sum of shards that wait for their right neighbours
    for s in range(end - begin):
        mine = shard_rows(rows, begin + s, shards) > 0
        source, level = at(base, s * stride), 0
        while s >> level & 1:
            if there >> level & 1:
                waiting = at(levels, level * BLOCK)
                if mine:
                    add(waiting, waiting, source, n)
                source, mine = waiting, True
                there &= ~(1 << level)
            level += 1
        if mine:
            copy(at(levels, level * BLOCK), source, n)
            there |= 1 << level
    result, found = levels, False
    for level in range(LEVELS):
        if there >> level & 1:
            here = at(levels, level * BLOCK)
            if found:
                add(here, here, result, n)
            result, found = here, True
    return result


@kernel
def fold(op, ctl, mem, part, parts):
    """Gradients of the shards (V, n) -> dw (n,) written or added to (ACCUMULATE).

    op: shards, stride from shard to shard, dw, n.   Owner: runs of dw.
    """
    base, stride, dw, rows, shards = at(mem, op[0]), op[1], at(mem, op[2]), ctl[WHOLE], ctl[SHARDS]
    levels = pointer_at(mem, ctl[SCRATCH])
    first, last = run_of(op[3], lanes(mem), part, parts)
    for j in range(first, last, BLOCK):
        n, out = min(BLOCK, last - j), at(dw, j)
        if shards == 2 and rows > 1:
            total = levels
            add(total, at(base, j), at(base, stride + j), n)
        else:
            total = fold_block(at(base, j), stride, rows, 0, shards, shards, levels, n)
        if ctl[ACCUMULATE]:
            add(out, out, total, n)
        else:
            copy(out, total, n)


@kernel
def fold_node(op, ctl, mem, part, parts):
    """Gradients of a node of the tree, shards begin..end (end - begin, n) -> sum (n,) written; anything if all are empty.

    op: shards, stride from shard to shard, begin, end, sum, n.   Owner: runs of the sum.
    """
    base, rows, shards = at(mem, op[0]), ctl[WHOLE], ctl[SHARDS]
    levels = pointer_at(mem, ctl[SCRATCH])
    first, last = run_of(op[5], lanes(mem), part, parts)
    for j in range(first, last, BLOCK):
        n, out = min(BLOCK, last - j), at(mem, op[4] + j)
        copy(out, fold_block(at(base, j), op[1], rows, op[2], op[3], shards, levels, n), n)
