"""What `input_norm.py` makes of weights and their gradient, a row or some columns, emitted as LLVM vectors. Stage: kernels.

Along a row sums have STRANDS strands, whatever the vector width, added in halves as in `strands.py`. Must not know: what
the rows belong to.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .dot import STRANDS
from .intrinsics import I32, I64, element
from .strands import Strands

#: numbers of each sum that a row leaves: the strands, once in halves
LEFT = STRANDS // 2


def make_spread(columns: int = 0):
    """The row as an intrinsic: of so many numbers, a multiple of STRANDS, or of any number n.

    Called as spread(n, w, g, s, dw, gamma, beta, sums, scale, adds):
        sums[:LEFT], sums[LEFT : 2 LEFT] = the sums of w g and of w s in LEFT strands
        dw = gamma g + beta s, or, where `adds`, dw += scale (gamma g + beta s)
    dw may be w. Up to a whole number of STRANDS it is 0 past n.
    """

    @intrinsic
    def spread(typingctx, n, w, g, s, dw, gamma, beta, sums, scale, adds):
        signature = types.void(types.int64, w, g, s, dw, w.dtype, w.dtype, sums, w.dtype, types.boolean)

        def codegen(context, builder, signature, args):
            _Row(builder, element(signature.args[1]), columns).emit(args)
            return context.get_dummy_value()

        return signature, codegen

    return spread


@intrinsic
def spread_columns(typingctx, n, wide, w, g, g_row, s, dw, row, gamma, beta, of_g, of_s, scale, adds):
    """The same for `wide` columns of n numbers, `row` apart in w and dw, g_row in g.

    of_g[k], of_s[k] = the sums of w g and of w s[j] over the columns j, in rising order.
    """
    n_type = types.int64
    numbers = w.dtype
    signature = types.void(n_type, n_type, w, g, n_type, s, dw, n_type, gamma, beta, of_g, of_s, numbers, types.boolean)

    def codegen(context, builder, signature, args):
        _Columns(builder, element(signature.args[2])).emit(args)
        return context.get_dummy_value()

    return signature, codegen


class _Spread(Strands):
    """What both have in common."""

    def new(self, gamma, beta, gradient, total):
        """gamma g + beta s."""
        return self.builder.call(self.fma, [gamma, gradient, self.builder.fmul(beta, total)])

    def put(self, new, spot, mask):
        """Where it goes; 0 where the mask says that nothing is."""
        builder = self.builder
        added = builder.call(self.fma, [self.scale, new, self.load(self.out, spot, None)])
        result = builder.select(self.adds, added, new)
        self.store(result if mask is None else builder.select(mask, result, self.zero), self.out, spot)


class _Row(_Spread):
    """Writes one row into the function being built."""

    def __init__(self, builder, scalar, columns):
        super().__init__(builder, scalar)
        self.known = columns
        self.sums = [[cgutils.alloca_once_value(builder, self.zero) for _ in range(self.pieces)] for _ in range(2)]

    def emit(self, args):
        n, w, g, s, dw, gamma, beta, sums, scale, adds = args
        builder = self.builder
        self.arrays, self.out, self.adds = (w, g, s), dw, adds
        self.gamma, self.beta, self.scale = (self.splat(value) for value in (gamma, beta, scale))
        if self.known:
            for k in range(0, self.known, STRANDS):
                self.make(ir.Constant(I64, k), None)
        else:
            whole = builder.and_(n, ir.Constant(I64, -STRANDS))
            with cgutils.for_range_slice(builder, ir.Constant(I64, 0), whole, ir.Constant(I64, STRANDS)) as (k, _):
                self.make(k, None)
            left = builder.trunc(builder.sub(n, whole), I32)
            with builder.if_then(builder.icmp_signed(">", left, ir.Constant(I32, 0))):
                self.make(whole, left)
        self.leave(sums)

    def make(self, k, left):
        """STRANDS numbers; with `left`, only so many."""
        builder = self.builder
        for u in range(self.pieces):
            spot = builder.add(k, ir.Constant(I64, u * self.lanes))
            mask = None if left is None else self.mask(left, u)
            weights, gradient, total = (self.load(array, spot, mask) for array in self.arrays)
            for places, factor in zip(self.sums, (gradient, total), strict=True):
                builder.store(builder.call(self.fma, [weights, factor, builder.load(places[u])]), places[u])
            self.put(self.new(self.gamma, self.beta, gradient, total), spot, mask)

    def leave(self, out):
        """Both sums, their second halves added to the first."""
        builder, half = self.builder, self.pieces // 2
        sums = [[builder.load(place) for place in places] for places in self.sums]
        if half:
            halves = [builder.fadd(x, y) for vectors in sums for x, y in zip(vectors[:half], vectors[half:], strict=True)]
        else:
            picks = [[*range(f, f + LEFT), *range(f + STRANDS, f + STRANDS + LEFT)] for f in (0, LEFT)]
            kind = ir.VectorType(I32, STRANDS)
            pair = [vectors[0] for vectors in sums]
            halves = [builder.fadd(*(builder.shuffle_vector(*pair, ir.Constant(kind, pick)) for pick in picks))]
        for u, vector in enumerate(halves):
            self.store(vector, out, ir.Constant(I64, u * self.lanes))


class _Columns(_Spread):
    """Writes some columns into the function being built."""

    def emit(self, args):
        n, wide, w, g, g_row, s, dw, row, gamma, beta, of_g, of_s, scale, adds = args
        builder, nought = self.builder, ir.Constant(I64, 0)
        self.out, self.adds, self.scale = dw, adds, self.splat(scale)
        sums = [cgutils.alloca_once(builder, self.vector) for _ in range(2)]
        with cgutils.for_range_slice(builder, nought, n, ir.Constant(I64, self.lanes)) as (k, _):
            mask = self.mask(builder.trunc(builder.sub(n, k), I32), 0)
            factors = self.load(gamma, k, None), self.load(beta, k, None)
            for place in sums:
                builder.store(self.zero, place)
            with cgutils.for_range(builder, wide) as loop:
                spot = builder.add(builder.mul(loop.index, row), k)
                weights, total = self.load(w, spot, None), self.splat(builder.load(builder.gep(s, [loop.index])))
                gradient = self.load(g, builder.add(builder.mul(loop.index, g_row), k), None)
                for place, factor in zip(sums, (gradient, total), strict=True):
                    builder.store(builder.call(self.fma, [weights, factor, builder.load(place)]), place)
                self.put(self.new(*factors, gradient, total), spot, mask)
            for place, out in zip(sums, (of_g, of_s), strict=True):
                self.store(builder.load(place), out, k)
