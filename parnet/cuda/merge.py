"""Several arrays into one, a thread a number; as `parnet/kernels/merge.py`: folded from left to right. Stage: cuda."""

from __future__ import annotations

from functools import cache, partial

from ..kernels.control import ROWS
from ..kernels.step import row_stride
from .launch import Context, Launch, float_of
from .runtime import cuda

FOLDS = ("add", "subtract", "multiply", "maximum")


@cache
def fold(T, name: str):
    """y = formula(formula(x1, x2), x3) ...; accumulate: y += x1, += x2, ..."""

    def add(a, b):
        return a + b

    def subtract(a, b):
        return a - b

    def multiply(a, b):
        return a * b

    def maximum(a, b):
        return a if a > b or a != a else b  # a NaN stays one

    formulas = {"add": add, "subtract": subtract, "multiply": multiply, "maximum": maximum, "accumulate": add}
    formula, onto = cuda.jit(device=True)(formulas[name]), name == "accumulate"

    @cuda.jit
    def run(ctl, geo, par, y, xs):
        width, stride = geo
        j0, i0 = cuda.grid(2)
        across, down = cuda.gridsize(2)
        for i in range(i0, ctl[ROWS], down):
            for j in range(j0, width, across):
                spot = i * stride + j
                value = formula(y[spot], xs[0][spot]) if onto else xs[0][spot]
                for k in range(1, len(xs)):
                    value = formula(value, xs[k][spot])
                y[spot] = value

    return run


@cache
def scale(T):
    """y *= factor."""

    @cuda.jit
    def run(ctl, geo, par, y):
        width, stride = geo
        j0, i0 = cuda.grid(2)
        across, down = cuda.gridsize(2)
        for i in range(i0, ctl[ROWS], down):
            for j in range(j0, width, across):
                y[i * stride + j] *= par[0]

    return run


@cache
def maximum_grad(T):
    """dx = dy where x_k is the largest, the first of equals; else 0."""

    @cuda.jit
    def run(ctl, geo, par, dx, xs, dy):
        width, stride, chosen = geo
        j0, i0 = cuda.grid(2)
        across, down = cuda.gridsize(2)
        for i in range(i0, ctl[ROWS], down):
            for j in range(j0, width, across):
                spot = i * stride + j
                value, mine = dy[spot], xs[chosen][spot]
                for k in range(len(xs)):
                    if k < chosen:
                        value = value if mine > xs[k][spot] else T(0)
                    elif k > chosen:
                        value = value if mine >= xs[k][spot] else T(0)
                dx[spot] = value

    return run


@cache
def block(T, join: bool):
    """y[:, :, first : first + n] = x (join), or the reverse."""

    @cuda.jit
    def run(ctl, geo, par, x, y):
        runs, n, total, first, x_row, y_row = geo
        j0, i0 = cuda.grid(2)
        across, down = cuda.gridsize(2)
        for i in range(i0, ctl[ROWS], down):
            for j in range(j0, runs * n, across):
                there = i * y_row + j // n * total + j % n + first
                if join:
                    y[there] = x[i * x_row + j]
                else:
                    x[i * x_row + j] = y[there]

    return run


def _fold(name: str, c: Context, op: tuple) -> list[Launch]:
    y, width, _, count, *xs = op
    return [c.plane(fold(c.T, name), width, (width, row_stride(width)), (), c.array(y), c.arrays(*xs[:count]))]


def _scale(c: Context, op: tuple) -> list[Launch]:
    y, width, _, factor = op
    return [c.plane(scale(c.T), width, (width, row_stride(width)), (float_of(factor),), c.array(y))]


def _maximum_grad(c: Context, op: tuple) -> list[Launch]:
    dx, width, _, count, *rest = op
    xs, (dy, chosen) = rest[:count], rest[count:]
    geo = (width, row_stride(width), chosen)
    return [c.plane(maximum_grad(c.T), width, geo, (), c.array(dx), c.arrays(*xs), c.array(dy))]


def _block(join: bool, c: Context, op: tuple) -> list[Launch]:
    x, y, runs, n, total, first = op
    geo = (runs, n, total, first, row_stride(runs * n), row_stride(runs * total))
    return [c.plane(block(c.T, join), runs * n, geo, (), *c.arrays(x, y))]


LAUNCHERS = {
    **{f"merge.{name}": partial(_fold, name) for name in (*FOLDS, "accumulate")},
    "merge.scale": _scale,
    "merge.maximum_grad": _maximum_grad,
    "merge.join": partial(_block, True),
    "merge.take": partial(_block, False),
}
