"""Metrics: a thread a row, or counts of classes; as `parnet/kernels/metric.py`. Stage: cuda."""

from __future__ import annotations

import math
from functools import cache, partial

import numpy as np

from ..kernels.control import ROWS
from ..kernels.step import row_stride
from .launch import Context, Fed, Launch, float_of
from .maths import functions
from .runtime import cuda

NAMES = ("sparse_accuracy", "categorical_accuracy", "binary_accuracy", "top_k", "squared", "absolute")


@cuda.jit(device=True)
def largest(p, first, width):
    """The first place of the largest number."""
    best = 0
    for j in range(1, width):
        if p[first + j] > p[first + best]:
            best = j
    return best


@cache
def formulas(T) -> dict:
    """name -> (p, its first, width, t, its first, width, parameter) -> value of one row."""

    def sparse_accuracy(p, a, width, t, b, targets, parameter):
        return T(1) if largest(p, a, width) == int(t[b]) else T(0)

    def categorical_accuracy(p, a, width, t, b, targets, parameter):
        return T(1) if largest(p, a, width) == largest(t, b, width) else T(0)

    def binary_accuracy(p, a, width, t, b, targets, threshold):
        right = 0
        for j in range(width):
            right += 1 if (p[a + j] > threshold) == (t[b + j] > T(0.5)) else 0
        return T(right) / T(width)

    def top_k(p, a, width, t, b, targets, k):
        label = int(t[b]) if targets == 1 else largest(t, b, width)
        above = 0
        for j in range(width):
            above += 1 if p[a + j] > p[a + label] or (p[a + j] == p[a + label] and j < label) else 0
        return T(1) if T(above) < k else T(0)

    def squared(p, a, width, t, b, targets, parameter):
        total = T(0)
        for j in range(width):
            total += (p[a + j] - t[b + j]) * (p[a + j] - t[b + j])
        return total / T(width)

    def absolute(p, a, width, t, b, targets, parameter):
        total = T(0)
        for j in range(width):
            total += abs(p[a + j] - t[b + j])
        return total / T(width)

    found = dict(locals())
    return {name: cuda.jit(device=True)(found[name]) for name in NAMES}


@cache
def row_metric(T, name: str):
    """The kernel around a formula."""
    formula = formulas(T)[name]

    @cuda.jit
    def run(ctl, geo, par, p, t, values):
        width, stride, targets, t_stride = geo
        for i in range(cuda.grid(1), ctl[ROWS], cuda.gridsize(1)):
            values[i] = formula(p, i * stride, width, t, i * t_stride, targets, par[0])

    return run


@cache
def classes_of(T):
    """cells[2 i] = true class of row i, cells[2 i + 1] = the predicted one."""

    @cuda.jit
    def run(ctl, geo, par, p, t, cells):
        width, stride, targets, t_stride = geo
        for i in range(cuda.grid(1), ctl[ROWS], cuda.gridsize(1)):
            true = int(t[i * t_stride]) if targets == 1 else largest(t, i * t_stride, width)
            cells[2 * i], cells[2 * i + 1] = T(true), T(largest(p, i * stride, width))

    return run


@cache
def count_classes(T):
    """sums[slot + true * classes + predicted] += how many rows are of these two, a thread a sum."""

    @cuda.jit
    def run(ctl, geo, par, cells, sums):
        classes, slot = geo
        for cell in range(cuda.grid(1), classes * classes, cuda.gridsize(1)):
            true, predicted = cell // classes, cell % classes
            found = 0
            for i in range(ctl[ROWS]):
                found += 1 if int(cells[2 * i]) == true and int(cells[2 * i + 1]) == predicted else 0
            sums[slot + cell] += found

    return run


@cache
def answers_of(T):
    """cells[i, j] = 2 is yes + called yes."""

    @cuda.jit
    def run(ctl, geo, par, p, t, cells):
        width, stride, t_stride = geo
        for k in range(cuda.grid(1), ctl[ROWS] * width, cuda.gridsize(1)):
            i, j = k // width, k % width
            cells[k] = T((2 if t[i * t_stride + j] > T(0.5) else 0) + (1 if p[i * stride + j] > par[0] else 0))

    return run


@cache
def ranges_of(T, logits: bool):
    """cells[i, j] = 1 + yes * ranges + its range where the output is from 0 to 1, else 0."""
    sigmoid = functions(T).sigmoid

    @cuda.jit
    def run(ctl, geo, par, p, t, cells):
        width, stride, t_stride, ranges = geo
        for k in range(cuda.grid(1), ctl[ROWS] * width, cuda.gridsize(1)):
            i, j = k // width, k % width
            value = sigmoid(p[i * stride + j]) if logits else p[i * stride + j]
            yes = 1 if t[i * t_stride + j] > T(0.5) else 0
            if value >= T(0) and value <= T(1):
                cells[k] = T(1 + yes * ranges + max(0, math.ceil(value * T(ranges)) - 1))
            else:
                cells[k] = T(0)

    return run


@cache
def count_cells(T):
    """sums[slot + label * apart + cell] += how many outputs of that label are in that cell, a thread a sum.

    Labels lie one beside the other in a row of `width` outputs; with one label all outputs are its own.
    """

    @cuda.jit
    def run(ctl, geo, par, cells, sums):
        slot, labels, apart, width = geo
        for k in range(cuda.grid(1), labels * apart, cuda.gridsize(1)):
            label, cell = k // apart, k % apart
            found = 0
            for i in range(label, ctl[ROWS] * width, labels):
                found += 1 if int(cells[i]) == cell else 0
            sums[slot + k] += found

    return run


@cache
def deviations(T):
    """Of each output the sums of t, t^2 and (p - t)^2, a thread an output."""

    @cuda.jit
    def run(ctl, geo, par, p, t, sums):
        width, stride, t_stride, slot = geo
        for j in range(cuda.grid(1), width, cuda.gridsize(1)):
            total, squares, rest = 0.0, 0.0, 0.0
            for i in range(ctl[ROWS]):
                aim = np.float64(t[i * t_stride + j])
                off = np.float64(p[i * stride + j]) - aim
                total += aim
                squares += aim * aim
                rest += off * off
            sums[slot + 3 * j] += total
            sums[slot + 3 * j + 1] += squares
            sums[slot + 3 * j + 2] += rest

    return run


def _deviations(c: Context, op: tuple) -> list[Launch]:
    p, t, width, targets, slot, *_ = op
    geo = (width, row_stride(width), row_stride(targets), slot)
    return [c.flat(deviations(c.T), width, geo, (), *c.arrays(p, t), Fed("sums"))]


def _ranges(logits: bool, c: Context, op: tuple) -> list[Launch]:
    p, t, width, targets, slot, number, apart = op
    ranges, cells = int(float_of(number)), c.scratch(c.batch * width)
    geo = (width, row_stride(width), row_stride(targets), ranges)
    first = c.flat(ranges_of(c.T, logits), c.batch * width, geo, (), *c.arrays(p, t), cells)
    return [first, _count_cells(c, cells, width, slot, 1 + 2 * ranges, apart)]


def _yes_no(c: Context, op: tuple) -> list[Launch]:
    p, t, width, targets, slot, threshold, apart = op
    geo, cells = (width, row_stride(width), row_stride(targets)), c.scratch(c.batch * width)
    first = c.flat(answers_of(c.T), c.batch * width, geo, (float_of(threshold),), *c.arrays(p, t), cells)
    return [first, _count_cells(c, cells, width, slot, 4, apart)]


def _count_cells(c: Context, cells, width: int, slot: int, words: int, apart: int) -> Launch:
    labels = width if apart else 1
    return c.flat(count_cells(c.T), labels * words, (slot, labels, words, width), (), cells, Fed("sums"))


def _row_metric(name: str, c: Context, op: tuple) -> list[Launch]:
    p, t, values, width, targets, parameter = op
    geo = (width, row_stride(width), targets, row_stride(targets))
    return [c.flat(row_metric(c.T, name), c.batch, geo, (float_of(parameter),), *c.arrays(p, t, values))]


def _confusion(c: Context, op: tuple) -> list[Launch]:
    p, t, width, targets, slot, *_ = op
    geo, cells = (width, row_stride(width), targets, row_stride(targets)), c.scratch(2 * c.batch)
    first = c.flat(classes_of(c.T), c.batch, geo, (), *c.arrays(p, t), cells)
    return [first, c.flat(count_classes(c.T), width**2, (width, slot), (), cells, Fed("sums"))]


LAUNCHERS = {**{f"metric.{name}": partial(_row_metric, name) for name in NAMES}, "metric.confusion": _confusion}
LAUNCHERS |= {
    "metric.deviations": _deviations,
    "metric.yes_no": _yes_no,
    "metric.ranges": partial(_ranges, False),
    "metric.logit_ranges": partial(_ranges, True),
}
