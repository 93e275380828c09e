"""Optimizer steps on flat vectors of weights; the rules of `parnet/kernels/update.py`, a thread a weight. Stage: cuda."""

from __future__ import annotations

from functools import cache, partial

from ..kernels.control import RATES, RATES_PER_STEP, ROWS, STEP  # noqa: F401
from .launch import Context, Fed, Launch, float_of
from .maths import functions
from .runtime import cuda

#: slots that a rule keeps
SLOTS = {
    "sgd": 0, "momentum": 1, "nesterov": 1, "rmsprop": 1, "rmsprop_momentum": 2, "adam": 2, "adamax": 2, "nadam": 2,
    "adadelta": 2, "lion": 1, "adagrad": 1,
}  # fmt: skip


@cache
def formulas(T) -> dict:
    """name -> (w, g, s, r, rate, decay, a, b, c) -> (w, s, r)."""
    sqrt = functions(T).sqrt

    def sgd(w, g, s, r, rate, decay, a, b, c):
        return w - decay * w - rate * g, s, r

    def momentum(w, g, s, r, rate, decay, a, b, c):
        s = a * s - rate * g
        return w - decay * w + s, s, r

    def nesterov(w, g, s, r, rate, decay, a, b, c):
        s = a * s - rate * g
        return w - decay * w + (a * s - rate * g), s, r

    def rmsprop(w, g, s, r, rate, decay, a, b, c):
        s = a * s + (T(1) - a) * g * g
        return w - decay * w - rate * g / sqrt(s + b), s, r

    def rmsprop_momentum(w, g, s, r, rate, decay, a, b, c):
        s = a * s + (T(1) - a) * g * g
        r = c * r + rate * g / sqrt(s + b)
        return w - decay * w - r, s, r

    def adam(w, g, s, r, rate, decay, a, b, c):
        s = a * s + (T(1) - a) * g
        r = b * r + (T(1) - b) * g * g
        return w - decay * w - rate * s / (sqrt(r) + c), s, r

    def adamax(w, g, s, r, rate, decay, a, b, c):
        s = a * s + (T(1) - a) * g
        r = max(b * r, abs(g))
        return w - decay * w - rate * s / (r + c), s, r

    def nadam(w, g, s, r, rate, ahead, a, b, c):
        s = a * s + (T(1) - a) * g
        r = b * r + (T(1) - b) * g * g
        return w - (rate * s + ahead * g) / (sqrt(r) + c), s, r

    def adadelta(w, g, s, r, rate, decay, a, b, c):
        s = a * s + (T(1) - a) * g * g
        step = sqrt(r + b) / sqrt(s + b) * g
        r = a * r + (T(1) - a) * step * step
        return w - decay * w - rate * step, s, r

    def lion(w, g, s, r, rate, decay, a, b, c):
        way = a * s + (T(1) - a) * g
        step = rate if way > T(0) else -rate
        step = way if way == T(0) or way != way else step
        return w - decay * w - step, b * s + (T(1) - b) * g, r

    def adagrad(w, g, s, r, rate, decay, a, b, c):
        s = s + g * g
        return w - decay * w - rate * g / sqrt(s + a), s, r

    found = dict(locals())
    return {name: cuda.jit(device=True)(found[name]) for name in SLOTS}


@cache
def rule(T, name: str):
    """The kernel around a formula."""
    formula, slots = formulas(T)[name], SLOTS[name]

    @cuda.jit
    def run(ctl, geo, par, w, dw, first, second, rates):
        if ctl[ROWS] == 0 or rates[ctl[STEP] * RATES_PER_STEP + 2] != 0:
            return
        rate, decay = T(rates[ctl[STEP] * RATES_PER_STEP]), T(rates[ctl[STEP] * RATES_PER_STEP + 1])
        for j in range(cuda.grid(1), geo[0], cuda.gridsize(1)):
            s = first[j] if slots > 0 else T(0)
            r = second[j] if slots > 1 else T(0)
            new, s, r = formula(w[j], dw[j], s, r, rate, decay, par[0], par[1], par[2])
            w[j] = new
            if slots > 0:
                first[j] = s
            if slots > 1:
                second[j] = r

    return run


def _launch(name: str, c: Context, op: tuple) -> list[Launch]:
    w, dw, first, second, n, *numbers = op
    arrays = c.arrays(w, dw, first, second)
    return [c.flat(rule(c.T, name), n, (n,), [float_of(v) for v in numbers], *arrays, Fed("rates"))]


@cache
def amsgrad(T):
    """As adam, but for a third slot that keeps the largest averages of squares."""
    sqrt = functions(T).sqrt

    @cuda.jit
    def run(ctl, geo, par, w, dw, first, second, third, rates):
        if ctl[ROWS] == 0 or rates[ctl[STEP] * RATES_PER_STEP + 2] != 0:
            return
        rate, decay = T(rates[ctl[STEP] * RATES_PER_STEP]), T(rates[ctl[STEP] * RATES_PER_STEP + 1])
        for j in range(cuda.grid(1), geo[0], cuda.gridsize(1)):
            s = par[0] * first[j] + (T(1) - par[0]) * dw[j]
            r = par[1] * second[j] + (T(1) - par[1]) * dw[j] * dw[j]
            top = r if r > third[j] or r != r else third[j]
            first[j], second[j], third[j] = s, r, top
            w[j] = w[j] - decay * w[j] - rate * s / (sqrt(top) + par[2])

    return run


def _amsgrad(c: Context, op: tuple) -> list[Launch]:
    w, dw, first, second, n, *numbers = op
    third = (second[0], 2 * second[1] - first[1])
    arrays = c.arrays(w, dw, first, second, third)
    return [c.flat(amsgrad(c.T), n, (n,), [float_of(v) for v in numbers], *arrays, Fed("rates"))]


@cache
def accumulate(T):
    """dw is added to the sum of its group; with the last batch of the group dw becomes their mean."""

    @cuda.jit
    def run(ctl, geo, par, dw, total, rates):
        if ctl[ROWS] == 0:
            return
        waits, fresh = rates[ctl[STEP] * RATES_PER_STEP + 2] != 0, rates[ctl[STEP] * RATES_PER_STEP + 3] != 0
        for j in range(cuda.grid(1), geo[0], cuda.gridsize(1)):
            if fresh:
                total[j] = dw[j]
            elif waits:
                total[j] += dw[j]
            else:
                dw[j] = (total[j] + dw[j]) / T(geo[1])

    return run


def _accumulate(c: Context, op: tuple) -> list[Launch]:
    dw, total, n, batches = op
    return [c.flat(accumulate(c.T), n, (n, batches), (), *c.arrays(dw, total), Fed("rates"))]


LAUNCHERS = {
    **{f"update.{name}": partial(_launch, name) for name in SLOTS},
    "update.amsgrad": _amsgrad,
    "update.accumulate": _accumulate,
}
