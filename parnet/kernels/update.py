"""Optimizer steps on flat vectors of weights. Stage: kernels, last of a step.

Every kernel reads w, dw (n,) and writes w and its slots (n,); the rate of this step comes from RATES, so that a
schedule costs the kernel nothing, and whether this batch has an update at all (see `control.RATES`).
op: w, dw, first slot, second slot, n, then the rule's numbers.   Owner: runs of w.
Must not know: layers; a vector may hold many of them.
"""

from __future__ import annotations

from .control import RATES, RATES_PER_STEP, STEP
from .declare import Kernel, device, kernel
from .intrinsics import at, float64_at, float_word, fma, lanes, like, square_root
from .share import run_of


def _rule(name, formula, slots) -> Kernel:
    """The kernel around a formula of one weight: (w, g, s, r, rate, decay, a, b, c) -> (w, s, r)."""
    formula = device(formula)

    def run(op, ctl, mem, part, parts):
        rates = at(float64_at(ctl[RATES]), ctl[STEP] * RATES_PER_STEP)
        if rates[2] != 0:
            return
        rate, decay = like(mem, rates[0]), like(mem, rates[1])
        a, b, c = float_word(mem, op[5]), float_word(mem, op[6]), float_word(mem, op[7])
        first, last = run_of(op[4], lanes(mem), part, parts)
        w, dw = at(mem, op[0]), at(mem, op[1])
        s, r = at(mem, op[2]), at(mem, op[3])
        zero = like(mem, 0)
        for j in range(first, last):
            if slots == 0:
                w[j] = formula(w[j], dw[j], zero, zero, rate, decay, a, b, c)[0]
            elif slots == 1:
                w[j], s[j], _ = formula(w[j], dw[j], s[j], zero, rate, decay, a, b, c)
            else:
                w[j], s[j], r[j] = formula(w[j], dw[j], s[j], r[j], rate, decay, a, b, c)

    run.__doc__ = __doc__
    return Kernel(f"update.{name}", run)


@kernel
def accumulate(op, ctl, mem, part, parts):
    """dw (n,) is added to the sum of its group; with the last batch of the group dw becomes their mean.

    op: dw, sum, n, batches of a group.   Owner: runs of dw.
    """
    rates = at(float64_at(ctl[RATES]), ctl[STEP] * RATES_PER_STEP)
    dw, total, batches = at(mem, op[0]), at(mem, op[1]), like(mem, op[3])
    first, last = run_of(op[2], lanes(mem), part, parts)
    if rates[3] != 0:
        for j in range(first, last):
            total[j] = dw[j]
    elif rates[2] != 0:
        for j in range(first, last):
            total[j] += dw[j]
    else:
        for j in range(first, last):
            dw[j] = (total[j] + dw[j]) / batches


def _sgd(w, g, s, r, rate, decay, a, b, c):
    return fma(-rate, g, w), s, r


def _momentum(w, g, s, r, rate, decay, a, b, c):
    s = a * s - rate * g
    return w + s, s, r


def _nesterov(w, g, s, r, rate, decay, a, b, c):
    s = a * s - rate * g
    return w + (a * s - rate * g), s, r


def _rmsprop(w, g, s, r, rate, decay, a, b, c):
    s = a * s + (like(g, 1) - a) * g * g
    return w - rate * g / (square_root(s + b)), s, r


def _rmsprop_momentum(w, g, s, r, rate, decay, a, b, c):
    s = a * s + (like(g, 1) - a) * g * g
    r = c * r + rate * g / square_root(s + b)
    return w - r, s, r


def _adam(w, g, s, r, rate, decay, a, b, c):
    s = a * s + (like(g, 1) - a) * g
    r = b * r + (like(g, 1) - b) * g * g
    return w - decay * w - rate * s / (square_root(r) + c), s, r


def _adagrad(w, g, s, r, rate, decay, a, b, c):
    s = s + g * g
    return w - rate * g / square_root(s + a), s, r


sgd = _rule("sgd", _sgd, 0)
momentum = _rule("momentum", _momentum, 1)
nesterov = _rule("nesterov", _nesterov, 1)
rmsprop = _rule("rmsprop", _rmsprop, 1)
rmsprop_momentum = _rule("rmsprop_momentum", _rmsprop_momentum, 2)
adam = _rule("adam", _adam, 2)
adagrad = _rule("adagrad", _adagrad, 1)
