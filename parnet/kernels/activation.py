"""Activations: one scalar formula and its derivative each; the loops around them are written once. Stage: kernels.

A formula takes (x, alpha), a derivative (x, y, alpha) with y = formula(x). Where the derivative needs only y, the plan
lets y overwrite x. Must not know: which layers use them.
"""

from __future__ import annotations

import math

from . import maths
from .control import ROWS
from .declare import Kernel, device
from .intrinsics import at, float_word, lanes, larger, like, magnitude
from .share import rectangle, span, stride_of, whole


def forward_kernel(name: str, formula) -> Kernel:
    """The kernel y = formula(x + bias).

    The sum stays in x, for a derivative that needs it.
    op: x (rows, width) read and written, bias (width,), has bias, y (rows, width) written, width, alpha, share.
    """
    formula = device(formula)

    def run(op, ctl, mem, part, parts):
        alpha, width, stride = float_word(mem, op[5]), op[4], stride_of(op[4])
        r0, r1, c0, c1 = rectangle(op[6], ctl[ROWS], width, part, parts)
        for i in range(r0, r1):
            first, last = span(op[6], width, i, r0, r1, c0, c1)
            n, bias = whole(last - first, lanes(mem)), at(mem, op[1] + first)
            x, y = at(mem, op[0] + i * stride + first), at(mem, op[3] + i * stride + first)
            if op[2]:
                for j in range(n):
                    x[j] += bias[j]
            if op[0] == op[3]:  # one pointer: given two to the same place, LLVM's overlap check rejects vectors
                for j in range(n):
                    y[j] = formula(y[j], alpha)
            else:
                for j in range(n):
                    y[j] = formula(x[j], alpha)

    run.__doc__ = forward_kernel.__doc__
    return Kernel(name, run)


def backward_kernel(name: str, derivative) -> Kernel:
    """The kernel dy *= derivative(x, y), in place.

    op: x (rows, width), y (rows, width), dy (rows, width) read and written, width, alpha, share.
    """
    derivative = device(derivative)

    def run(op, ctl, mem, part, parts):
        alpha, width, stride = float_word(mem, op[4]), op[3], stride_of(op[3])
        r0, r1, c0, c1 = rectangle(op[5], ctl[ROWS], width, part, parts)
        for i in range(r0, r1):
            first, last = span(op[5], width, i, r0, r1, c0, c1)
            spot = i * stride + first
            x, y, dy = at(mem, op[0] + spot), at(mem, op[1] + spot), at(mem, op[2] + spot)
            for j in range(whole(last - first, lanes(mem))):
                dy[j] *= derivative(x[j], y[j], alpha)

    run.__doc__ = backward_kernel.__doc__
    return Kernel(name, run)


def _pair(name, formula, derivative):
    return forward_kernel(f"activation.{name}", formula), backward_kernel(f"activation.{name}_grad", derivative)


def _negative(x):
    return x < like(x, 0)


_negative = device(_negative)
SQRT_HALF, INVERSE_SQRT_2PI = math.sqrt(0.5), 1.0 / math.sqrt(2.0 * math.pi)

linear, linear_grad = _pair("linear", lambda x, alpha: x, lambda x, y, alpha: like(x, 1))
sigmoid, sigmoid_grad = _pair("sigmoid", lambda x, alpha: maths.sigmoid(x), lambda x, y, alpha: y * (like(y, 1) - y))
tanh, tanh_grad = _pair("tanh", lambda x, alpha: maths.tanh(x), lambda x, y, alpha: like(y, 1) - y * y)
relu, relu_grad = _pair(
    "relu",
    lambda x, alpha: like(x, 0) if _negative(x) else x,
    lambda x, y, alpha: like(y, 1) if y > like(y, 0) else like(y, 0),
)


def _relu6(x, alpha):
    high = like(x, 6) if x > like(x, 6) else x
    return like(x, 0) if _negative(x) else high


relu6, relu6_grad = _pair(
    "relu6", _relu6, lambda x, y, alpha: like(y, 1) if y > like(y, 0) and y < like(y, 6) else like(y, 0)
)
leaky_relu, leaky_relu_grad = _pair(
    "leaky_relu",
    lambda x, alpha: alpha * x if _negative(x) else x,
    lambda x, y, alpha: like(y, 1) if y > like(y, 0) else alpha,
)


def _elu(x, alpha):
    low = alpha * maths.expm1(x)
    return low if _negative(x) else x


elu, elu_grad = _pair("elu", _elu, lambda x, y, alpha: like(y, 1) if y > like(y, 0) else y + alpha)

# Klambauer et al. 2017, "Self-Normalizing Neural Networks", eq. 2
SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805


def _selu(x, alpha):
    low = like(x, SELU_SCALE * SELU_ALPHA) * maths.expm1(x)
    high = like(x, SELU_SCALE) * x
    return low if _negative(x) else high


def _selu_grad(x, y, alpha):
    low = y + like(y, SELU_SCALE * SELU_ALPHA)
    return like(y, SELU_SCALE) if y > like(y, 0) else low


selu, selu_grad = _pair("selu", _selu, _selu_grad)


def _softplus(x, alpha):
    small = math.log1p(maths.exp(-abs(x)))
    return larger(x, like(x, 0)) + like(x, small) if x == x else x


softplus, softplus_grad = _pair("softplus", _softplus, lambda x, y, alpha: -maths.expm1(-y))


softsign, softsign_grad = _pair(
    "softsign",
    lambda x, alpha: x / (like(x, 1) + magnitude(x)),
    lambda x, y, alpha: (like(y, 1) - magnitude(y)) * (like(y, 1) - magnitude(y)),
)
exponential, exponential_grad = _pair("exponential", lambda x, alpha: maths.exp(x), lambda x, y, alpha: y)


def _hard_sigmoid(x, alpha):
    y = x + like(x, 3)
    high = like(x, 6) if y > like(x, 6) else y
    return (like(x, 0) if _negative(y) else high) / like(x, 6)


hard_sigmoid, hard_sigmoid_grad = _pair(
    "hard_sigmoid", _hard_sigmoid, lambda x, y, alpha: like(y, 1 / 6) if y > like(y, 0) and y < like(y, 1) else like(y, 0)
)


def _gelu(x, alpha):
    return like(x, 0.5) * x * (like(x, 1) + math.erf(x * like(x, SQRT_HALF)))


def _gelu_grad(x, y, alpha):
    density = like(x, INVERSE_SQRT_2PI) * maths.exp(like(x, -0.5) * x * x)
    return like(x, 0.5) * (like(x, 1) + math.erf(x * like(x, SQRT_HALF))) + x * density


gelu, gelu_grad = _pair("gelu", _gelu, _gelu_grad)


def _silu_grad(x, y, alpha):
    s = maths.sigmoid(x)
    return s + y * (like(x, 1) - s)


silu, silu_grad = _pair("silu", lambda x, alpha: x * maths.sigmoid(x), _silu_grad)


def _tanh_of_softplus(x):
    """(s - 1) / (s + 1) of s = (1 + e^x)^2, by e^-|x|, which does not overflow."""
    e = maths.exp(-magnitude(x))
    above = e * (e + like(x, 2)) if _negative(x) else like(x, 1) + like(x, 2) * e
    return above / (above + (like(x, 2) if _negative(x) else like(x, 2) * e * e))


_tanh_of_softplus = device(_tanh_of_softplus)


def _mish_grad(x, y, alpha):
    t = _tanh_of_softplus(x)
    return t + x * (like(x, 1) - t * t) * maths.sigmoid(x)


mish, mish_grad = _pair("mish", lambda x, alpha: x * _tanh_of_softplus(x), _mish_grad)
