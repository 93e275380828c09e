"""The batch out of the data set, which lies on the device as it was given (uint8, float32 or float64), and predictions into
their array. Stage: cuda, first and last of a step."""

from __future__ import annotations

from functools import cache

from ..kernels.control import BATCH, FIRST, ORDER, ROWS, STEP, TOTAL
from ..kernels.step import row_stride
from .launch import Context, Fed, Launch, float_of
from .runtime import cuda


@cuda.jit(device=True)
def source_row(ctl, order, i):
    """Which row of the data set is row i of this batch."""
    return order[ctl[FIRST] + i] if ctl[ORDER] else ctl[FIRST] + i


@cuda.jit
def advance(ctl):
    """The next batch: its number, first row and rows; no rows once the run has stopped."""
    if ctl[ROWS] == 0:
        return
    ctl[STEP] += 1
    first = ctl[STEP] * ctl[BATCH]
    ctl[FIRST] = first
    ctl[ROWS] = min(ctl[BATCH], ctl[TOTAL] - first)


@cache
def rows(T):
    """out = data[order] * scale + shift."""

    @cuda.jit
    def run(ctl, geo, par, data, order, out):
        width, stride = geo
        j0, i0 = cuda.grid(2)
        across, down = cuda.gridsize(2)
        for i in range(i0, ctl[ROWS], down):
            source = source_row(ctl, order, i) * width
            for j in range(j0, width, across):
                out[i * stride + j] = T(data[source + j]) * par[0] + par[1]

    return run


@cache
def plain(T):
    """out = data[order]: targets (rows, width), or weights (rows,) with a stride of 1."""

    @cuda.jit
    def run(ctl, geo, par, data, order, out):
        width, stride = geo
        j0, i0 = cuda.grid(2)
        across, down = cuda.gridsize(2)
        for i in range(i0, ctl[ROWS], down):
            source = source_row(ctl, order, i) * width
            for j in range(j0, width, across):
                out[i * stride + j] = data[source + j]

    return run


@cache
def leave(T):
    """out[first row + i] = y[i]."""

    @cuda.jit
    def run(ctl, geo, par, y, out):
        width, stride = geo
        j0, i0 = cuda.grid(2)
        across, down = cuda.gridsize(2)
        for i in range(i0, ctl[ROWS], down):
            target = (ctl[FIRST] + i) * width
            for j in range(j0, width, across):
                out[target + j] = y[i * stride + j]

    return run


def _rows(c: Context, op: tuple) -> list[Launch]:
    out, width, scale, shift, _, number, _ = op
    par = (float_of(scale), float_of(shift))
    geo = (width, row_stride(width))
    return [c.plane(rows(c.T), width, geo, par, Fed("x", number), Fed("order"), c.array(out))]


def _targets(c: Context, op: tuple) -> list[Launch]:
    y, width, number = op
    return [c.plane(plain(c.T), width, (width, row_stride(width)), (), Fed("y", number), Fed("order"), c.array(y))]


def _weights(c: Context, op: tuple) -> list[Launch]:
    return [c.plane(plain(c.T), 1, (1, 1), (), Fed("weight"), Fed("order"), c.array(op[0]))]


def _output(c: Context, op: tuple) -> list[Launch]:
    y, width, number = op
    return [c.plane(leave(c.T), width, (width, row_stride(width)), (), c.array(y), Fed("out", number))]


LAUNCHERS = {
    **{f"gather.{kind}": _rows for kind in ("uint8", "float32", "float64")},
    "gather.targets": _targets,
    "gather.weights": _weights,
    "gather.output": _output,
}
