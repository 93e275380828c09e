"""Register tiles that keep channels apart: a pixel's channels are vectors, and no sum runs over them. Stage: kernels.

    taps       Y[p, c] = start[c] + sum over t of X[p, t, c] * W[t, c]      a depthwise window on a run of pixels
    products   S[t, c] += sum over p of X[p, t, c] * dY[p, c]              its weight gradient

Each element is ONE chain of fused multiply-adds, over taps or over pixels in the order given, whatever the tile or the
vector width. Rows of a tile that do not exist are the last that does, computed again, as in `tile.py`.
Must not know: where windows lie.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .intrinsics import I64, INT64_POINTER, element
from .tile import CONTINUE
from .window import _Gathered, _Segments

#: pixels of a tile of `taps`; taps of a tile of `products`. Each with two vectors: 8 and 6 sums, which 16 registers hold
TILE_PIXELS, TILE_TAPS = 4, 3


def make_taps(vectors: int, masked: bool):
    """The tile of a window, as an intrinsic.

    Called as tile(taps, table, x, x_pixel, w, y, y_pixel, pixels, tail, start, floor): table: int64, two words a tap, how
    far its x lies from x and its weights from w in elements; x_pixel, y_pixel: elements from one pixel to the next;
    pixels: at most TILE_PIXELS; tail: channels of the last vector; floor: nothing less is stored.
    """

    @intrinsic
    def tile(typingctx, taps, table, x, x_pixel, w, y, y_pixel, pixels, tail, start, floor):
        n = types.int64
        signature = types.void(n, INT64_POINTER, x, n, w, y, n, n, n, start, x.dtype)

        def codegen(context, builder, signature, args):
            _Taps(builder, element(signature.args[2]), vectors, masked, TILE_PIXELS).emit(args)
            return context.get_dummy_value()

        return signature, codegen

    return tile


def make_products(vectors: int, masked: bool):
    """The tile of a window's weight gradient, as an intrinsic.

    Called as tile(lines, length, x, x_line, x_pixel, x_tap, dy, dy_line, dy_pixel, sums, sums_tap, taps, tail): lines of
    `length` pixels each, both above 0; x_tap: elements from one tap to the next; taps: at most TILE_TAPS.
    """

    @intrinsic
    def tile(typingctx, lines, length, x, x_line, x_pixel, x_tap, dy, dy_line, dy_pixel, sums, sums_tap, taps, tail):
        n = types.int64
        signature = types.void(n, n, x, n, n, n, dy, n, n, sums, n, n, n)

        def codegen(context, builder, signature, args):
            _Products(builder, element(signature.args[2]), vectors, masked, TILE_TAPS).emit(args)
            return context.get_dummy_value()

        return signature, codegen

    return tile


class _Taps(_Segments):
    at_least = _Gathered.at_least

    def emit(self, args):
        taps, table, x, x_pixel, w, y, y_pixel, pixels, tail, start, floor = args
        builder = self.builder
        self.set_mask(tail)
        index = [self.row(i, pixels) for i in range(self.rows)]
        x_rows = [builder.gep(x, [builder.mul(x_pixel, i)]) for i in index]
        y_rows = [builder.gep(y, [builder.mul(y_pixel, i)]) for i in index]

        def step(s, sums):
            words = builder.gep(table, [builder.mul(s, ir.Constant(I64, 2))])
            far, weights = self.word(words, ir.Constant(I64, 0)), builder.gep(w, [self.word(words, ir.Constant(I64, 1))])
            columns = [self.load(weights, j) for j in range(self.vectors)]
            return [
                [
                    builder.call(self.fma, [self.load(builder.gep(row, [far]), j), columns[j], total])
                    for j, total in enumerate(totals)
                ]
                for row, totals in zip(x_rows, sums, strict=True)
            ]

        begin = [[self.load(start, j) for j in range(self.vectors)]] * self.rows
        low = self.splat(floor)
        self.store_all([[self.at_least(low, v) for v in row] for row in self.over_segments(taps, begin, step)], y_rows)


class _Products(_Segments):
    def emit(self, args):
        lines, length, x, x_line, x_pixel, x_tap, dy, dy_line, dy_pixel, sums, sums_tap, taps, tail = args
        builder = self.builder
        self.set_mask(tail)
        index = [self.row(i, taps) for i in range(self.rows)]
        x_taps = [builder.gep(x, [builder.mul(x_tap, i)]) for i in index]
        s_rows = [builder.gep(sums, [builder.mul(sums_tap, i)]) for i in index]

        def over_line(i, totals):
            x_far, dy_far = builder.mul(i, x_line), builder.mul(i, dy_line)

            def over_pixel(p, inner):
                far = builder.add(x_far, builder.mul(p, x_pixel))
                slope = builder.gep(dy, [builder.add(dy_far, builder.mul(p, dy_pixel))])
                columns = [self.load(slope, j) for j in range(self.vectors)]
                return [
                    [
                        builder.call(self.fma, [self.load(builder.gep(row, [far]), j), columns[j], total])
                        for j, total in enumerate(some)
                    ]
                    for row, some in zip(x_taps, inner, strict=True)
                ]

            return self.over_segments(length, totals, over_pixel)

        begin = self.start(s_rows, ir.Constant(I64, CONTINUE))
        self.store_all(self.over_segments(lines, begin, over_line), s_rows)
