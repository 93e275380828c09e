"""Random numbers that belong to a place, not to a moment: dropout, normal noise. Stage: kernels.

The number for element j of sample i of epoch e is Philox4x32-10 of (j / 4, i, e, layer) under the key (seed), after
Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3", section 3.3. It is the same on any thread, worker or
machine. Must not know: layers.
"""

from __future__ import annotations

import math

from .control import EPOCH, ROWS, SEED
from .declare import device, kernel
from .gather import source_row
from .intrinsics import at, float_word, lanes, like
from .share import rectangle, span, stride_of, whole

MASK = 0xFFFFFFFF
MULTIPLY_0, MULTIPLY_1 = 0xD2511F53, 0xCD9E8D57
WEYL_0, WEYL_1 = 0x9E3779B9, 0xBB67AE85


@device
def philox(c0, c1, c2, c3, k0, k1):
    """Four random 32-bit words (as int64) for a counter of four and a key of two 32-bit words."""
    for _ in range(10):
        p0, p1 = MULTIPLY_0 * c0, MULTIPLY_1 * c2
        high0, high1 = (p0 >> 32) & MASK, (p1 >> 32) & MASK
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, p1 & MASK, high0 ^ c3 ^ k1, p0 & MASK
        k0, k1 = (k0 + WEYL_0) & MASK, (k1 + WEYL_1) & MASK
    return c0, c1, c2, c3


@kernel
def dropout(op, ctl, mem, part, parts):
    """x (rows, width) -> mask (rows, width), y (rows, width) written; y = x mask, mask = 0 or 1 / (1 - rate).

    op: x, y, mask, width, rate, layer, share.   Owner: as shared. Source: Srivastava et al. 2014, section 4, inverted.
    """
    width, stride, rate, layer = op[3], stride_of(op[3]), float_word(mem, op[4]), op[5]
    threshold = int(rate * like(mem, 4294967296.0))
    keep = like(mem, 1) / (like(mem, 1) - rate)
    k0, k1 = ctl[SEED] & MASK, (ctl[SEED] >> 32) & MASK
    r0, r1, c0, c1 = rectangle(op[6], ctl[ROWS], width, part, parts)
    for i in range(r0, r1):
        x, y, mask = at(mem, op[0] + i * stride), at(mem, op[1] + i * stride), at(mem, op[2] + i * stride)
        sample, (first, last) = source_row(ctl, i), span(op[6], width, i, r0, r1, c0, c1)
        for j in range(first, last, 4):
            words = philox(j >> 2, sample & MASK, ctl[EPOCH] & MASK, layer, k0, k1)
            for q in range(min(4, last - j)):
                factor = keep if words[q] >= threshold else like(mem, 0)
                mask[j + q] = factor
                y[j + q] = x[j + q] * factor


@kernel
def dropout_grad(op, ctl, mem, part, parts):
    """dy (rows, width) *= mask.   op: mask, dy, width, share.   Owner: as shared."""
    width, stride = op[2], stride_of(op[2])
    r0, r1, c0, c1 = rectangle(op[3], ctl[ROWS], width, part, parts)
    for i in range(r0, r1):
        first, last = span(op[3], width, i, r0, r1, c0, c1)
        mask, dy = at(mem, op[0] + i * stride + first), at(mem, op[1] + i * stride + first)
        for j in range(whole(last - first, lanes(mem))):
            dy[j] *= mask[j]


@kernel
def gaussian(op, ctl, mem, part, parts):
    """x (rows, width) -> y (rows, width) written, x + deviation n, n normally distributed.

    op: x, y, width, deviation, layer, share.   Owner: as shared. Source: Box & Muller 1958.
    """
    width, stride, deviation, layer = op[2], stride_of(op[2]), float_word(mem, op[3]), op[4]
    k0, k1 = ctl[SEED] & MASK, (ctl[SEED] >> 32) & MASK
    r0, r1, c0, c1 = rectangle(op[5], ctl[ROWS], width, part, parts)
    for i in range(r0, r1):
        x, y = at(mem, op[0] + i * stride), at(mem, op[1] + i * stride)
        sample, (first, last) = source_row(ctl, i), span(op[5], width, i, r0, r1, c0, c1)
        for j in range(first, last, 4):
            words = philox(j >> 2, sample & MASK, ctl[EPOCH] & MASK, layer, k0, k1)
            for q in range(min(4, last - j)):
                radius = math.sqrt(-2.0 * math.log((words[q // 2] + 1) / 4294967296.0))
                angle = 2.0 * math.pi * words[2 + q // 2] / 4294967296.0
                n = radius * (math.cos(angle) if q % 2 == 0 else math.sin(angle))
                y[j + q] = x[j + q] + deviation * like(mem, n)
