"""Sums along a row in STRANDS strands, emitted as LLVM vectors. Stage: kernels.

Strand s takes the numbers s, s + 16, ...; the strands are then added in halves, as in `dot.py`: the bits do not depend on
the width of a vector. Must not know: what is summed.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .dot import STRANDS, _Dots
from .intrinsics import I32, I64, element, llvm_function


class Strands(_Dots):
    """Writes one sum into the function being built. term(loads, total) adds the terms of one vector to a strand's total."""

    def __init__(self, builder, scalar):
        super().__init__(builder, scalar, 1)
        self.pieces = STRANDS // self.lanes  # vectors that hold a number of each strand

    def total(self, n, pointers, term):
        builder = self.builder
        sums = [cgutils.alloca_once_value(builder, self.zero) for _ in range(self.pieces)]

        def step(k, left):
            for u, place in enumerate(sums):
                spot = builder.add(k, ir.Constant(I64, u * self.lanes))
                mask = None if left is None else self.mask(left, u)
                old = builder.load(place)
                new = term([self.load(pointer, spot, mask) for pointer in pointers], old)
                builder.store(new if mask is None else builder.select(mask, new, old), place)

        whole = builder.and_(n, ir.Constant(I64, -STRANDS))
        with cgutils.for_range_slice(builder, ir.Constant(I64, 0), whole, ir.Constant(I64, STRANDS)) as (k, _):
            step(k, None)
        left = builder.trunc(builder.sub(n, whole), I32)
        with builder.if_then(builder.icmp_signed(">", left, ir.Constant(I32, 0))):
            step(whole, left)
        return self.fold([builder.load(place) for place in sums])

    def store(self, value, row, spot):
        place = self.builder.bitcast(self.builder.gep(row, [spot]), self.vector.as_pointer())
        self.builder.store(value, place).align = self.size

    def splat(self, value):
        builder, undefined = self.builder, ir.Constant(self.vector, ir.Undefined)
        one = builder.insert_element(undefined, value, ir.Constant(I32, 0))
        return builder.shuffle_vector(one, undefined, ir.Constant(ir.VectorType(I32, self.lanes), [0] * self.lanes))


@intrinsic
def sum_of(typingctx, n, x):
    """The sum of x[:n]."""

    def codegen(context, builder, signature, args):
        n, x = args
        strands = Strands(builder, element(signature.args[1]))
        return strands.total(n, [x], lambda loads, total: builder.fadd(total, loads[0]))

    return x.dtype(types.int64, x), codegen


@intrinsic
def sum_of_magnitudes(typingctx, n, x):
    """The sum of |x[:n]|."""

    def codegen(context, builder, signature, args):
        n, x = args
        strands = Strands(builder, element(signature.args[1]))
        fabs = llvm_function(builder, f"llvm.fabs.v{strands.lanes}f{8 * strands.size}", strands.vector, [strands.vector])
        return strands.total(n, [x], lambda loads, total: builder.fadd(total, builder.call(fabs, loads)))

    return x.dtype(types.int64, x), codegen


@intrinsic
def sum_of_squares(typingctx, n, x, middle):
    """The sum of (x - middle)^2 over x[:n]."""

    def codegen(context, builder, signature, args):
        n, x, middle = args
        strands = Strands(builder, element(signature.args[1]))
        centre = strands.splat(middle)

        def term(loads, total):
            far = builder.fsub(loads[0], centre)
            return builder.call(strands.fma, [far, far, total])

        return strands.total(n, [x], term)

    return x.dtype(types.int64, x, x.dtype), codegen


@intrinsic
def sum_of_products(typingctx, n, a, b):
    """The sum of a b over a[:n], b[:n]."""

    def codegen(context, builder, signature, args):
        n, a, b = args
        strands = Strands(builder, element(signature.args[1]))
        return strands.total(n, [a, b], lambda loads, total: builder.call(strands.fma, [*loads, total]))

    return a.dtype(types.int64, a, b), codegen


@intrinsic
def sum_of_moments(typingctx, n, a, b, x, middle):
    """The sum of a b (x - middle) over the first n."""

    def codegen(context, builder, signature, args):
        n, a, b, x, middle = args
        strands = Strands(builder, element(signature.args[1]))
        centre = strands.splat(middle)

        def term(loads, total):
            far = builder.fsub(loads[2], centre)
            return builder.call(strands.fma, [builder.fmul(loads[0], loads[1]), far, total])

        return strands.total(n, [a, b, x], term)

    return a.dtype(types.int64, a, b, x, a.dtype), codegen
