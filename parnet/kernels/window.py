"""The micro-kernel for windows: the register tile of `tile.py` with a table of where its numbers lie. Stage: kernels.

A sum runs over segments of `depth` neighbouring numbers: the taps of a convolution's window forward, rows of pixels in its
weight gradient. Order of summation: segments in rising order, k in rising order within each; ONE chain of fused
multiply-adds, as in `tile.py`, so that blocking does not change bits.

    gathered    C[i, j] = sum over s, k of A_i,s[k + skip] * B[(shift_s + k), j]     every row of A and C has an address
    streamed    C[i, j] = sum over s, k of A_s[i + k a_k] * B_s[k b_k + j]          rows of A are neighbours

No window is ever copied (the indirect convolution of Dukhan 2019, "The Indirect Convolution Algorithm", with pixels for
rows). Must not know: what is convolved.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .intrinsics import I64, INT64_POINTER, element
from .tile import _Emitter, tile_rows

#: what becomes of a finished gathered sum: C = sum; C = sum * scale + shift; C = sum * scale + shift + other
PLAIN, SCALED, SCALED_AND_ADDED = 0, 1, 2


def make_gathered(vectors: int, masked: bool, height: int | None = None):
    """The gathered tile as an intrinsic.

    Called as tile(segments, depth, skip, table, pitch, places, shifts, b, b_k, c, rows, tail, mode, ending, scale,
    shift, other, floor, ahead, soon):
        table: int64, row i of the tile has its words from i * pitch on: the address of its A for each segment.
        places: int64, how far its row of C lies from c in elements. shifts: int64, the row of B where a segment starts.
        mode: STORE (the sum starts at zero) or CONTINUE (at C).
        ending: PLAIN, SCALED or SCALED_AND_ADDED; scale, shift: vectors like a row of C; other: laid out like C.
        floor: sums below it are stored as it: 0 for relu, -inf for none; a NaN stays one.
        ahead: elements from each number of B to one that will be wanted later, which four vectors wide tiles ask for.
        soon: address of the A that is wanted next, which they ask for too.
    """

    @intrinsic
    def tile(
        typingctx, segments, depth, skip, table, pitch, places, shifts, b, b_k, c, rows, tail, mode, ending, scale, shift,
        other, floor, ahead, soon,
    ):  # fmt: skip
        n, p = types.int64, INT64_POINTER
        signature = types.void(n, n, n, p, n, p, p, b, n, c, n, n, n, n, scale, shift, other, b.dtype, n, n)

        def codegen(context, builder, signature, args):
            _Gathered(builder, element(signature.args[7]), vectors, masked, height or tile_rows()).emit(args)
            return context.get_dummy_value()

        return signature, codegen

    return tile


def make_streamed(vectors: int, masked: bool, height: int | None = None):
    """The streamed tile as an intrinsic.

    Called as tile(segments, depth, a, a_k, b, b_k, table, c, c_row, rows, tail, mode): table: int64, two words a segment,
    how far its A and its B lie from a and b in elements. mode: STORE or CONTINUE.
    """

    @intrinsic
    def tile(typingctx, segments, depth, a, a_k, b, b_k, table, c, c_row, rows, tail, mode):
        n = types.int64
        signature = types.void(n, n, a, n, b, n, INT64_POINTER, c, n, n, n, n)

        def codegen(context, builder, signature, args):
            _Streamed(builder, element(signature.args[2]), vectors, masked, height or tile_rows()).emit(args)
            return context.get_dummy_value()

        return signature, codegen

    return tile


class _Segments(_Emitter):
    """What the two have in common: the loop over segments around the loop over k."""

    def over_segments(self, segments, start, step):
        """step(s, sums) -> new sums, for each segment."""
        builder = self.builder
        entry = builder.block
        loop, done = builder.append_basic_block("segment"), builder.append_basic_block("segments_done")
        builder.branch(loop)
        builder.position_at_end(loop)
        s = builder.phi(I64)
        sums = [[builder.phi(self.vector) for _ in row] for row in start]
        new = step(s, sums)
        later, end = builder.add(s, ir.Constant(I64, 1)), builder.block
        s.add_incoming(ir.Constant(I64, 0), entry)
        s.add_incoming(later, end)
        for old, begin, after in zip(sums, start, new, strict=True):
            for phi, first, value in zip(old, begin, after, strict=True):
                phi.add_incoming(first, entry)
                phi.add_incoming(value, end)
        builder.cbranch(builder.icmp_signed("<", later, segments), loop, done)
        builder.position_at_end(done)
        return new

    def set_mask(self, tail):
        if self.masked:
            self.mask = self.lanes_below(tail)

    def word(self, pointer, index):
        """An int64 of a table."""
        return self.builder.load(self.builder.gep(pointer, [index]))


class _Gathered(_Segments):
    def emit(self, args):
        segments, depth, skip, table, pitch, places, shifts, b, b_k, c, rows, tail, mode, *end, floor, ahead, soon = args
        builder, wide = self.builder, self.vectors == 4
        self.set_mask(tail)
        index = [self.row(i, rows) for i in range(self.rows)]
        words = [builder.gep(table, [builder.mul(pitch, i)]) for i in index]
        spots = [self.word(places, i) for i in index]
        c_rows = [builder.gep(c, [spot]) for spot in spots]
        self.ask_for_others(spots, end[0], end[-1])
        asked = (ahead, builder.inttoptr(soon, b.type), ir.Constant(I64, self.rows)) if wide else ()

        def step(s, sums):
            a_rows = [builder.inttoptr(self.word(w, s), b.type) for w in words]
            b_at = builder.gep(b, [builder.mul(builder.add(self.word(shifts, s), skip), b_k)])
            a_rows = [builder.gep(a, [skip]) for a in a_rows]
            return self.multiply(depth, a_rows, ir.Constant(I64, 1), b_at, b_k, sums, *asked)

        sums = self.end(self.over_segments(segments, self.start(c_rows, mode), step), spots, *end)
        low = self.splat(floor)
        self.store_all([[self.at_least(low, v) for v in row] for row in sums], c_rows)

    def ask_for_others(self, spots, ending, other):
        """What finished sums are added to arrives while they are made."""
        with self.builder.if_then(self.builder.icmp_signed("==", ending, ir.Constant(I64, SCALED_AND_ADDED))):
            for spot in spots:
                row = self.builder.gep(other, [spot])
                for j in range(self.vectors):
                    self.prefetch(self.builder.gep(row, [ir.Constant(I64, j * self.lanes)]), 0, 3)

    def at_least(self, low, value):
        """The larger one; a NaN in `value` stays."""
        return self.builder.select(self.builder.fcmp_ordered("<", value, low), low, value)

    def end(self, sums, spots, ending, scale, shift, other):
        """The sums scaled, shifted and added to, as `ending` says."""
        builder = self.builder
        result = sums
        for kind, change in ((SCALED, self.scaled(scale, shift)), (SCALED_AND_ADDED, self.added(other, spots))):
            entry, before = builder.block, result
            with builder.if_then(builder.icmp_signed(">=", ending, ir.Constant(I64, kind))):
                changed, block = change(before), builder.block
            result = []
            for old_row, new_row in zip(before, changed, strict=True):
                row = [builder.phi(self.vector) for _ in old_row]
                for phi, old, new in zip(row, old_row, new_row, strict=True):
                    phi.add_incoming(old, entry)
                    phi.add_incoming(new, block)
                result.append(row)
        return result

    def scaled(self, scale, shift):
        def change(sums):
            factors, offsets = ([self.load(p, j) for j in range(self.vectors)] for p in (scale, shift))
            return [
                [self.builder.call(self.fma, [v, f, o]) for v, f, o in zip(row, factors, offsets, strict=True)]
                for row in sums
            ]

        return change

    def added(self, other, spots):
        def change(sums):
            rows = [self.builder.gep(other, [spot]) for spot in spots]
            return [
                [self.builder.fadd(v, self.load(o, j)) for j, v in enumerate(row)] for row, o in zip(sums, rows, strict=True)
            ]

        return change


class _Streamed(_Segments):
    def emit(self, args):
        segments, depth, a, a_k, b, b_k, table, c, c_row, rows, tail, mode = args
        builder = self.builder
        self.set_mask(tail)
        index = [self.row(i, rows) for i in range(self.rows)]
        c_rows = [builder.gep(c, [builder.mul(c_row, i)]) for i in index]

        def step(s, sums):
            words = builder.gep(table, [builder.mul(s, ir.Constant(I64, 2))])
            start = builder.gep(a, [self.word(words, ir.Constant(I64, 0))])
            b_at = builder.gep(b, [self.word(words, ir.Constant(I64, 1))])
            return self.multiply(depth, [builder.gep(start, [i]) for i in index], a_k, b_at, b_k, sums)

        self.store_all(self.over_segments(segments, self.start(c_rows, mode), step), c_rows)
