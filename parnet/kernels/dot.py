"""Products with few columns: rows of dot products along k, emitted as LLVM vectors. Stage: kernels.

    C[i, j] = sum over k of A[i, k] * B[j, k]      both read along k

A sum has STRANDS strands, whatever the vector width: strand s takes the terms s, s + 16, ...; they are then added in halves
(s and s + 8, s + 4, ...). So the bits are the same on every processor. Must not know: what the product is for.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .intrinsics import I1, I32, I64, element, llvm_function
from .target import vector_bytes, vector_registers

STRANDS = 16


def dot_rows() -> int:
    """Rows of A that one call takes: as many as four columns' sums leave registers for, in float32."""
    return 4 if vector_registers() == 32 and vector_bytes() == 64 else 1


def make_dots(columns: int):
    """The block of dot_rows() x columns dot products as an intrinsic.

    Called as dots(depth, a, a_row, b, b_row, c, c_row, rows, columns); rows and columns that do not exist are those of the
    last that does, computed again.
    """

    @intrinsic
    def dots(typingctx, depth, a, a_row, b, b_row, c, c_row, rows, count):
        n = types.int64
        signature = types.void(n, a, n, b, n, c, n, n, n)

        def codegen(context, builder, signature, args):
            _Dots(builder, element(signature.args[1]), columns).emit(args)
            return context.get_dummy_value()

        return signature, codegen

    return dots


class _Dots:
    """Writes one block into the function being built."""

    def __init__(self, builder, scalar, columns):
        self.builder, self.scalar, self.columns = builder, scalar, columns
        self.size = 4 if isinstance(scalar, ir.FloatType) else 8
        self.lanes = min(STRANDS, vector_bytes() // self.size)
        self.vector = ir.VectorType(scalar, self.lanes)
        self.zero = ir.Constant(self.vector, [0.0] * self.lanes)
        name = f"v{self.lanes}f{self.size * 8}"
        v, mask = self.vector, ir.VectorType(I1, self.lanes)
        self.fma = llvm_function(builder, f"llvm.fma.{name}", v, [v] * 3)
        self.masked_load = llvm_function(builder, f"llvm.masked.load.{name}.p0", v, [v.as_pointer(), I32, mask, v])

    def emit(self, args):
        depth, a, a_row, b, b_row, c, c_row, rows, count = args
        builder = self.builder
        a_rows = [builder.gep(a, [builder.mul(a_row, self.index(i, rows))]) for i in range(dot_rows())]
        b_rows = [builder.gep(b, [builder.mul(b_row, self.index(j, count))]) for j in range(self.columns)]
        pairs = [(i, j) for i in range(len(a_rows)) for j in range(self.columns)]
        pieces = STRANDS // self.lanes
        sums = {(p, u): cgutils.alloca_once_value(builder, self.zero) for p in pairs for u in range(pieces)}
        whole = builder.and_(depth, ir.Constant(I64, -STRANDS))
        with cgutils.for_range_slice(builder, ir.Constant(I64, 0), whole, ir.Constant(I64, STRANDS)) as (k, _):
            self.step(a_rows, b_rows, k, pairs, sums, None)
        left = builder.trunc(builder.sub(depth, whole), I32)
        with builder.if_then(builder.icmp_signed(">", left, ir.Constant(I32, 0))):
            self.step(a_rows, b_rows, whole, pairs, sums, left)
        for i, j in pairs:
            total = self.fold([builder.load(sums[(i, j), u]) for u in range(pieces)])
            spot = builder.add(builder.mul(c_row, self.index(i, rows)), self.index(j, count))
            builder.store(total, builder.gep(c, [spot])).align = self.size

    def index(self, i, count):
        """i, or the last there is."""
        last = self.builder.sub(count, ir.Constant(I64, 1))
        i = ir.Constant(I64, i)
        return self.builder.select(self.builder.icmp_signed("<", i, count), i, last)

    def step(self, a_rows, b_rows, k, pairs, sums, left):
        """STRANDS terms of every sum; with `left`, only so many."""
        builder = self.builder
        for u in range(STRANDS // self.lanes):
            spot = builder.add(k, ir.Constant(I64, u * self.lanes))
            mask = None if left is None else self.mask(left, u)
            a_parts = [self.load(row, spot, mask) for row in a_rows]
            b_parts = [self.load(row, spot, mask) for row in b_rows]
            for i, j in pairs:
                place = sums[(i, j), u]
                builder.store(builder.call(self.fma, [a_parts[i], b_parts[j], builder.load(place)]), place)

    def mask(self, left, u):
        """Which lanes of piece u are among the terms left."""
        kind = ir.VectorType(I32, self.lanes)
        counts = ir.Constant(kind, [u * self.lanes + lane for lane in range(self.lanes)])
        one = self.builder.insert_element(ir.Constant(kind, ir.Undefined), left, ir.Constant(I32, 0))
        spread = self.builder.shuffle_vector(one, ir.Constant(kind, ir.Undefined), ir.Constant(kind, [0] * self.lanes))
        return self.builder.icmp_signed("<", counts, spread)

    def load(self, row, spot, mask):
        place = self.builder.bitcast(self.builder.gep(row, [spot]), self.vector.as_pointer())
        if mask is not None:
            return self.builder.call(self.masked_load, [place, ir.Constant(I32, self.size), mask, self.zero])
        value = self.builder.load(place)
        value.align = self.size
        return value

    def fold(self, vectors):
        """The strands added in halves."""
        builder = self.builder
        while len(vectors) > 1:
            half = len(vectors) // 2
            vectors = [builder.fadd(x, y) for x, y in zip(vectors[:half], vectors[half:], strict=True)]
        value, lanes = vectors[0], self.lanes
        while lanes > 1:
            lanes //= 2
            low, high = (ir.Constant(ir.VectorType(I32, lanes), list(range(f, f + lanes))) for f in (0, lanes))
            undefined = ir.Constant(value.type, ir.Undefined)
            value = builder.fadd(
                builder.shuffle_vector(value, undefined, low), builder.shuffle_vector(value, undefined, high)
            )
        return builder.extract_element(value, ir.Constant(I32, 0))
