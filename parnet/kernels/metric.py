"""Metrics: a number a row, counts of classes, or of outputs by their range. Stage: kernels.

Must not know: how a metric is reported.

op: pred (rows, width), target (rows, targets), values (rows,) written, width, targets, parameter.   Owner: rows.
"""

from __future__ import annotations

import math

from . import maths
from .control import ROWS, SUMS
from .declare import Kernel, device, kernel
from .intrinsics import at, float64_at, float_word, like
from .share import TILE_ROWS, cut, stride_of


@device
def largest(p, width):
    """The first place of the largest number."""
    best = 0
    for j in range(1, width):
        if p[j] > p[best]:
            best = j
    return best


def _row_metric(name, formula) -> Kernel:
    """The kernel around a formula(p, t, width, targets, parameter) -> value of one row."""
    formula = device(formula)

    def run(op, ctl, mem, part, parts):
        width, targets, parameter = op[3], op[4], float_word(mem, op[5])
        first, last = cut(ctl[ROWS], TILE_ROWS, part, parts)
        for i in range(first, last):
            p, t = at(mem, op[0] + i * stride_of(width)), at(mem, op[1] + i * stride_of(targets))
            at(mem, op[2])[i] = formula(p, t, width, targets, parameter)

    run.__doc__ = __doc__
    return Kernel(f"metric.{name}", run)


def _sparse_accuracy(p, t, width, targets, parameter):
    return like(p, 1) if largest(p, width) == int(t[0]) else like(p, 0)


def _categorical_accuracy(p, t, width, targets, parameter):
    return like(p, 1) if largest(p, width) == largest(t, width) else like(p, 0)


def _binary_accuracy(p, t, width, targets, threshold):
    right = 0
    for j in range(width):
        right += (p[j] > threshold) == (t[j] > like(p, 0.5))
    return like(p, right) / like(p, width)


def _top_k(p, t, width, targets, k):
    label = int(t[0]) if targets == 1 else largest(t, width)
    above = 0
    for j in range(width):
        above += p[j] > p[label] or (p[j] == p[label] and j < label)
    return like(p, 1) if like(p, above) < k else like(p, 0)


def _squared(p, t, width, targets, parameter):
    total = like(p, 0)
    for j in range(width):
        total += (p[j] - t[j]) * (p[j] - t[j])
    return total / like(p, width)


def _absolute(p, t, width, targets, parameter):
    total = like(p, 0)
    for j in range(width):
        total += abs(p[j] - t[j])
    return total / like(p, width)


sparse_accuracy = _row_metric("sparse_accuracy", _sparse_accuracy)
categorical_accuracy = _row_metric("categorical_accuracy", _categorical_accuracy)
binary_accuracy = _row_metric("binary_accuracy", _binary_accuracy)
top_k = _row_metric("top_k", _top_k)
squared = _row_metric("squared", _squared)
absolute = _row_metric("absolute", _absolute)


@kernel
def confusion(op, ctl, mem, part, parts):
    """Counts of (true class, predicted class) of rows of one class each, added to SUMS[slot + true * width + predicted].

    op: pred (rows, width), target (rows, targets), width, targets, slot, parameter.   Owner: one part.
    """
    width, targets, counts = op[2], op[3], at(float64_at(ctl[SUMS]), op[4])
    for i in range(ctl[ROWS]):
        p, t = at(mem, op[0] + i * stride_of(width)), at(mem, op[1] + i * stride_of(targets))
        true = int(t[0]) if targets == 1 else largest(t, width)
        counts[true * width + largest(p, width)] += 1.0


@kernel
def yes_no(op, ctl, mem, part, parts):
    """Counts of (is yes, called yes) of each output, added to SUMS[slot + output * apart + 2 * is + called].

    op: pred (rows, width), target (rows, width), width, targets, slot, threshold, apart.   Owner: one part.
    apart: 0 counts all outputs together.
    """
    width, targets, threshold = op[2], op[3], float_word(mem, op[5])
    counts = at(float64_at(ctl[SUMS]), op[4])
    for i in range(ctl[ROWS]):
        p, t = at(mem, op[0] + i * stride_of(width)), at(mem, op[1] + i * stride_of(targets))
        for j in range(width):
            counts[j * op[6] + 2 * int(t[j] > like(mem, 0.5)) + int(p[j] > threshold)] += 1.0


@kernel
def deviations(op, ctl, mem, part, parts):
    """Of each output the sums of t, t^2 and (p - t)^2, added to SUMS[slot + 3 output] and the next two.

    op: pred (rows, width), target (rows, width), width, targets, slot, parameter.   Owner: one part.
    """
    width, sums = op[2], at(float64_at(ctl[SUMS]), op[4])
    for i in range(ctl[ROWS]):
        p, t = at(mem, op[0] + i * stride_of(width)), at(mem, op[1] + i * stride_of(op[3]))
        for j in range(width):
            aim, rest = like(sums, t[j]), like(sums, p[j]) - like(sums, t[j])  # in float64: the sums cancel
            sums[3 * j] += aim
            sums[3 * j + 1] += aim * aim
            sums[3 * j + 2] += rest * rest


@device
def count_range(p, yes, counts, ranges):
    """One output into its range: 0 to 1 in the first, each other without its lower end; word 0 counts those outside."""
    if not (p >= like(p, 0) and p <= like(p, 1)):
        counts[0] += 1.0
        return
    place = max(0, math.ceil(p * like(p, ranges)) - 1)
    counts[1 + yes * ranges + place] += 1.0


def _ranges(name, squash) -> Kernel:
    """The kernel around what makes probabilities of the outputs."""
    squash = device(squash)

    def run(op, ctl, mem, part, parts):
        """Counts of outputs by their range and target, added to SUMS[slot...]: outside, no by range, yes by range.

        op: pred (rows, width), target (rows, width), width, targets, slot, ranges, apart.   Owner: one part.
        apart: 0 counts all outputs together; else each has so many words of its own.
        """
        width, targets, ranges = op[2], op[3], int(float_word(mem, op[5]))
        counts = at(float64_at(ctl[SUMS]), op[4])
        for i in range(ctl[ROWS]):
            p, t = at(mem, op[0] + i * stride_of(width)), at(mem, op[1] + i * stride_of(targets))
            for j in range(width):
                count_range(squash(p[j]), int(t[j] > like(mem, 0.5)), at(counts, j * op[6]), ranges)

    return Kernel(f"metric.{name}", run)


ranges = _ranges("ranges", lambda p: p)
logit_ranges = _ranges("logit_ranges", lambda p: maths.sigmoid(p))
