"""Vector maths: functions that LLVM can turn into vector code, in float32 and float64. Stage: kernels, lowest.

Relative errors against the exact value, tested: exp and expm1 below 3 units in the last place, tanh below 4.
NaN in, NaN out. exp saturates at the largest power of two of its type and reaches an exact 0 below.
Must not know: what uses them.
"""

from __future__ import annotations

import math

from numba import types
from numba.extending import overload

from .declare import FLAGS
from .intrinsics import like, magnitude, rint, two_to

OPTIONS = {name: value for name, value in FLAGS.items() if name != "nopython"}
LOG2_E = 1.4426950408889634
#: ln 2 in two pieces, the first exact in few bits (Cody & Waite, Software Manual for the Elementary Functions, 1980)
LN2_HIGH, LN2_LOW = 0.693359375, -2.12194440054690583e-4
#: 1/k!: the Taylor series of (exp(r) - 1 - r) / r^2 on |r| < ln(2)/2, to the last place of each type
SERIES_32 = tuple(1.0 / math.factorial(k) for k in range(7, 1, -1))
SERIES_64 = tuple(1.0 / math.factorial(k) for k in range(14, 1, -1))
LOWEST_32, HIGHEST_32 = -87.0, 88.0
LOWEST_64, HIGHEST_64 = -708.0, 709.0


def _series(r):
    """(exp(r) - 1 - r) / r^2."""


@overload(_series, jit_options=OPTIONS)
def _series_of(r):
    c = SERIES_32 if r == types.float32 else SERIES_64
    if r == types.float32:
        c0, c1, c2, c3, c4, c5 = c

        def short(r):
            p = like(r, c0)
            p = p * r + like(r, c1)
            p = p * r + like(r, c2)
            p = p * r + like(r, c3)
            p = p * r + like(r, c4)
            return p * r + like(r, c5)

        return short
    d0, d1, d2, d3, d4, d5, d6, d7, d8, d9, d10, d11, d12 = c

    def long(r):
        p = like(r, d0) * r + like(r, d1)
        p = p * r + like(r, d2)
        p = p * r + like(r, d3)
        p = p * r + like(r, d4)
        p = p * r + like(r, d5)
        p = p * r + like(r, d6)
        p = p * r + like(r, d7)
        p = p * r + like(r, d8)
        p = p * r + like(r, d9)
        p = p * r + like(r, d10)
        p = p * r + like(r, d11)
        return p * r + like(r, d12)

    return long


def _bounds(x):
    """The range exp is computed in."""


@overload(_bounds, jit_options=OPTIONS)
def _bounds_of(x):
    low, high = (LOWEST_32, HIGHEST_32) if x == types.float32 else (LOWEST_64, HIGHEST_64)
    return lambda x: (like(x, low), like(x, high))


def exp(x):
    """e**x."""


@overload(exp, jit_options=OPTIONS)
def _exp(x):
    def run(x):
        low, high = _bounds(x)
        y = high if x > high else x
        y = low if y < low else y
        n = rint(y * like(x, LOG2_E))
        r = (y - n * like(x, LN2_HIGH)) - n * like(x, LN2_LOW)
        e = (_series(r) * r * r + r + like(x, 1)) * two_to(n)
        return like(x, 0) if x < low else e

    return run


def expm1(x):
    """e**x - 1, exact to the last places near 0."""


@overload(expm1, jit_options=OPTIONS)
def _expm1(x):
    def run(x):
        low, high = _bounds(x)
        y = high if x > high else x
        y = low if y < low else y
        n = rint(y * like(x, LOG2_E))
        r = (y - n * like(x, LN2_HIGH)) - n * like(x, LN2_LOW)
        scale = two_to(n)
        return (_series(r) * r * r + r) * scale + (scale - like(x, 1))

    return run


def tanh(x):
    """The hyperbolic tangent, by expm1(-2|x|)."""


@overload(tanh, jit_options=OPTIONS)
def _tanh(x):
    def run(x):
        e = expm1(like(x, -2) * magnitude(x))
        t = -e / (e + like(x, 2))
        return -t if x < like(x, 0) else t

    return run


def sigmoid(x):
    """1 / (1 + e**-x); 0.5 at 0, no overflow anywhere."""


@overload(sigmoid, jit_options=OPTIONS)
def _sigmoid(x):
    return lambda x: like(x, 1) / (like(x, 1) + exp(-x))
