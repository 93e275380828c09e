"""The micro-kernel: one register tile of fused multiply-adds, emitted as LLVM vectors. Stage: kernels.

    C[i, j] = sum over k of A[i, k] * B[k, j]      i < rows of the tile, j < vectors * lanes

A is read one number at a time by (row stride, k stride), so that X, its transpose and a convolution window need no
packing; B and C are read as vectors along j. Each element of C is ONE chain of fused multiply-adds over k in rising
order, whatever the tile, the vector width or the blocking: that is why every split of a product gives the same bits.

Only `rows` rows exist: the row pointers past them are clamped to the last row, which is then computed and stored several
times over, to the same value. `masked`: the last vector has only `tail` columns.
Must not know: what the product is for.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .intrinsics import I1, I32, I64, element, llvm_function
from .target import vector_bytes, vector_registers

#: what becomes of the sums: C = sum; C = C continued (a later block of k); C = C + scale * sum
STORE, CONTINUE, ADD = 0, 1, 2

# Accumulators, one vector of B a column and one broadcast must fit the registers. With 32 of them 12x2 and 14x2 were
# level with 8x3 on full tiles and fell to a third of it on short ones, whose row pointers no longer fit.


def tile_vectors() -> int:
    """Vectors side by side in the widest tile of the target."""
    return 3 if vector_registers() == 32 else 2


def tile_rows() -> int:
    """Rows of every tile of the target."""
    return 8 if vector_registers() == 32 else 6


def make_tile(vectors: int, masked: bool, rows: int | None = None):
    """The tile of that width as an intrinsic; of `tile_rows()` rows, or of so many.

    Called as tile(depth, a, a_row, a_k, b, b_k, c, c_row, rows, tail, mode, scale, soon, soon_k); strides in elements, but
    those of `soon`: the address of what will be wanted later, a line of which is asked for at each k, soon_k bytes apart.
    """

    height = rows or tile_rows()

    @intrinsic
    def tile(typingctx, depth, a, a_row, a_k, b, b_k, c, c_row, rows, tail, mode, scale, soon, soon_k):
        n = types.int64
        signature = types.void(n, a, n, n, b, n, c, n, n, n, n, a.dtype, n, n)

        def codegen(context, builder, signature, args):
            scalar = element(signature.args[1])
            _Emitter(builder, scalar, vectors, masked, height).emit(args)
            return context.get_dummy_value()

        return signature, codegen

    return tile


class _Emitter:
    """Writes one tile into the function being built."""

    def __init__(self, builder, scalar, vectors, masked, rows):
        self.builder, self.vectors, self.masked = builder, vectors, masked
        self.size = 4 if isinstance(scalar, ir.FloatType) else 8
        self.lanes = vector_bytes() // self.size
        self.rows = rows
        self.vector = ir.VectorType(scalar, self.lanes)
        self.zero = ir.Constant(self.vector, [0.0] * self.lanes)
        name = f"v{self.lanes}f{self.size * 8}"
        v, mask, pointer = self.vector, ir.VectorType(I1, self.lanes), self.vector.as_pointer()
        self.fma = llvm_function(builder, f"llvm.fma.{name}", v, [v] * 3)
        if masked:
            self.masked_load = llvm_function(builder, f"llvm.masked.load.{name}.p0", v, [pointer, I32, mask, v])
            self.masked_store = llvm_function(
                builder, f"llvm.masked.store.{name}.p0", ir.VoidType(), [v, pointer, I32, mask]
            )

    def emit(self, args):
        depth, a, a_row, a_k, b, b_k, c, c_row, rows, tail, mode, scale, soon, soon_k = args
        builder = self.builder
        if self.masked:
            self.mask = self.lanes_below(tail)
        index = [self.row(i, rows) for i in range(self.rows)]
        a_rows = [builder.gep(a, [builder.mul(a_row, i)]) for i in index]
        c_rows = [builder.gep(c, [builder.mul(c_row, i)]) for i in index]
        self.ask_for(c_rows, mode)
        start = self.start(c_rows, mode)
        soon = builder.inttoptr(soon, ir.IntType(8).as_pointer())
        sums = self.multiply(depth, a_rows, a_k, b, b_k, start, soon=soon, soon_k=soon_k)
        self.finish(sums, c_rows, mode, scale)

    def lanes_below(self, tail):
        """The mask of a vector's first `tail` lanes."""
        counts = ir.Constant(ir.VectorType(I32, self.lanes), list(range(self.lanes)))
        return self.builder.icmp_signed("<", counts, self.splat(self.builder.trunc(tail, I32)))

    def row(self, i, rows):
        """Row i, or the last row there is."""
        row = ir.Constant(I64, i)
        if i == 0:
            return row
        last = self.builder.sub(rows, ir.Constant(I64, 1))
        return self.builder.select(self.builder.icmp_signed("<", row, rows), row, last)

    def ask_for(self, c_rows, mode):
        """Prefetch C where it will be added to: it arrives while the sums are made."""
        builder = self.builder
        with builder.if_then(builder.icmp_signed("==", mode, ir.Constant(I64, ADD))):
            for c in c_rows:
                for j in range(self.vectors):
                    self.prefetch(builder.gep(c, [ir.Constant(I64, j * self.lanes)]), 1, 3)

    def prefetch(self, pointer, writes, level):
        """Ask for a line; level 3: into the nearest cache, 2: into the next."""
        byte = ir.IntType(8).as_pointer()
        call = llvm_function(self.builder, "llvm.prefetch.p0", ir.VoidType(), [byte, I32, I32, I32])
        line = self.builder.bitcast(pointer, byte)
        self.builder.call(call, [line] + [ir.Constant(I32, v) for v in (writes, level, 1)])

    def start(self, c_rows, mode):
        """Zeros, or C where the chain goes on."""
        builder = self.builder
        entry = builder.block
        with builder.if_then(builder.icmp_signed("==", mode, ir.Constant(I64, CONTINUE))):
            loaded = [[self.load(c, j) for j in range(self.vectors)] for c in c_rows]
            block = builder.block
        result = []
        for row in loaded:
            result.append([])
            for value in row:
                phi = builder.phi(self.vector)
                phi.add_incoming(self.zero, entry)
                phi.add_incoming(value, block)
                result[-1].append(phi)
        return result

    def multiply(self, depth, a_rows, a_k, b, b_k, start, ahead=None, soon=None, soon_k=None):
        """The loop over k: per step one load of B a vector, one broadcast of A a row.

        ahead: how far from each row of B the numbers lie that are asked for meanwhile. soon: where what is asked for too
        starts; soon_k: how far it goes on with each k.
        """
        builder = self.builder
        entry = builder.block
        loop, done = builder.append_basic_block("k"), builder.append_basic_block("done")
        builder.branch(loop)
        builder.position_at_end(loop)
        k, a_at, b_at = builder.phi(I64), builder.phi(I64), builder.phi(I64)
        sums = [[builder.phi(self.vector) for _ in row] for row in start]
        b_row = builder.gep(b, [b_at])
        if ahead is not None:
            self.prefetch(builder.gep(b_row, [ahead]), 0, 2)
        if soon is not None:
            self.prefetch(builder.gep(soon, [builder.mul(k, soon_k)]), 0, 2)
        columns = [self.load(b_row, j) for j in range(self.vectors)]
        new = []
        for i, row in enumerate(sums):
            number = builder.load(builder.gep(a_rows[i], [a_at]))
            number.align = self.size
            factor = self.splat(number)
            new.append([builder.call(self.fma, [factor, column, s]) for column, s in zip(columns, row, strict=True)])
        nexts = [builder.add(k, ir.Constant(I64, 1)), builder.add(a_at, a_k), builder.add(b_at, b_k)]
        for phi, later in zip((k, a_at, b_at), nexts, strict=True):
            phi.add_incoming(ir.Constant(I64, 0), entry)
            phi.add_incoming(later, loop)
        for old, begin, later in zip(sums, start, new, strict=True):
            for phi, zero, value in zip(old, begin, later, strict=True):
                phi.add_incoming(zero, entry)
                phi.add_incoming(value, loop)
        builder.cbranch(builder.icmp_signed("<", nexts[0], depth), loop, done)
        builder.position_at_end(done)
        return new

    def finish(self, sums, c_rows, mode, scale):
        """Store; every load of C comes before the first store, since clamped rows share their memory."""
        builder = self.builder
        with builder.if_else(builder.icmp_signed("==", mode, ir.Constant(I64, ADD))) as (add, store):
            with add:
                factor = self.splat(scale)
                total = [
                    [builder.call(self.fma, [factor, s, self.load(c, j)]) for j, s in enumerate(row)]
                    for c, row in zip(c_rows, sums, strict=True)
                ]
                self.store_all(total, c_rows)
            with store:
                self.store_all(sums, c_rows)

    def store_all(self, values, c_rows):
        for row, c in zip(values, c_rows, strict=True):
            for j, value in enumerate(row):
                self.store(value, c, j)

    def splat(self, value):
        """A vector with `value` in each lane."""
        builder = self.builder
        vector = ir.VectorType(value.type, self.lanes)
        undefined = ir.Constant(vector, ir.Undefined)
        one = builder.insert_element(undefined, value, ir.Constant(I32, 0))
        return builder.shuffle_vector(one, undefined, ir.Constant(ir.VectorType(I32, self.lanes), [0] * self.lanes))

    def place(self, pointer, j):
        spot = self.builder.gep(pointer, [ir.Constant(I64, j * self.lanes)])
        return self.builder.bitcast(spot, self.vector.as_pointer())

    def load(self, pointer, j):
        if self.masked and j == self.vectors - 1:
            return self.builder.call(
                self.masked_load, [self.place(pointer, j), ir.Constant(I32, self.size), self.mask, self.zero]
            )
        value = self.builder.load(self.place(pointer, j))
        value.align = self.size
        return value

    def store(self, value, pointer, j):
        if self.masked and j == self.vectors - 1:
            self.builder.call(self.masked_store, [value, self.place(pointer, j), ir.Constant(I32, self.size), self.mask])
            return
        self.builder.store(value, self.place(pointer, j)).align = self.size


@intrinsic
def transpose_block(typingctx, source, source_row, out, out_row):
    """out[j, i] = source[i, j] for a block of lanes x lanes, in registers.

    Stage s exchanges blocks of 2^s between rows 2^s apart; 64 shuffles for 16 x 16, against 5 cycles a number one by one.
    Source: Eklundh 1972, "A fast computer method for matrix transposing".
    """
    n = types.int64

    def codegen(context, builder, signature, args):
        source, source_row, out, out_row = args
        scalar = element(signature.args[0])
        size = 4 if isinstance(scalar, ir.FloatType) else 8
        lanes = vector_bytes() // size
        vector = ir.VectorType(scalar, lanes)

        def place(base, row, i):
            spot = builder.gep(base, [builder.mul(row, ir.Constant(I64, i))])
            return builder.bitcast(spot, vector.as_pointer())

        rows = []
        for i in range(lanes):
            value = builder.load(place(source, source_row, i))
            value.align = size
            rows.append(value)
        step = 1
        while step < lanes:
            low = [c if not c & step else lanes + c - step for c in range(lanes)]
            high = [c + step if not c & step else lanes + c for c in range(lanes)]
            new = list(rows)
            for i in range(lanes):
                if not i & step:
                    pair = rows[i], rows[i + step]
                    new[i] = builder.shuffle_vector(*pair, ir.Constant(ir.VectorType(I32, lanes), low))
                    new[i + step] = builder.shuffle_vector(*pair, ir.Constant(ir.VectorType(I32, lanes), high))
            rows, step = new, 2 * step
        for i, value in enumerate(rows):
            builder.store(value, place(out, out_row, i)).align = size
        return context.get_dummy_value()

    return types.void(source, n, source, n), codegen
