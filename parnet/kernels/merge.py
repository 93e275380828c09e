"""Several arrays into one, number by number or side by side. Stage: kernels. Must not know: layers.

What is folded is folded from left to right, so the order of a sum is that of the operands, whatever the number of parts.
"""

from __future__ import annotations

from .control import ROWS
from .declare import Kernel, device, kernel
from .intrinsics import at, float_word, lanes, like
from .share import TILE_ROWS, cut, rectangle, span, stride_of, whole

#: where the list of inputs starts among the operands of a fold
INPUTS = 4


def _fold_kernel(name, formula) -> Kernel:
    """The kernel y = formula(formula(x1, x2), x3) ...

    op: y (rows, width) written, none of the inputs, width, share, n > 1, then n times x (rows, width).
    Owner: as shared.
    """
    formula = device(formula)

    def run(op, ctl, mem, part, parts):
        width, stride, inputs = op[1], stride_of(op[1]), op[3]
        r0, r1, c0, c1 = rectangle(op[2], ctl[ROWS], width, part, parts)
        for i in range(r0, r1):
            first, last = span(op[2], width, i, r0, r1, c0, c1)
            spot, n = i * stride + first, whole(last - first, lanes(mem))
            y, a, b = at(mem, op[0] + spot), at(mem, op[INPUTS] + spot), at(mem, op[INPUTS + 1] + spot)
            for j in range(n):
                y[j] = formula(a[j], b[j])
            for k in range(2, inputs):
                x = at(mem, op[INPUTS + k] + spot)
                for j in range(n):
                    y[j] = formula(y[j], x[j])

    run.__doc__ = _fold_kernel.__doc__
    return Kernel(f"merge.{name}", run)


add = _fold_kernel("add", lambda a, b: a + b)
subtract = _fold_kernel("subtract", lambda a, b: a - b)
multiply = _fold_kernel("multiply", lambda a, b: a * b)
maximum = _fold_kernel("maximum", lambda a, b: a if (a > b) | (a != a) else b)  # a NaN stays one


@kernel
def accumulate(op, ctl, mem, part, parts):
    """y (rows, width) += x1, += x2, ..., one after the other.

    op: y, width, share, n, then n times x (rows, width).   Owner: as shared.
    """
    width, stride = op[1], stride_of(op[1])
    r0, r1, c0, c1 = rectangle(op[2], ctl[ROWS], width, part, parts)
    for i in range(r0, r1):
        first, last = span(op[2], width, i, r0, r1, c0, c1)
        y = at(mem, op[0] + i * stride + first)
        for k in range(op[3]):
            x = at(mem, op[INPUTS + k] + i * stride + first)
            for j in range(whole(last - first, lanes(mem))):
                y[j] += x[j]


@kernel
def scale(op, ctl, mem, part, parts):
    """y (rows, width) *= factor.   op: y, width, share, factor.   Owner: as shared."""
    width, stride, factor = op[1], stride_of(op[1]), float_word(mem, op[3])
    r0, r1, c0, c1 = rectangle(op[2], ctl[ROWS], width, part, parts)
    for i in range(r0, r1):
        first, last = span(op[2], width, i, r0, r1, c0, c1)
        y = at(mem, op[0] + i * stride + first)
        for j in range(whole(last - first, lanes(mem))):
            y[j] *= factor


@kernel
def maximum_grad(op, ctl, mem, part, parts):
    """dx (rows, width) = dy where x_k is the largest of x1 ... xn, the first of equals; else 0.

    op: dx written, width, share, n, then n times x (rows, width), then dy (rows, width), k.   Owner: as shared.
    """
    width, stride, inputs = op[1], stride_of(op[1]), op[3]
    chosen = op[INPUTS + inputs + 1]
    r0, r1, c0, c1 = rectangle(op[2], ctl[ROWS], width, part, parts)
    for i in range(r0, r1):
        first, last = span(op[2], width, i, r0, r1, c0, c1)
        spot, n = i * stride + first, whole(last - first, lanes(mem))
        dx, dy, mine = at(mem, op[0] + spot), at(mem, op[INPUTS + inputs] + spot), at(mem, op[INPUTS + chosen] + spot)
        for j in range(n):
            dx[j] = dy[j]
        for k in range(inputs):
            x = at(mem, op[INPUTS + k] + spot)
            if k < chosen:
                for j in range(n):
                    dx[j] = dx[j] if mine[j] > x[j] else like(mem, 0)
            elif k > chosen:
                for j in range(n):
                    dx[j] = dx[j] if mine[j] >= x[j] else like(mem, 0)


@device
def copy_block(source, source_run, target, target_run, runs, n):
    """target[r * target_run + j] = source[r * source_run + j] for r < runs, j < n."""
    for r in range(runs):
        a, b = at(source, r * source_run), at(target, r * target_run)
        for j in range(n):
            b[j] = a[j]


@kernel
def join(op, ctl, mem, part, parts):
    """x (rows, runs, n) into y[:, :, first : first + n] of y (rows, runs, total).

    op: x, y written, runs, n, total, first.   Owner: rows.
    """
    runs, n, total = op[2], op[3], op[4]
    first, last = cut(ctl[ROWS], TILE_ROWS, part, parts)
    for i in range(first, last):
        x, y = at(mem, op[0] + i * stride_of(runs * n)), at(mem, op[1] + i * stride_of(runs * total) + op[5])
        copy_block(x, n, y, total, runs, n)


@kernel
def take(op, ctl, mem, part, parts):
    """x (rows, runs, n) = y[:, :, first : first + n] of y (rows, runs, total), the reverse of `join`.

    op: x written, y, runs, n, total, first.   Owner: rows.
    """
    runs, n, total = op[2], op[3], op[4]
    first, last = cut(ctl[ROWS], TILE_ROWS, part, parts)
    for i in range(first, last):
        x, y = at(mem, op[0] + i * stride_of(runs * n)), at(mem, op[1] + i * stride_of(runs * total) + op[5])
        copy_block(y, total, x, n, runs, n)
