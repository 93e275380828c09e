"""Layer normalisation: each row, or each pixel, over its own features. Stage: kernels.

    y = gamma (x - mean) / sqrt(var + eps) + beta        Ba, Kiros & Hinton 2016, "Layer Normalization", equation 4

Positions are the pixels of all images of a batch, or its rows (one pixel each). Must not know: layers.
"""

from __future__ import annotations

from .control import ROWS, SCRATCH
from .declare import device, kernel
from .intrinsics import at, float_word, like, pointer_at, square_root
from .product import gradient_mode
from .reduce import deliver
from .share import columns, cut, pixels_of, stride_of
from .step import LINE
from .strands import sum_of, sum_of_moments, sum_of_products, sum_of_squares

#: positions whose sums one part makes, however many parts there are; the plan's extent says so too
CHUNK = 32


@device
def constant(y, value, n):
    """y[:n] = value; returns y."""
    for c in range(n):
        y[c] = value
    return y


@kernel
def forward(op, ctl, mem, part, parts):
    """x (rows, pixels, C) -> y (rows, pixels, C), mean, inverse (rows, pixels) written; inverse = 1 / sqrt(var + epsilon).

    op: x, y, gamma, beta, mean, inverse, has gamma, has beta, pixels, C, epsilon.   Owner: pixels.
    """
    pixels, width, epsilon, count = op[8], op[9], float_word(mem, op[10]), like(mem, op[9])
    spare = pointer_at(mem, ctl[SCRATCH])
    gamma = at(mem, op[2]) if op[6] else constant(spare, like(mem, 1), width)
    beta = at(mem, op[3]) if op[7] else constant(at(spare, width), like(mem, 0), width)
    row, few = stride_of(pixels * width), stride_of(pixels)
    first, last = pixels_of(ctl[ROWS], pixels, width, part, parts)
    for m in range(first, last):
        spot, place = m // pixels * row + m % pixels * width, m // pixels * few + m % pixels
        x, y = at(mem, op[0] + spot), at(mem, op[1] + spot)
        mean = sum_of(width, x) / count
        inverse = like(mem, 1) / square_root(sum_of_squares(width, x, mean) / count + epsilon)
        for c in range(width):
            y[c] = (x[c] - mean) * (inverse * gamma[c]) + beta[c]
        at(mem, op[4])[place], at(mem, op[5])[place] = mean, inverse


@kernel
def backward(op, ctl, mem, part, parts):
    """x, dy (rows, pixels, C), mean, inverse (rows, pixels), gamma (C,) -> dx over dy, sums (chunks, 2, pitch) written.

    With h = (x - mean) inverse, g = gamma dy and means over the features:  dx = inverse (g - mean(g) - h mean(g h));
    sums: of dy h and of dy over the positions of each chunk, in rising order. pitch: C in whole cache lines.
    op: x, dy, mean, inverse, gamma, sums, has gamma, pixels, C, dx wanted, sums wanted.   Owner: chunks.
    """
    pixels, width, count = op[7], op[8], like(mem, op[8])
    pitch = (width + LINE - 1) // LINE * LINE
    gamma = at(mem, op[4]) if op[6] else constant(pointer_at(mem, ctl[SCRATCH]), like(mem, 1), width)
    row, few = stride_of(pixels * width), stride_of(pixels)
    first, last = cut(ctl[ROWS] * pixels, CHUNK, part, parts)
    for m in range(first, last):
        spot, place = m // pixels * row + m % pixels * width, m // pixels * few + m % pixels
        x, dy, mean, inverse = at(mem, op[0] + spot), at(mem, op[1] + spot), mem[op[2] + place], mem[op[3] + place]
        if op[10]:
            dgamma = at(mem, op[5] + m // CHUNK * 2 * pitch)
            dbeta = at(dgamma, pitch)
            if m % CHUNK == 0:
                constant(dgamma, like(mem, 0), 2 * pitch)
            for c in range(width):
                dgamma[c] += dy[c] * ((x[c] - mean) * inverse)
            for c in range(width):
                dbeta[c] += dy[c]
        if op[9]:
            all_of = sum_of_products(width, dy, gamma) / count * inverse
            along = sum_of_moments(width, dy, gamma, x, mean) / count * (inverse * inverse * inverse)
            for c in range(width):
                dy[c] = dy[c] * gamma[c] * inverse - all_of - (x[c] - mean) * along


@kernel
def combine(op, ctl, mem, part, parts):
    """sums (chunks, 2, pitch) -> dgamma, dbeta (C,) written or added to.

    op: sums, dgamma, dbeta, has gamma, has beta, pixels, C, update of dgamma, update of dbeta.   Owner: columns.
    """
    width = op[6]
    pitch, total = (width + LINE - 1) // LINE * LINE, pointer_at(mem, ctl[SCRATCH])
    first, last = columns(width, part, parts)
    n = last - first
    for which in range(2):
        if op[3 + which]:
            constant(total, like(mem, 0), n)
            for chunk in range((ctl[ROWS] * op[5] + CHUNK - 1) // CHUNK):
                some = at(mem, op[0] + (2 * chunk + which) * pitch + first)
                for c in range(n):
                    total[c] += some[c]
            mode, scale = gradient_mode(ctl, mem, op[7 + which])
            deliver(at(mem, op[1 + which] + first), total, n, mode, scale)
