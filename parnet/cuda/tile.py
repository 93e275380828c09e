"""The matrix product: C = A . B, tiled, register-blocked, its tiles twice in shared memory. Stage: cuda; what is
multiplied, and where the sums go, comes from `product.py`, `conv.py` and others as device functions, so that no operand is
copied into a matrix.

A block makes `rows` x `columns` sums, a thread `high` x `wide` of them in registers. While the block works on one tile of A
and B, the next comes from memory into registers, and from there into the other half of the shared memory: one barrier a
tile.

A product of few blocks and many terms is cut along its terms into pieces that do not depend on the device; their sums go to
scratch memory, and `fold` adds them in order. So the bits are the same from run to run, and no float is added atomically.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from .launch import Context, Launch
from .runtime import SIMULATED, cuda


@dataclass(frozen=True)
class Tile:
    """Sums of a block, terms a time, sums of a thread."""

    rows: int
    columns: int
    depth: int
    high: int
    wide: int

    @property
    def threads(self) -> int:
        return self.rows // self.high * (self.columns // self.wide)


#: from small to large; the simulator's have four threads each
TILES = (
    (Tile(2, 2, 2, 1, 1), Tile(4, 4, 2, 2, 2), Tile(8, 8, 4, 4, 4))
    if SIMULATED
    else (Tile(16, 16, 16, 1, 1), Tile(64, 64, 16, 4, 4), Tile(128, 128, 8, 8, 8))
)
#: a product that larger tiles cut into fewer blocks than this takes smaller ones
ENOUGH_BLOCKS = 1 if SIMULATED else 96
#: a product is cut along its terms until it has about so many blocks, but into pieces of no fewer terms than this, and no
#: more pieces
WANTED_BLOCKS, FEWEST_TERMS, MOST_PIECES = (4, 16, 2) if SIMULATED else (264, 128, 64)
#: numbers that rows of A in shared memory are further apart, so that threads that store a column meet different banks
PAD = 4


@dataclass(frozen=True)
class Operands:
    """What a product multiplies, as device functions on T; geo is a tuple of whole numbers, data that of `Sources`.

    Attributes:
        extent: (ctl, geo) -> rows, columns and terms of the product of this batch.
        row: (geo, i) -> three whole numbers that `left` wants to know of row i.
        term: (geo, k) -> three whole numbers that `left` wants to know of term k.
        left: (geo, a, row's three, term's three) -> A[i, k].
        right: (geo, b, k, j) -> B[k, j].
        store: (ctl, geo, par, c, tail, i, j, sum): put a finished sum where it belongs.
        terms_lie_together: neighbouring terms of A lie side by side in memory; else neighbouring rows do.
    """

    extent: Any
    row: Any
    term: Any
    left: Any
    right: Any
    store: Any
    terms_lie_together: bool


@cache
def product(T, operands: Operands, tile: Tile, cut: bool):
    """The kernel; cut: sums of piece z of the terms go to c[z, i, j], of a full batch's size, in place of `store`.

    geo's last two words are the terms of a piece and the sums of one.
    """
    extent, row_of, term_of = operands.extent, operands.row, operands.term
    left, right, store, together = operands.left, operands.right, operands.store, operands.terms_lie_together
    rows, columns, depth, high, wide, threads = tile.rows, tile.columns, tile.depth, tile.high, tile.wide, tile.threads
    across, loads_a, loads_b = columns // wide, rows * depth // threads, depth * columns // threads
    shape_a, shape_b = (2, depth, rows + PAD), (2, depth, columns)

    @cuda.jit(device=True)
    def row_in_a(e):
        return e // depth if together else e % rows

    @cuda.jit(device=True)
    def term_in_a(e):
        return e % depth if together else e // rows

    @cuda.jit
    def run(ctl, geo, par, a, b, c, tail):
        m, n, last = extent(ctl, geo)
        first = 0
        if cut:
            first = cuda.blockIdx.z * geo[-2]
            last = min(last, first + geo[-2])
        me = cuda.threadIdx.x
        i0, j0 = cuda.blockIdx.y * rows, cuda.blockIdx.x * columns
        if i0 >= m or j0 >= n:
            return  # the whole block does
        shared_a = cuda.shared.array(shape_a, T)  # a line each: the simulator tells them apart by their lines
        shared_b = cuda.shared.array(shape_b, T)
        sums, next_a, next_b = cuda.local.array((high, wide), T), cuda.local.array(loads_a, T), cuda.local.array(loads_b, T)
        from_a, from_b = cuda.local.array(high, T), cuda.local.array(wide, T)
        y, x = me // across * high, me % across * wide
        for u in range(high):
            for v in range(wide):
                sums[u, v] = T(0)
        now = 0
        for k0 in range(first - depth, last, depth):
            following = k0 + depth
            if following < last:
                for q in range(loads_a):
                    i, k = i0 + row_in_a(me + q * threads), following + term_in_a(me + q * threads)
                    value = T(0)
                    if i < m and k < last:
                        r0, r1, r2 = row_of(geo, i)
                        t0, t1, t2 = term_of(geo, k)
                        value = left(geo, a, r0, r1, r2, t0, t1, t2)
                    next_a[q] = value
                for q in range(loads_b):
                    e = me + q * threads
                    k, j = following + e // columns, j0 + e % columns
                    value = T(0)
                    if k < last and j < n:
                        value = right(geo, b, k, j)
                    next_b[q] = value
            if k0 >= first:
                for k in range(depth):
                    for u in range(high):
                        from_a[u] = shared_a[now, k, y + u]
                    for v in range(wide):
                        from_b[v] = shared_b[now, k, x + v]
                    for u in range(high):
                        for v in range(wide):
                            sums[u, v] += from_a[u] * from_b[v]
            if following < last:
                now = 1 - now
                for q in range(loads_a):
                    shared_a[now, term_in_a(me + q * threads), row_in_a(me + q * threads)] = next_a[q]
                for q in range(loads_b):
                    shared_b[now, (me + q * threads) // columns, (me + q * threads) % columns] = next_b[q]
                cuda.syncthreads()
        for u in range(high):
            for v in range(wide):
                i, j = i0 + y + u, j0 + x + v
                if i < m and j < n:
                    if cut:
                        c[cuda.blockIdx.z * geo[-1] + i * n + j] = sums[u, v]
                    else:
                        store(ctl, geo, par, c, tail, i, j, sums[u, v])

    return run


@cache
def fold(T, operands: Operands):
    """The sums of all pieces, added in order, go where they belong."""
    extent, store = operands.extent, operands.store

    @cuda.jit
    def run(ctl, geo, par, parts, c, tail):
        m, n, terms = extent(ctl, geo)
        pieces = (terms + geo[-2] - 1) // geo[-2]
        for e in range(cuda.grid(1), m * n, cuda.gridsize(1)):
            total = T(0)
            for z in range(pieces):
                total += parts[z * geo[-1] + e]
            store(ctl, geo, par, c, tail, e // n, e % n, total)

    return run


def choose(m: int, n: int) -> Tile:
    """The largest tile that leaves enough blocks, and is not mostly empty; the smallest if none does."""
    for tile in TILES[:0:-1]:
        if -(-m // tile.rows) * -(-n // tile.columns) >= ENOUGH_BLOCKS and n > tile.columns // 2 and m > tile.rows // 2:
            return tile
    return TILES[0]


def pieces_of(blocks: int, terms: int) -> int:
    """Into how many pieces the terms are cut."""
    return max(1, min(MOST_PIECES, -(-WANTED_BLOCKS // blocks), terms // FEWEST_TERMS))


def launches(
    c: Context, operands: Operands, extent: tuple[int, int, int], geo: tuple, par: tuple, arrays: tuple, tail: tuple
) -> list[Launch]:
    """The launches of a product of that extent (rows, columns, terms) for a full batch, of arrays (a, b, c)."""
    (m, n, terms), (a, b, out) = extent, arrays
    tile = choose(m, n)
    across, down = -(-n // tile.columns), -(-m // tile.rows)
    pieces = pieces_of(across * down, terms)
    length = -(-terms // pieces)
    geo = (*geo, length, m * n)
    if pieces == 1:
        kernel = product(c.T, operands, tile, cut=False)
        return [c.launch(kernel, (across, down), (tile.threads,), geo, par, a, b, out, tail)]
    parts = c.scratch(pieces * m * n)
    kernel = product(c.T, operands, tile, cut=True)
    first = c.launch(kernel, (across, down, pieces), (tile.threads,), geo, par, a, b, parts, tail)
    return [first, c.flat(fold(c.T, operands), m * n, geo, par, parts, out, tail)]
