"""The words kernels are written in that Numba lacks: typed pointers, vector lanes, atomics. Stage: kernels, lowest.

Each is a Numba intrinsic: a call in a kernel becomes the LLVM instructions written here.
Must not know: what any kernel computes.
"""

from __future__ import annotations

import sys

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .target import is_x86, vector_bytes

I1, I8, I32, I64 = ir.IntType(1), ir.IntType(8), ir.IntType(32), ir.IntType(64)
INT64_POINTER = types.CPointer(types.int64)


def llvm_function(builder, name, result, arguments):
    """The declaration of an LLVM function in the module being built."""
    return cgutils.get_or_insert_function(builder.module, ir.FunctionType(result, arguments), name)


def element(pointer_type):
    """The LLVM type of what a Numba pointer points to."""
    return {types.float32: ir.FloatType(), types.float64: ir.DoubleType(), types.int64: I64}[pointer_type.dtype]


@intrinsic
def at(typingctx, pointer, offset):
    """The pointer `offset` elements further: at(mem, op[0])."""

    def codegen(context, builder, signature, args):
        return builder.gep(args[0], [args[1]])

    return pointer(pointer, types.int64), codegen


@intrinsic
def address_of(typingctx, pointer):
    """Where a pointer points, as a number."""

    def codegen(context, builder, signature, args):
        return builder.ptrtoint(args[0], I64)

    return types.int64(pointer), codegen


def _address_as(target):
    @intrinsic
    def cast(typingctx, address):
        def codegen(context, builder, signature, args):
            return builder.inttoptr(args[0], context.get_value_type(signature.return_type))

        return types.CPointer(target)(types.int64), codegen

    return cast


#: memory outside the arena, reached by the address a control word holds
uint8_at, int64_at = _address_as(types.uint8), _address_as(types.int64)
float32_at, float64_at = _address_as(types.float32), _address_as(types.float64)


@intrinsic
def pointer_at(typingctx, like, address):
    """The address as a pointer of `like`'s type."""

    def codegen(context, builder, signature, args):
        return builder.inttoptr(args[1], context.get_value_type(signature.return_type))

    return like(like, types.int64), codegen


@intrinsic
def lanes(typingctx, pointer):
    """How many elements of `pointer`'s type one vector of the target holds (a constant)."""
    count = vector_bytes() // (pointer.dtype.bitwidth // 8)

    def codegen(context, builder, signature, args):
        return ir.Constant(I64, count)

    return types.int64(pointer), codegen


@intrinsic
def like(typingctx, x, value):
    """`value` in the type of `x` (a number, or a pointer to numbers): keeps float32 code free of float64."""
    target = x.dtype if isinstance(x, types.CPointer) else x

    def codegen(context, builder, signature, args):
        return context.cast(builder, args[1], signature.args[1], target)

    return target(x, value), codegen


@intrinsic
def prefetch(typingctx, pointer, offset):
    """Ask for the cache line of pointer[offset]; reading past the end is harmless."""

    def codegen(context, builder, signature, args):
        line = builder.bitcast(builder.gep(args[0], [args[1]]), ir.IntType(8).as_pointer())
        fn = llvm_function(builder, "llvm.prefetch.p0", ir.VoidType(), [line.type, I32, I32, I32])
        builder.call(fn, [line] + [ir.Constant(I32, v) for v in (0, 2, 1)])
        return context.get_dummy_value()

    return types.void(pointer, types.int64), codegen


def _float_function(name, arity):
    @intrinsic
    def call1(typingctx, x):
        def codegen(context, builder, signature, args):
            t = args[0].type
            bits = 32 if isinstance(t, ir.FloatType) else 64
            return builder.call(llvm_function(builder, f"llvm.{name}.f{bits}", t, [t]), args)

        return x(x), codegen

    @intrinsic
    def call2(typingctx, x, y):
        def codegen(context, builder, signature, args):
            t = args[0].type
            bits = 32 if isinstance(t, ir.FloatType) else 64
            return builder.call(llvm_function(builder, f"llvm.{name}.f{bits}", t, [t, t]), args)

        return x(x, x), codegen

    @intrinsic
    def call3(typingctx, x, y, z):
        def codegen(context, builder, signature, args):
            t = args[0].type
            bits = 32 if isinstance(t, ir.FloatType) else 64
            return builder.call(llvm_function(builder, f"llvm.{name}.f{bits}", t, [t, t, t]), args)

        return x(x, x, x), codegen

    return {1: call1, 2: call2, 3: call3}[arity]


rint = _float_function("rint", 1)  # to the nearest whole number
square_root = _float_function("sqrt", 1)
magnitude = _float_function("fabs", 1)
smaller = _float_function("minnum", 2)  # of two numbers; a NaN loses
larger = _float_function("maxnum", 2)
fma = _float_function("fma", 3)  # x * y + z, rounded once


@intrinsic
def two_to(typingctx, n):
    """2**n for an integral float n in the exponent range, made from its bits."""

    def codegen(context, builder, signature, args):
        single = isinstance(args[0].type, ir.FloatType)
        word, bias, fraction = (I32, 127, 23) if single else (I64, 1023, 52)
        exponent = builder.add(builder.fptosi(args[0], word), ir.Constant(word, bias))
        return builder.bitcast(builder.shl(exponent, ir.Constant(word, fraction)), args[0].type)

    return n(n), codegen


@intrinsic
def atomic_add(typingctx, pointer, value):
    """pointer[0] += value, seen whole by every thread; returns what was there."""

    def codegen(context, builder, signature, args):
        return builder.atomic_rmw("add", args[0], args[1], "seq_cst")

    return types.int64(INT64_POINTER, types.int64), codegen


@intrinsic
def atomic_load(typingctx, pointer):
    """pointer[0], after everything its writer wrote before it."""

    def codegen(context, builder, signature, args):
        return builder.load_atomic(args[0], "acquire", 8)

    return types.int64(INT64_POINTER), codegen


@intrinsic
def atomic_store(typingctx, pointer, value):
    """pointer[0] = value, after everything written before it."""

    def codegen(context, builder, signature, args):
        builder.store_atomic(args[1], args[0], "seq_cst", 8)
        return context.get_dummy_value()

    return types.void(INT64_POINTER, types.int64), codegen


@intrinsic
def pause(typingctx):
    """Tell the core that this is a spinning loop."""

    def codegen(context, builder, signature, args):
        if is_x86():
            builder.call(llvm_function(builder, "llvm.x86.sse2.pause", ir.VoidType(), []), [])
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def yield_core(typingctx):
    """Let another thread have this core: more threads than cores must be slow, not stuck."""
    name = "SwitchToThread" if sys.platform == "win32" else "sched_yield"

    def codegen(context, builder, signature, args):
        builder.call(llvm_function(builder, name, I32, []), [])
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def nap(typingctx, microseconds):
    """Sleep: where somebody else must do something first, and that may take long."""
    windows = sys.platform == "win32"

    def codegen(context, builder, signature, args):
        time = builder.trunc(args[0], I32)
        time = ir.Constant(I32, 1) if windows else time  # milliseconds there
        result = ir.VoidType() if windows else I32
        builder.call(llvm_function(builder, "Sleep" if windows else "usleep", result, [I32]), [time])
        return context.get_dummy_value()

    return types.void(types.int64), codegen


@intrinsic
def float_mode(typingctx):
    """The thread's floating-point control word; 0 where there is none to set."""

    def codegen(context, builder, signature, args):
        if not is_x86():
            return ir.Constant(I64, 0)
        place = cgutils.alloca_once(builder, I32)
        store = llvm_function(builder, "llvm.x86.sse.stmxcsr", ir.VoidType(), [I8.as_pointer()])
        builder.call(store, [builder.bitcast(place, I8.as_pointer())])
        return builder.zext(builder.load(place), I64)

    return types.int64(), codegen


@intrinsic
def set_float_mode(typingctx, word):
    """Give the thread a floating-point control word that `float_mode` gave, or one made from it."""

    def codegen(context, builder, signature, args):
        if is_x86():
            place = cgutils.alloca_once_value(builder, builder.trunc(args[0], I32))
            load = llvm_function(builder, "llvm.x86.sse.ldmxcsr", ir.VoidType(), [I8.as_pointer()])
            builder.call(load, [builder.bitcast(place, I8.as_pointer())])
        return context.get_dummy_value()

    return types.void(types.int64), codegen


@intrinsic
def call_kernel(typingctx, address, op, ctl, mem, part, parts):
    """Call the kernel at an address: 5 ns, no Python, no type checks."""

    def codegen(context, builder, signature, args):
        words = I64.as_pointer()
        fn = ir.FunctionType(ir.VoidType(), [words, words, I64, I64, I64])
        builder.call(builder.inttoptr(args[0], fn.as_pointer()), args[1:])
        return context.get_dummy_value()

    words = INT64_POINTER
    return types.void(types.int64, words, words, types.int64, types.int64, types.int64), codegen


@intrinsic
def float_word(typingctx, mem, word):
    """The number whose float64 bits an int64 operand word holds, in the type of `mem`."""

    def codegen(context, builder, signature, args):
        number = builder.bitcast(args[1], ir.DoubleType())
        return context.cast(builder, number, types.float64, signature.return_type)

    return mem.dtype(mem, types.int64), codegen


@intrinsic
def cycles(typingctx):
    """The processor's cycle counter; 0 where reading it is slow or forbidden."""

    def codegen(context, builder, signature, args):
        if not is_x86():
            return ir.Constant(I64, 0)
        return builder.call(llvm_function(builder, "llvm.readcyclecounter", I64, []), [])

    return types.int64(), codegen
