"""What weights must satisfy after an update. Stage: kernels, behind the update. Must not know: layers.

Nothing is changed by a batch that has no update (see `control.RATES`). A norm is the sum of squares in rising order of the
rows, by one part: how the columns are cut cannot be seen in the bits.
"""

from __future__ import annotations

from .control import RATES, RATES_PER_STEP, SCRATCH, STEP
from .declare import device, kernel
from .intrinsics import at, float64_at, float_word, lanes, like, pointer_at, square_root
from .share import columns, cut, panel_of, run_of, stride_of
from .step import COLUMNS, NARROW, PANEL, PANELS

#: bits of the operand that says along which of its three axes of rows the norms of a weight are taken
FIRST_AXIS, SECOND_AXIS, THIRD_AXIS = 1, 2, 4


@device
def waits(ctl):
    """Whether this batch has no update."""
    return float64_at(ctl[RATES])[ctl[STEP] * RATES_PER_STEP + 2] != 0


@device
def add_squares(w, step, wide, sums):
    """sums[j] += w[j]^2, numbers `step` apart."""
    if step == 1:
        for j in range(wide):
            sums[j] += w[j] * w[j]
    else:
        for j in range(wide):
            sums[j] += w[j * step] * w[j * step]


@device
def multiply_row(w, step, wide, factors):
    """w[j] *= factors[j], numbers `step` apart."""
    if step == 1:
        for j in range(wide):
            w[j] *= factors[j]
    else:
        for j in range(wide):
            w[j * step] *= factors[j]


@device
def make_factors(op, mem, sums, wide):
    """Sums of squares become factors that bring the norms into their range. Returns whether one of them is not 1."""
    low, high, rate = float_word(mem, op[7]), float_word(mem, op[8]), float_word(mem, op[9])
    some = False
    for j in range(wide):
        norm = square_root(sums[j])
        wanted = low if norm < low else high if norm > high else norm
        outside = norm > like(mem, 0) and wanted != norm
        sums[j] = rate * (wanted / norm) + (like(mem, 1) - rate) if outside else like(mem, 1)
        some |= outside
    return some


@device
def constrain_panel(op, mem, w, row, step, wide, sums):
    """The norms of some columns whose rows lie `row` and whose columns lie `step` apart."""
    d0, d1, d2, along = op[1], op[2], op[3], op[4]
    a0, a1, a2 = along & FIRST_AXIS, along & SECOND_AXIS, along & THIRD_AXIS
    n0, n1, n2 = (d0 if a0 else 1), (d1 if a1 else 1), (d2 if a2 else 1)
    for k in range((d0 // n0) * (d1 // n1) * (d2 // n2)):
        k2 = k % (d2 // n2)
        k1 = k // (d2 // n2) % (d1 // n1)
        k0 = k // ((d2 // n2) * (d1 // n1))
        own = at(w, ((k0 * d1 + k1) * d2 + k2) * row)
        for j in range(wide):
            sums[j] = like(mem, 0)
        for i in range(n0 * n1 * n2):
            r = (i // (n1 * n2) * d1 + i // n2 % n1) * d2 + i % n2
            add_squares(at(own, r * row), step, wide, sums)
        if make_factors(op, mem, sums, wide):
            for i in range(n0 * n1 * n2):
                r = (i // (n1 * n2) * d1 + i // n2 % n1) * d2 + i % n2
                multiply_row(at(own, r * row), step, wide, sums)


@kernel
def norm(op, ctl, mem, part, parts):
    """w (d0, d1, d2, F), its norms along some of the first three axes brought into a range.

    op: w, d0, d1, d2, axes (bits), F, panel (see `layers.base.Weight`; -1 for a vector, whose F is 1), low, high, rate,
    share.   Owner: columns or panels of w, or one part.
    """
    if waits(ctl):
        return
    height, width, panel = op[1] * op[2] * op[3], op[5], op[6]
    w, sums = at(mem, op[0]), pointer_at(mem, ctl[SCRATCH])
    if panel < 0:
        constrain_panel(op, mem, w, 1, 1, 1, sums)
        return
    first, last, most = 0, width, panel
    if op[10] == COLUMNS:
        first, last = columns(width, part, parts)
        most = PANEL
    elif op[10] == PANELS:
        first, last = cut(width, panel_of(width), part, parts)
    for column in range(first, last, most):
        wide, own = min(most, width - column), at(w, column * height)
        if column > 0 and wide <= NARROW and panel == 0:
            constrain_panel(op, mem, own, 1, stride_of(height), wide, sums)
        else:
            constrain_panel(op, mem, own, stride_of(wide), 1, wide, sums)


@kernel
def non_negative(op, ctl, mem, part, parts):
    """w (n,) below 0 becomes 0; a NaN stays one.   op: w, n.   Owner: runs of w."""
    if waits(ctl):
        return
    w = at(mem, op[0])
    first, last = run_of(op[1], lanes(mem), part, parts)
    for j in range(first, last):
        w[j] = like(mem, 0) if w[j] < like(mem, 0) else w[j]
