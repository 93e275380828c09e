"""Batch normalisation over the rows of a batch, feature by feature. Stage: kernels.

    y = gamma (x - mean) / sqrt(var + eps) + beta        Ioffe & Szegedy 2015, algorithm 1

Each feature belongs to one part; its sums run over the rows in rising order. Must not know: layers.
"""

from __future__ import annotations

from .control import ROWS, SCRATCH
from .declare import device, kernel
from .intrinsics import at, float_word, lanes, like, pointer_at, square_root
from .product import gradient_mode
from .reduce import CHUNK, deliver, sum_rows
from .share import columns, stride_of, whole

#: features that are normalised at a time: with 512 of 784 two threads fetched each other's lines, 15 us for 10
FEATURES = 128


@device
def normalise(rows, x, y, stride, mean, inverse, gamma, beta, n):
    """y[i, j] = (x[i, j] - mean[j]) * inverse[j] * gamma[j] + beta[j]."""
    for i in range(rows):
        source, out = at(x, i * stride), at(y, i * stride)
        for j in range(whole(n, lanes(x))):
            out[j] = (source[j] - mean[j]) * (inverse[j] * gamma[j]) + beta[j]


@device
def statistics(rows, x, stride, mean, inverse, variance, epsilon, n):
    """Mean, biased variance and 1 / sqrt(variance + epsilon) of n columns; two passes, as the variance needs."""
    count = like(x, rows)
    sum_rows(rows, x, stride, mean, n)
    for j in range(n):
        mean[j] /= count
        variance[j] = like(x, 0)
    for i in range(rows):
        row = at(x, i * stride)
        for j in range(whole(n, lanes(x))):
            variance[j] += (row[j] - mean[j]) * (row[j] - mean[j])
    for j in range(n):
        variance[j] /= count
        inverse[j] = like(x, 1) / square_root(variance[j] + epsilon)


@kernel
def batch_forward(op, ctl, mem, part, parts):
    """x (rows, C) -> y (rows, C), mean, variance, inverse (C,) written.

    op: x, y, gamma, beta, mean, variance, inverse, C, epsilon.   Owner: columns.
    """
    width, epsilon = op[7], float_word(mem, op[8])
    first, last = columns(width, part, parts)
    for j in range(first, last, FEATURES):
        n = min(FEATURES, last - j)
        x, mean, variance, inverse = at(mem, op[0] + j), at(mem, op[4] + j), at(mem, op[5] + j), at(mem, op[6] + j)
        statistics(ctl[ROWS], x, stride_of(width), mean, inverse, variance, epsilon, n)
        gamma, beta = at(mem, op[2] + j), at(mem, op[3] + j)
        normalise(ctl[ROWS], x, at(mem, op[1] + j), stride_of(width), mean, inverse, gamma, beta, n)


@kernel
def move_averages(op, ctl, mem, part, parts):
    """mean, variance (C,) -> moving mean, moving variance (C,) = momentum old + (1 - momentum) new.

    op: mean, variance, moving mean, moving variance, C, momentum.   Owner: columns.
    """
    mean, variance, moving_mean, moving_variance = at(mem, op[0]), at(mem, op[1]), at(mem, op[2]), at(mem, op[3])
    momentum = float_word(mem, op[5])
    new = like(mem, 1) - momentum
    first, last = columns(op[4], part, parts)
    for j in range(first, last):
        moving_mean[j] = momentum * moving_mean[j] + new * mean[j]
        moving_variance[j] = momentum * moving_variance[j] + new * variance[j]


@kernel
def batch_inference(op, ctl, mem, part, parts):
    """x (rows, C) -> y (rows, C) written, with the moving mean and variance.

    op: x, y, gamma, beta, moving mean, moving variance, C, epsilon.   Owner: columns.
    """
    width, epsilon = op[6], float_word(mem, op[7])
    inverse = pointer_at(mem, ctl[SCRATCH])
    first, last = columns(width, part, parts)
    for j in range(first, last, CHUNK):
        n = min(CHUNK, last - j)
        variance = at(mem, op[5] + j)
        for q in range(n):
            inverse[q] = like(mem, 1) / square_root(variance[q] + epsilon)
        mean, gamma, beta = at(mem, op[4] + j), at(mem, op[2] + j), at(mem, op[3] + j)
        normalise(ctl[ROWS], at(mem, op[0] + j), at(mem, op[1] + j), stride_of(width), mean, inverse, gamma, beta, n)


@kernel
def batch_backward(op, ctl, mem, part, parts):
    """x, dy (rows, C), mean, inverse, gamma (C,) -> dx over dy, dgamma, dbeta (C,) written, added to, or updated.

    With n rows and h = (x - mean) inverse:
        dbeta = sum dy,  dgamma = sum dy h,  dx = gamma inverse / n (n dy - dbeta - h dgamma)

    op: x, dy, mean, inverse, gamma, dgamma, dbeta, C, dx wanted, update.   Owner: columns.
    """
    width, stride, wanted, rows = op[7], stride_of(op[7]), op[8], ctl[ROWS]
    mode, scale = gradient_mode(ctl, mem, op[9])
    dbeta = pointer_at(mem, ctl[SCRATCH])
    dgamma, a, b = at(dbeta, CHUNK), at(dbeta, 2 * CHUNK), at(dbeta, 3 * CHUNK)
    count = like(mem, rows)
    first, last = columns(width, part, parts)
    for j in range(first, last, CHUNK):
        n = min(CHUNK, last - j)
        x, dy, mean, inverse = at(mem, op[0] + j), at(mem, op[1] + j), at(mem, op[2] + j), at(mem, op[3] + j)
        sum_rows(rows, dy, stride, dbeta, n)
        for q in range(n):
            dgamma[q] = like(mem, 0)
        for i in range(rows):
            row, source = at(dy, i * stride), at(x, i * stride)
            for q in range(whole(n, lanes(mem))):
                dgamma[q] += row[q] * (source[q] - mean[q])
        gamma = at(mem, op[4] + j)
        for q in range(n):
            dgamma[q] *= inverse[q]
            a[q] = gamma[q] * inverse[q]
            b[q] = inverse[q] * dgamma[q] / count
        deliver(at(mem, op[5] + j), dgamma, n, mode, scale)
        deliver(at(mem, op[6] + j), dbeta, n, mode, scale)
        for q in range(n):
            dbeta[q] /= count
        if wanted:
            for i in range(rows):
                row, source = at(dy, i * stride), at(x, i * stride)
                for q in range(whole(n, lanes(mem))):
                    row[q] = a[q] * (row[q] - dbeta[q] - (source[q] - mean[q]) * b[q])


@kernel
def frozen_backward(op, ctl, mem, part, parts):
    """dy (rows, C) *= gamma / sqrt(moving variance + epsilon): the gradient of `batch_inference`.

    op: dy, gamma, moving variance, C, epsilon.   Owner: columns.
    """
    width, epsilon = op[3], float_word(mem, op[4])
    factor = pointer_at(mem, ctl[SCRATCH])
    first, last = columns(width, part, parts)
    for j in range(first, last, CHUNK):
        n = min(CHUNK, last - j)
        dy, gamma, variance = at(mem, op[0] + j), at(mem, op[1] + j), at(mem, op[2] + j)
        for q in range(n):
            factor[q] = gamma[q] / square_root(variance[q] + epsilon)
        for i in range(ctl[ROWS]):
            row = at(dy, i * stride_of(width))
            for q in range(whole(n, lanes(mem))):
                row[q] *= factor[q]
