"""Activations and elementwise work, a thread a number; the formulas of `parnet/kernels/activation.py`. Stage: cuda."""

from __future__ import annotations

from functools import cache, partial

from ..kernels.activation import INVERSE_SQRT_2PI, SELU_ALPHA, SELU_SCALE, SQRT_HALF
from ..kernels.control import ROWS
from ..kernels.step import row_stride
from .launch import Context, Launch, float_of
from .maths import functions
from .runtime import cuda

NAMES = (
    "linear", "sigmoid", "tanh", "relu", "relu6", "leaky_relu", "elu", "selu", "softplus", "softsign", "exponential",
    "hard_sigmoid", "gelu", "silu", "mish",
)  # fmt: skip


@cache
def formulas(T) -> dict:
    """name -> (x, alpha) -> y; name_grad -> (x, y, alpha) -> dy/dx."""
    f = functions(T)
    exp, expm1, logistic, erf, log1p, hyperbolic = f.exp, f.expm1, f.sigmoid, f.erf, f.log1p, f.tanh

    def linear(x, alpha):
        return x

    def linear_grad(x, y, alpha):
        return T(1)

    def sigmoid(x, alpha):
        return logistic(x)

    def sigmoid_grad(x, y, alpha):
        return y * (T(1) - y)

    def tanh(x, alpha):
        return hyperbolic(x)

    def tanh_grad(x, y, alpha):
        return T(1) - y * y

    def relu(x, alpha):
        return T(0) if x < T(0) else x

    def relu_grad(x, y, alpha):
        return T(1) if y > T(0) else T(0)

    def relu6(x, alpha):
        high = T(6) if x > T(6) else x
        return T(0) if x < T(0) else high

    def relu6_grad(x, y, alpha):
        return T(1) if y > T(0) and y < T(6) else T(0)

    def leaky_relu(x, alpha):
        return alpha * x if x < T(0) else x

    def leaky_relu_grad(x, y, alpha):
        return T(1) if y > T(0) else alpha

    def elu(x, alpha):
        return alpha * expm1(x) if x < T(0) else x

    def elu_grad(x, y, alpha):
        return T(1) if y > T(0) else y + alpha

    def selu(x, alpha):
        return T(SELU_SCALE * SELU_ALPHA) * expm1(x) if x < T(0) else T(SELU_SCALE) * x

    def selu_grad(x, y, alpha):
        return T(SELU_SCALE) if y > T(0) else y + T(SELU_SCALE * SELU_ALPHA)

    def softplus(x, alpha):
        return (x if x > T(0) else T(0)) + log1p(exp(-abs(x))) if x == x else x

    def softplus_grad(x, y, alpha):
        return -expm1(-y)

    def gelu(x, alpha):
        return T(0.5) * x * (T(1) + erf(x * T(SQRT_HALF)))

    def gelu_grad(x, y, alpha):
        density = T(INVERSE_SQRT_2PI) * exp(T(-0.5) * x * x)
        return T(0.5) * (T(1) + erf(x * T(SQRT_HALF))) + x * density

    def silu(x, alpha):
        return x * logistic(x)

    def silu_grad(x, y, alpha):
        s = logistic(x)
        return s + y * (T(1) - s)

    def softsign(x, alpha):
        return x / (T(1) + abs(x))

    def softsign_grad(x, y, alpha):
        return (T(1) - abs(y)) * (T(1) - abs(y))

    def exponential(x, alpha):
        return exp(x)

    def exponential_grad(x, y, alpha):
        return y

    def hard_sigmoid(x, alpha):
        y = x + T(3)
        high = T(6) if y > T(6) else y
        return (T(0) if y < T(0) else high) / T(6)

    def hard_sigmoid_grad(x, y, alpha):
        return T(1 / 6) if y > T(0) and y < T(1) else T(0)

    @cuda.jit(device=True)
    def tanh_of_softplus(x):
        e = exp(-abs(x))
        above = e * (e + T(2)) if x < T(0) else T(1) + T(2) * e
        return above / (above + (T(2) if x < T(0) else T(2) * e * e))

    def mish(x, alpha):
        return x * tanh_of_softplus(x)

    def mish_grad(x, y, alpha):
        t = tanh_of_softplus(x)
        return t + x * (T(1) - t * t) * logistic(x)

    found = dict(locals())
    names = [*NAMES, *(f"{name}_grad" for name in NAMES)]
    return {name: cuda.jit(device=True)(found[name]) for name in names}


@cache
def forward(T, name: str):
    """y = formula(x + bias); the sum stays in x."""
    formula = formulas(T)[name]

    @cuda.jit
    def run(ctl, geo, par, x, bias, y):
        width, stride, has_bias = geo
        j0, i0 = cuda.grid(2)
        across, down = cuda.gridsize(2)
        for i in range(i0, ctl[ROWS], down):
            for j in range(j0, width, across):
                z = x[i * stride + j]
                if has_bias:
                    z += bias[j]
                    x[i * stride + j] = z
                y[i * stride + j] = formula(z, par[0])

    return run


@cache
def backward(T, name: str):
    """dy *= derivative(x, y)."""
    derivative = formulas(T)[name]

    @cuda.jit
    def run(ctl, geo, par, x, y, dy):
        width, stride = geo
        j0, i0 = cuda.grid(2)
        across, down = cuda.gridsize(2)
        for i in range(i0, ctl[ROWS], down):
            for j in range(j0, width, across):
                spot = i * stride + j
                dy[spot] *= derivative(x[spot], y[spot], par[0])

    return run


@cache
def scale(T):
    """y = x scale + offset."""

    @cuda.jit
    def run(ctl, geo, par, x, y):
        width, stride = geo
        j0, i0 = cuda.grid(2)
        across, down = cuda.gridsize(2)
        for i in range(i0, ctl[ROWS], down):
            for j in range(j0, width, across):
                y[i * stride + j] = x[i * stride + j] * par[0] + par[1]

    return run


def _forward(name: str, c: Context, op: tuple) -> list[Launch]:
    x, bias, has_bias, y, width, alpha, _ = op
    geo = (width, row_stride(width), has_bias)
    return [c.plane(forward(c.T, name), width, geo, (float_of(alpha),), *c.arrays(x, bias, y))]


def _backward(name: str, c: Context, op: tuple) -> list[Launch]:
    x, y, dy, width, alpha, _ = op
    return [c.plane(backward(c.T, name), width, (width, row_stride(width)), (float_of(alpha),), *c.arrays(x, y, dy))]


def _scale(c: Context, op: tuple) -> list[Launch]:
    x, y, width, factor, offset, _ = op
    par = (float_of(factor), float_of(offset))
    return [c.plane(scale(c.T), width, (width, row_stride(width)), par, *c.arrays(x, y))]


LAUNCHERS = {
    "elementwise.scale": _scale,
    **{f"activation.{name}": partial(_forward, name) for name in NAMES},
    **{f"activation.{name}_grad": partial(_backward, f"{name}_grad") for name in NAMES},
}
