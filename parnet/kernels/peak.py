"""What a core can do at most: the register tile on numbers that never leave the first-level cache, and a loop that only
moves numbers. Stage: kernels; `parnet.study.peaks` times them. Must not know: what is compared with them.
"""

from __future__ import annotations

from .declare import device, kernel
from .intrinsics import address_of, at, like
from .product import three
from .share import TILE_ROWS
from .tile import STORE


@kernel
def tile(op, ctl, mem, part, parts):
    """The widest tile over and over on a handful of cache lines; FLOPs 2 rows columns depth.

    op: depth, numbers from one part's operands to the next part's.
    """
    mine = at(mem, part * op[1])
    b, c = at(mine, 64), at(mine, 256)
    three(op[0], mine, 1, 0, b, 0, c, 256, TILE_ROWS, 0, STORE, like(mem, 0), address_of(b), 0)


@device
def triad_once(n, a, b, c, factor):
    """a[:n] = b[:n] + factor * c[:n]"""
    for i in range(n):
        a[i] = b[i] + factor * c[i]


@kernel
def triad(op, ctl, mem, part, parts):
    """a = b + f c again and again, on vectors that lie one behind the other: 3 n numbers are moved each time.

    op: n, numbers from one part's operands to the next part's, times.
    Source: J. McCalpin, "Memory bandwidth and machine balance", 1995: the kernel Triad of STREAM.
    """
    mine, n = at(mem, part * op[1]), op[0]
    for _ in range(op[2]):
        triad_once(n, mine, at(mine, n), at(mine, 2 * n), like(mem, 0.5))
