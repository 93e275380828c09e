"""The transforms around Winograd's products, one vector of channels at a time. Stage: kernels.

    enter      V = B' d B     of the 4 x 4 pixels that a tile of 2 x 2 outputs sees
    turn       U = G w G'     of the 3 x 3 weights
    leave      Y = A' M A     of the 16 products, then scaled, shifted, added to, and cut off below

Source: Lavin & Gray 2016, "Fast Algorithms for Convolutional Neural Networks", F(2 x 2, 3 x 3). Channels are lanes: nothing
crosses them, and each number is a fixed sequence of operations, whatever the vector width.
Must not know: where tiles lie.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .intrinsics import I64, INT64_POINTER, element
from .window import _Gathered, _Segments


@intrinsic
def enter(typingctx, x, row, pixel, v, step):
    """x: channels of the first of 4 x 4 pixels; row, pixel: elements to the next row and pixel; v: where the first of 16
    results goes, `step` elements before the next."""

    def codegen(context, builder, signature, args):
        _Transform(builder, element(signature.args[0])).enter(*args)
        return context.get_dummy_value()

    n = types.int64
    return types.void(x, n, n, v, n), codegen


@intrinsic
def enter_edge(typingctx, pixels, c, v, step):
    """The same where some pixels lie outside of the image. pixels: int64[16], their addresses row by row; c: channel."""

    def codegen(context, builder, signature, args):
        _Transform(builder, element(signature.args[2])).enter_edge(*args)
        return context.get_dummy_value()

    n = types.int64
    return types.void(INT64_POINTER, n, v, n), codegen


@intrinsic
def turn_taps(typingctx, w, tap, u, step):
    """w: the first of nine taps, `tap` elements apart; u: where the first of 16 results goes, `step` elements apart."""

    def codegen(context, builder, signature, args):
        _Transform(builder, element(signature.args[0])).turn(*args)
        return context.get_dummy_value()

    n = types.int64
    return types.void(w, n, u, n), codegen


def make_leave(added: bool):
    """The way out as an intrinsic; `added`: something is added to the results.

    Called as leave(m, step, goals, c, scale, shift, floor): m: the first of 16 products, `step` elements apart; goals:
    int64[8], addresses of the four pixels of y, then of those of what is added; c: channel; y = max(Y * scale + shift +
    other, floor), where a NaN stays one.
    """

    @intrinsic
    def leave(typingctx, m, step, goals, c, scale, shift, floor):
        def codegen(context, builder, signature, args):
            _Transform(builder, element(signature.args[0])).leave(*args, added)
            return context.get_dummy_value()

        n = types.int64
        return types.void(m, n, INT64_POINTER, n, scale, shift, m.dtype), codegen

    return leave


class _Transform(_Segments):
    """One vector wide, never masked."""

    at_least = _Gathered.at_least

    def __init__(self, builder, scalar):
        super().__init__(builder, scalar, 1, False, 1)
        self.pointer = scalar.as_pointer()

    def columns(self, matrix, change):
        """`change` of each column of a matrix given as rows."""
        return [list(row) for row in zip(*(change(column) for column in zip(*matrix, strict=True)), strict=True)]

    def both(self, matrix, change):
        """`change` of the columns, then of the rows of what comes of it."""
        return [change(row) for row in self.columns(matrix, change)]

    def numbers(self, first, step, count):
        """Vectors `step` elements apart."""
        places = (self.builder.gep(first, [self.builder.mul(step, ir.Constant(I64, k))]) for k in range(count))
        return [self.load(place, 0) for place in places]

    def store_apart(self, matrix, first, step):
        for k, value in enumerate(value for row in matrix for value in row):
            self.store(value, self.builder.gep(first, [self.builder.mul(step, ir.Constant(I64, k))]), 0)

    def addressed(self, words, k, c):
        """Channel c of what word k of a table points at."""
        pointer = self.builder.inttoptr(self.word(words, ir.Constant(I64, k)), self.pointer)
        return self.builder.gep(pointer, [c])

    def enter(self, x, row, pixel, v, step):
        firsts = [self.builder.gep(x, [self.builder.mul(row, ir.Constant(I64, k))]) for k in range(4)]
        self.seen([self.numbers(first, pixel, 4) for first in firsts], v, step)

    def enter_edge(self, pixels, c, v, step):
        seen = [self.load(self.addressed(pixels, k, c), 0) for k in range(16)]
        self.seen([seen[4 * k : 4 * k + 4] for k in range(4)], v, step)

    def seen(self, rows, v, step):
        b = self.builder
        out = self.both(rows, lambda d: [b.fsub(d[0], d[2]), b.fadd(d[1], d[2]), b.fsub(d[2], d[1]), b.fsub(d[1], d[3])])
        self.store_apart(out, v, step)

    def turn(self, w, tap, u, step):
        b, half = self.builder, ir.Constant(self.vector, [0.5] * self.lanes)

        def change(g):
            ends, middle = b.fmul(b.fadd(g[0], g[2]), half), b.fmul(g[1], half)
            return [g[0], b.fadd(ends, middle), b.fsub(ends, middle), g[2]]

        taps = self.numbers(w, tap, 9)
        self.store_apart(self.both([taps[0:3], taps[3:6], taps[6:9]], change), u, step)

    def leave(self, m, step, goals, c, scale, shift, floor, added):
        b, low = self.builder, self.splat(floor)

        def change(m):
            return [b.fadd(b.fadd(m[0], m[1]), m[2]), b.fsub(b.fsub(m[1], m[2]), m[3])]

        products = self.numbers(m, step, 16)
        out = self.both([products[4 * k : 4 * k + 4] for k in range(4)], change)
        factor, offset = self.load(scale, 0), self.load(shift, 0)
        for k, value in enumerate(value for row in out for value in row):
            value = b.call(self.fma, [value, factor, offset])
            if added:
                value = b.fadd(value, self.load(self.addressed(goals, 4 + k, c), 0))
            self.store(self.at_least(low, value), self.addressed(goals, k, c), 0)
