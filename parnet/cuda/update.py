"""Optimizer steps on flat vectors of weights; the rules of `parnet/kernels/update.py`, a thread a weight. Stage: cuda."""

from __future__ import annotations

from functools import cache, partial

from ..kernels.control import RATES, RATES_PER_STEP, ROWS, STEP  # noqa: F401
from .launch import Context, Fed, Launch, float_of
from .maths import functions
from .runtime import cuda

#: slots that a rule keeps
SLOTS = {"sgd": 0, "momentum": 1, "nesterov": 1, "rmsprop": 1, "rmsprop_momentum": 2, "adam": 2, "adagrad": 1}


@cache
def formulas(T) -> dict:
    """name -> (w, g, s, r, rate, decay, a, b, c) -> (w, s, r)."""
    sqrt = functions(T).sqrt

    def sgd(w, g, s, r, rate, decay, a, b, c):
        return w - rate * g, s, r

    def momentum(w, g, s, r, rate, decay, a, b, c):
        s = a * s - rate * g
        return w + s, s, r

    def nesterov(w, g, s, r, rate, decay, a, b, c):
        s = a * s - rate * g
        return w + (a * s - rate * g), s, r

    def rmsprop(w, g, s, r, rate, decay, a, b, c):
        s = a * s + (T(1) - a) * g * g
        return w - rate * g / sqrt(s + b), s, r

    def rmsprop_momentum(w, g, s, r, rate, decay, a, b, c):
        s = a * s + (T(1) - a) * g * g
        r = c * r + rate * g / sqrt(s + b)
        return w - r, s, r

    def adam(w, g, s, r, rate, decay, a, b, c):
        s = a * s + (T(1) - a) * g
        r = b * r + (T(1) - b) * g * g
        return w - decay * w - rate * s / (sqrt(r) + c), s, r

    def adagrad(w, g, s, r, rate, decay, a, b, c):
        s = s + g * g
        return w - rate * g / sqrt(s + a), s, r

    rules = (sgd, momentum, nesterov, rmsprop, rmsprop_momentum, adam, adagrad)
    return {rule.__name__: cuda.jit(device=True)(rule) for rule in rules}


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


LAUNCHERS = {f"update.{name}": partial(_launch, name) for name in SLOTS} | {"update.accumulate": _accumulate}
