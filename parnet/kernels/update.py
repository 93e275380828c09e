"""Optimizer steps on flat vectors of weights. Stage: kernels, last of a step.

Every kernel reads w, dw (n,) and writes w and its slots (n,); the rate of this step comes from RATES, so that a
schedule costs the kernel nothing, as do how much of a weight decays (for nadam: the gradient's own rate), and whether
this batch has an update at all (see `control.RATES`).
op: w, dw, first slot, second slot, n, then the rule's numbers.   Owner: runs of w.
Must not know: layers; a vector may hold many of them.
"""

from __future__ import annotations

from .control import RATES, RATES_PER_STEP, STEP
from .declare import Kernel, device, kernel
from .intrinsics import at, float64_at, float_word, fma, lanes, like, magnitude, square_root
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


def _decayed(w, decay):
    return w - decay * w


_decayed = device(_decayed)


def _sgd(w, g, s, r, rate, decay, a, b, c):
    return fma(-rate, g, _decayed(w, decay)), s, r


def _momentum(w, g, s, r, rate, decay, a, b, c):
    s = a * s - rate * g
    return _decayed(w, decay) + s, s, r


def _nesterov(w, g, s, r, rate, decay, a, b, c):
    s = a * s - rate * g
    return _decayed(w, decay) + (a * s - rate * g), s, r


def _rmsprop(w, g, s, r, rate, decay, a, b, c):
    s = a * s + (like(g, 1) - a) * g * g
    return _decayed(w, decay) - rate * g / (square_root(s + b)), s, r


def _rmsprop_momentum(w, g, s, r, rate, decay, a, b, c):
    s = a * s + (like(g, 1) - a) * g * g
    r = c * r + rate * g / square_root(s + b)
    return _decayed(w, decay) - r, s, r


def _adam(w, g, s, r, rate, decay, a, b, c):
    s = a * s + (like(g, 1) - a) * g
    r = b * r + (like(g, 1) - b) * g * g
    return w - decay * w - rate * s / (square_root(r) + c), s, r


def _adamax(w, g, s, r, rate, decay, a, b, c):
    s = a * s + (like(g, 1) - a) * g
    kept, size = b * r, magnitude(g)
    r = kept if kept > size else size
    return _decayed(w, decay) - rate * s / (r + c), s, r


def _nadam(w, g, s, r, rate, ahead, a, b, c):
    s = a * s + (like(g, 1) - a) * g
    r = b * r + (like(g, 1) - b) * g * g
    return w - (rate * s + ahead * g) / (square_root(r) + c), s, r


def _adadelta(w, g, s, r, rate, decay, a, b, c):
    s = a * s + (like(g, 1) - a) * g * g
    step = square_root(r + b) / square_root(s + b) * g
    r = a * r + (like(g, 1) - a) * step * step
    return _decayed(w, decay) - rate * step, s, r


def _lion(w, g, s, r, rate, decay, a, b, c):
    way = a * s + (like(g, 1) - a) * g
    step = rate if way > like(g, 0) else -rate
    step = way if (way == like(g, 0)) | (way != way) else step  # a NaN stays one
    return _decayed(w, decay) - step, b * s + (like(g, 1) - b) * g, r


def _adagrad(w, g, s, r, rate, decay, a, b, c):
    s = s + g * g
    return _decayed(w, decay) - rate * g / square_root(s + a), s, r


@kernel
def amsgrad(op, ctl, mem, part, parts):
    """As adam, but for a third slot that keeps the largest averages of squares, as far behind the second as that behind the
    first.

    op: as above.   Owner: runs of w.
    """
    rates = at(float64_at(ctl[RATES]), ctl[STEP] * RATES_PER_STEP)
    if rates[2] != 0:
        return
    rate, decay, one = like(mem, rates[0]), like(mem, rates[1]), like(mem, 1)
    a, b, c = float_word(mem, op[5]), float_word(mem, op[6]), float_word(mem, op[7])
    first, last = run_of(op[4], lanes(mem), part, parts)
    w, dw = at(mem, op[0]), at(mem, op[1])
    s, r, most = at(mem, op[2]), at(mem, op[3]), at(mem, 2 * op[3] - op[2])
    for j in range(first, last):
        g = dw[j]
        s[j] = a * s[j] + (one - a) * g
        now = b * r[j] + (one - b) * g * g
        r[j] = now
        top = now if (now > most[j]) | (now != now) else most[j]
        most[j] = top
        w[j] = w[j] - decay * w[j] - rate * s[j] / (square_root(top) + c)


sgd = _rule("sgd", _sgd, 0)
momentum = _rule("momentum", _momentum, 1)
nesterov = _rule("nesterov", _nesterov, 1)
rmsprop = _rule("rmsprop", _rmsprop, 1)
rmsprop_momentum = _rule("rmsprop_momentum", _rmsprop_momentum, 2)
adam = _rule("adam", _adam, 2)
adamax = _rule("adamax", _adamax, 2)
nadam = _rule("nadam", _nadam, 2)
adadelta = _rule("adadelta", _adadelta, 2)
lion = _rule("lion", _lion, 1)
adagrad = _rule("adagrad", _adagrad, 1)
