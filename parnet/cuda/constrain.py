"""What weights must satisfy after an update: `parnet/kernels/constrain.py`, a thread a norm. Stage: cuda."""

from __future__ import annotations

from functools import cache

from ..kernels.constrain import FIRST_AXIS, SECOND_AXIS, THIRD_AXIS
from ..kernels.control import RATES_PER_STEP, ROWS, STEP
from .launch import Context, Fed, Launch, float_of
from .maths import functions
from .panels import panels, start, step
from .runtime import cuda

#: where in `geo` the words of the panels begin
PANELS = 8


@cache
def norm(T):
    """w, its norms along some axes of its rows brought into a range."""
    sqrt = functions(T).sqrt

    @cuda.jit
    def run(ctl, geo, par, w, rates):
        if ctl[ROWS] == 0 or rates[ctl[STEP] * RATES_PER_STEP + 2] != 0:
            return
        d1, d2, n0, n1, n2, width = geo[1], geo[2], geo[3], geo[4], geo[5], geo[6]
        height, kept1, kept2 = geo[0] * d1 * d2, d1 // n1, d2 // n2
        for t in range(cuda.grid(1), geo[7], cuda.gridsize(1)):
            k, f = t // width, t % width
            row = (k // (kept1 * kept2) * d1 + k // kept2 % kept1) * d2 + k % kept2
            pitch = step(geo, PANELS, f)
            first = start(geo, PANELS, height, f) + row * pitch
            total = T(0)
            for i in range(n0 * n1 * n2):
                x = w[first + ((i // (n1 * n2) * d1 + i // n2 % n1) * d2 + i % n2) * pitch]
                total += x * x
            size = sqrt(total)
            wanted = par[0] if size < par[0] else par[1] if size > par[1] else size
            if size > T(0) and wanted != size:
                factor = par[2] * (wanted / size) + (T(1) - par[2])
                for i in range(n0 * n1 * n2):
                    w[first + ((i // (n1 * n2) * d1 + i // n2 % n1) * d2 + i % n2) * pitch] *= factor

    return run


@cache
def non_negative(T):
    """w below 0 becomes 0; a NaN stays one."""

    @cuda.jit
    def run(ctl, geo, par, w, rates):
        if ctl[ROWS] == 0 or rates[ctl[STEP] * RATES_PER_STEP + 2] != 0:
            return
        for j in range(cuda.grid(1), geo[0], cuda.gridsize(1)):
            w[j] = T(0) if w[j] < T(0) else w[j]

    return run


def _norm(c: Context, op: tuple) -> list[Launch]:
    w, *sizes, along, width, panel, low, high, rate, _ = op
    bits = (FIRST_AXIS, SECOND_AXIS, THIRD_AXIS)
    summed = [size if along & bit else 1 for size, bit in zip(sizes, bits, strict=True)]
    height = sizes[0] * sizes[1] * sizes[2]
    norms = height // (summed[0] * summed[1] * summed[2]) * width
    words = (1, 0, 0, 1, 1, 1) if panel < 0 else panels(height, width, panel)
    geo = (*sizes, *summed, width, norms, *words)
    return [c.flat(norm(c.T), norms, geo, [float_of(v) for v in (low, high, rate)], c.array(w), Fed("rates"))]


def _non_negative(c: Context, op: tuple) -> list[Launch]:
    w, n = op
    return [c.flat(non_negative(c.T), n, (n,), (), c.array(w), Fed("rates"))]


LAUNCHERS = {"constrain.norm": _norm, "constrain.non_negative": _non_negative}
