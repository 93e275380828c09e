"""The products of linear layers, as `parnet/kernels/product.py` has them: forward, weight and input gradient. Stage:
cuda."""

from __future__ import annotations

from functools import cache

from ..kernels.control import ROWS
from ..kernels.step import row_stride
from .deliver import deliver
from .launch import Context, Fed, Launch
from .panels import WORDS, panels, start, step
from .runtime import cuda
from .tile import Operands, launches

#: where the words behind those of the panels are: K, F, and how far apart the rows of x and y are
K, F, X_ROW, Y_ROW, MODE = WORDS, WORDS + 1, WORDS + 2, WORDS + 3, WORDS + 4


@cuda.jit(device=True)
def _same(geo, i):
    return i, 0, 0


@cuda.jit(device=True)
def _row_of_x(geo, i):
    return i * geo[X_ROW], 0, 0


@cuda.jit(device=True)
def _number(geo, a, r0, r1, r2, t0, t1, t2):
    return a[r0 + t0]


@cache
def forward(T) -> Operands:
    """Y (rows, F) = X (rows, K) . W."""

    @cuda.jit(device=True)
    def extent(ctl, geo):
        return ctl[ROWS], geo[F], geo[K]

    @cuda.jit(device=True)
    def right(geo, w, k, j):
        return w[start(geo, 0, geo[K], j) + k * step(geo, 0, j)]

    @cuda.jit(device=True)
    def store(ctl, geo, par, y, tail, i, j, total):
        y[i * geo[Y_ROW] + j] = total

    return Operands(extent, _row_of_x, _same, _number, right, store, terms_lie_together=True)


@cache
def weight_gradient(T) -> Operands:
    """dW (K, F) = X^T . dY."""
    give = deliver(T)

    @cuda.jit(device=True)
    def extent(ctl, geo):
        return (geo[K] if ctl[ROWS] else 0), geo[F], ctl[ROWS]

    @cuda.jit(device=True)
    def right(geo, dy, k, j):
        return dy[k * geo[Y_ROW] + j]

    @cuda.jit(device=True)
    def store(ctl, geo, par, dw, tail, i, j, total):
        give(ctl, tail[0], geo[MODE], dw, start(geo, 0, geo[K], j) + i * step(geo, 0, j), total)

    return Operands(extent, _same, _row_of_x, _number, right, store, terms_lie_together=False)


@cache
def input_gradient(T) -> Operands:
    """dX (rows, K) = dY . W^T, with dY given as dY^T (F, batch)."""

    @cuda.jit(device=True)
    def extent(ctl, geo):
        return ctl[ROWS], geo[K], geo[F]

    @cuda.jit(device=True)
    def term(geo, k):
        return k * geo[Y_ROW], 0, 0

    @cuda.jit(device=True)
    def right(geo, w, k, j):
        return w[start(geo, 0, geo[K], k) + j * step(geo, 0, k)]

    @cuda.jit(device=True)
    def store(ctl, geo, par, dx, tail, i, j, total):
        dx[i * geo[X_ROW] + j] = total

    return Operands(extent, _same, term, _number, right, store, terms_lie_together=False)


@cache
def transpose(T):
    """y (width, rows) = x (rows, width) transposed."""

    @cuda.jit
    def run(ctl, geo, par, x, y):
        width, x_row, y_row = geo
        i0, j0 = cuda.grid(2)
        across, down = cuda.gridsize(2)
        for j in range(j0, width, down):
            for i in range(i0, ctl[ROWS], across):
                y[j * y_row + i] = x[i * x_row + j]

    return run


def _forward(c: Context, op: tuple) -> list[Launch]:
    x, w, y, k, width = op[:5]
    geo = (*panels(k, width), k, width, row_stride(k), row_stride(width), 0)
    return launches(c, forward(c.T), (c.batch, width, k), geo, (), c.arrays(x, w, y), c.arrays(0))


def _weight_gradient(c: Context, op: tuple) -> list[Launch]:
    x, dy, dw, k, width, mode, _ = op
    geo = (*panels(k, width), k, width, row_stride(k), row_stride(width), mode)
    return launches(c, weight_gradient(c.T), (k, width, c.batch), geo, (), c.arrays(x, dy, dw), (Fed("rates"),))


def _transpose(c: Context, op: tuple) -> list[Launch]:
    x, y, width, batch, _ = op
    geo = (width, row_stride(width), row_stride(batch))
    return [c.plane(transpose(c.T), c.batch, geo, (), *c.arrays(x, y), rows=width)]


def _input_gradient(c: Context, op: tuple) -> list[Launch]:
    w, dyt, dx, k, width, batch, _ = op
    geo = (*panels(k, width), k, width, row_stride(k), row_stride(batch), 0)
    return launches(c, input_gradient(c.T), (c.batch, k, width), geo, (), c.arrays(dyt, w, dx), c.arrays(0))


LAUNCHERS = {
    "product.forward": _forward,
    "product.weight_gradient": _weight_gradient,
    "product.transpose": _transpose,
    "product.input_gradient": _input_gradient,
}
