"""Elementwise work that is no activation. Stage: kernels. Must not know: layers."""

from __future__ import annotations

from .control import ROWS
from .declare import kernel
from .intrinsics import at, float_word, lanes
from .share import rectangle, span, stride_of, whole


@kernel
def scale(op, ctl, mem, part, parts):
    """x (rows, width) -> y (rows, width) = x scale + offset written, x itself or elsewhere.

    op: x, y, width, scale, offset, share.   Owner: as shared.
    """
    width, stride, factor, offset = op[2], stride_of(op[2]), float_word(mem, op[3]), float_word(mem, op[4])
    r0, r1, c0, c1 = rectangle(op[5], ctl[ROWS], width, part, parts)
    for i in range(r0, r1):
        first, last = span(op[5], width, i, r0, r1, c0, c1)
        x, y = at(mem, op[0] + i * stride + first), at(mem, op[1] + i * stride + first)
        for j in range(whole(last - first, lanes(mem))):
            y[j] = x[j] * factor + offset
