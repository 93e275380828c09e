"""Functions of one number that behave as those of `parnet/kernels/maths.py`: NaN in, NaN out; no overflow. Stage: cuda.

Each is made for one type T. Must not know: what uses them.
"""

from __future__ import annotations

import math
from functools import cache
from types import SimpleNamespace

import numpy as np

from .runtime import cuda


@cache
def functions(T) -> SimpleNamespace:
    """exp, expm1, sigmoid, tanh, log1p, log, erf, sqrt as device functions on T."""
    low, high = (-87.0, 88.0) if T is np.float32 else (-708.0, 709.0)

    @cuda.jit(device=True)
    def exp(x):
        y = T(high) if x > T(high) else x
        y = T(low) if y < T(low) else y
        return T(0) if x < T(low) else T(math.exp(y))

    @cuda.jit(device=True)
    def expm1(x):
        y = T(high) if x > T(high) else x
        return T(math.expm1(y))

    @cuda.jit(device=True)
    def sigmoid(x):
        return T(1) / (T(1) + exp(-x))

    @cuda.jit(device=True)
    def tanh(x):
        return T(math.tanh(x))

    @cuda.jit(device=True)
    def log1p(x):
        return T(math.log1p(x))

    @cuda.jit(device=True)
    def log(x):
        return T(math.log(x))

    @cuda.jit(device=True)
    def erf(x):
        return T(math.erf(x))

    @cuda.jit(device=True)
    def sqrt(x):
        return T(math.sqrt(x)) if x >= T(0) else x - x + T(math.nan)

    return SimpleNamespace(exp=exp, expm1=expm1, sigmoid=sigmoid, tanh=tanh, log1p=log1p, log=log, erf=erf, sqrt=sqrt)
