"""Batch normalisation of images, channel by channel, over all pixels of the batch. Stage: kernels.

A channel has so many numbers that several parts must sum them: pixels are cut into chunks that do not depend on the number
of parts; each chunk's sums are made by one part and then combined in order. So the bits stay the same.
Source: Ioffe & Szegedy 2015, algorithms 1 and 2; the combination of chunks: Chan, Golub & LeVeque 1979, eq. 2.1.
Must not know: layers.
"""

from __future__ import annotations

from .control import ROWS, SCRATCH
from .declare import device, kernel
from .intrinsics import at, float_word, like, pointer_at, square_root
from .product import gradient_mode
from .reduce import deliver
from .share import columns, pixels_of, stride_of
from .step import CHUNK_PIXELS


@device
def chunk_of(item, pixels):
    """A chunk by its number: image, first pixel, last pixel."""
    chunks = (pixels + CHUNK_PIXELS - 1) // CHUNK_PIXELS
    first = item % chunks * CHUNK_PIXELS
    return item // chunks, first, min(pixels, first + CHUNK_PIXELS)


@device
def chunks_of(images, pixels, part, parts):
    """The chunks of a part: first, last."""
    count = images * ((pixels + CHUNK_PIXELS - 1) // CHUNK_PIXELS)
    return count * part // parts, count * (part + 1) // parts


@kernel
def moments(op, ctl, mem, part, parts):
    """x (rows, P, C) -> mean and sum of squares about it of each chunk (rows, chunks, 2, C).

    op: x, sums, P, C.   Owner: chunks.
    """
    pixels, width = op[2], op[3]
    x_row = stride_of(pixels * width)
    s_row = stride_of((pixels + CHUNK_PIXELS - 1) // CHUNK_PIXELS * 2 * width)
    first, last = chunks_of(ctl[ROWS], pixels, part, parts)
    for item in range(first, last):
        image, p0, p1 = chunk_of(item, pixels)
        x, mean = at(mem, op[0] + image * x_row), at(mem, op[1] + image * s_row + p0 // CHUNK_PIXELS * 2 * width)
        squares, count = at(mean, width), like(mem, p1 - p0)
        for c in range(width):
            mean[c] = like(mem, 0)
            squares[c] = like(mem, 0)
        for p in range(p0, p1):
            row = at(x, p * width)
            for c in range(width):
                mean[c] += row[c]
        for c in range(width):
            mean[c] /= count
        for p in range(p0, p1):
            row = at(x, p * width)
            for c in range(width):
                away = row[c] - mean[c]
                squares[c] += away * away


@kernel
def combine_moments(op, ctl, mem, part, parts):
    """Chunks' moments (rows, chunks, 2, C) -> mean, variance, inverse = 1 / sqrt(variance + epsilon) (C,).

    op: sums, mean, variance, inverse, P, C, epsilon.   Owner: columns.
    """
    pixels, width, epsilon = op[4], op[5], float_word(mem, op[6])
    chunks = (pixels + CHUNK_PIXELS - 1) // CHUNK_PIXELS
    s_row = stride_of(chunks * 2 * width)
    mean, variance, inverse = at(mem, op[1]), at(mem, op[2]), at(mem, op[3])
    first, last = columns(width, part, parts)
    for c in range(first, last):
        mean[c] = like(mem, 0)
        variance[c] = like(mem, 0)
    seen = 0
    for item in range(ctl[ROWS] * chunks):
        image, p0, p1 = chunk_of(item, pixels)
        own = at(mem, op[0] + image * s_row + p0 // CHUNK_PIXELS * 2 * width)
        squares = at(own, width)
        new = like(mem, p1 - p0) / like(mem, seen + p1 - p0)
        both = new * like(mem, seen)
        for c in range(first, last):
            away = own[c] - mean[c]
            mean[c] += away * new
            variance[c] += squares[c] + away * away * both
        seen += p1 - p0
    for c in range(first, last):
        variance[c] /= like(mem, seen)
        inverse[c] = like(mem, 1) / square_root(variance[c] + epsilon)


@device
def each_pixel(ctl, x_at, y_at, pixels, width, part, parts, scale, shift):
    """y = x scale + shift on the pixels of a part."""
    row = stride_of(pixels * width)
    first, last = pixels_of(ctl[ROWS], pixels, width, part, parts)
    for m in range(first, last):
        spot = m // pixels * row + m % pixels * width
        x, y = at(x_at, spot), at(y_at, spot)
        for c in range(width):
            y[c] = x[c] * scale[c] + shift[c]


@kernel
def normalise(op, ctl, mem, part, parts):
    """x (rows, P, C) -> y = gamma (x - mean) inverse + beta.

    op: x, y, gamma, beta, mean, inverse, P, C.   Owner: pixels.
    """
    pixels, width = op[6], op[7]
    scale = pointer_at(mem, ctl[SCRATCH])
    shift, gamma, beta, mean, inverse = at(scale, width), at(mem, op[2]), at(mem, op[3]), at(mem, op[4]), at(mem, op[5])
    for c in range(width):
        scale[c] = gamma[c] * inverse[c]
        shift[c] = beta[c] - mean[c] * scale[c]
    each_pixel(ctl, at(mem, op[0]), at(mem, op[1]), pixels, width, part, parts, scale, shift)


@kernel
def inference(op, ctl, mem, part, parts):
    """x (rows, P, C) -> y = gamma (x - moving mean) / sqrt(moving variance + epsilon) + beta.

    op: x, y, gamma, beta, moving mean, moving variance, P, C, epsilon.   Owner: pixels.
    """
    pixels, width, epsilon = op[6], op[7], float_word(mem, op[8])
    scale = pointer_at(mem, ctl[SCRATCH])
    shift, gamma, beta, mean, variance = at(scale, width), at(mem, op[2]), at(mem, op[3]), at(mem, op[4]), at(mem, op[5])
    for c in range(width):
        scale[c] = gamma[c] / square_root(variance[c] + epsilon)
        shift[c] = beta[c] - mean[c] * scale[c]
    each_pixel(ctl, at(mem, op[0]), at(mem, op[1]), pixels, width, part, parts, scale, shift)


@kernel
def gradient_sums(op, ctl, mem, part, parts):
    """x, dy (rows, P, C), mean (C,) -> of each chunk the sums of dy and of dy (x - mean) (rows, chunks, 2, C).

    op: x, dy, mean, sums, P, C.   Owner: chunks.
    """
    pixels, width, mean = op[4], op[5], at(mem, op[2])
    x_row = stride_of(pixels * width)
    s_row = stride_of((pixels + CHUNK_PIXELS - 1) // CHUNK_PIXELS * 2 * width)
    first, last = chunks_of(ctl[ROWS], pixels, part, parts)
    for item in range(first, last):
        image, p0, p1 = chunk_of(item, pixels)
        plain = at(mem, op[3] + image * s_row + p0 // CHUNK_PIXELS * 2 * width)
        away = at(plain, width)
        for c in range(2 * width):
            plain[c] = like(mem, 0)
        for p in range(p0, p1):
            x, dy = at(mem, op[0] + image * x_row + p * width), at(mem, op[1] + image * x_row + p * width)
            for c in range(width):
                plain[c] += dy[c]
                away[c] += dy[c] * (x[c] - mean[c])


@kernel
def combine_gradients(op, ctl, mem, part, parts):
    """Chunks' sums -> dgamma, dbeta (C,) written, added to or updated; a, b (C,) for `input_gradient`, b dy (C,).

    With n numbers in a channel: dx = gamma inverse (dy - dbeta / n - (x - mean) inverse dgamma / n) = a dy + b x + s.
    op: sums, mean, inverse, gamma, dgamma, dbeta, a, b, s, P, C, update.   Owner: columns.
    """
    pixels, width = op[9], op[10]
    mode, scale = gradient_mode(ctl, mem, op[11])
    chunks = (pixels + CHUNK_PIXELS - 1) // CHUNK_PIXELS
    s_row, count = stride_of(chunks * 2 * width), like(mem, ctl[ROWS] * pixels)
    mean, inverse, gamma = at(mem, op[1]), at(mem, op[2]), at(mem, op[3])
    a, b, s = at(mem, op[6]), at(mem, op[7]), at(mem, op[8])
    first, last = columns(width, part, parts)
    for c in range(first, last):
        s[c] = like(mem, 0)
        b[c] = like(mem, 0)
    for image in range(ctl[ROWS]):
        for chunk in range(chunks):
            plain = at(mem, op[0] + image * s_row + chunk * 2 * width)
            away = at(plain, width)
            for c in range(first, last):
                s[c] += plain[c]
                b[c] += away[c]
    for c in range(first, last):
        b[c] *= inverse[c]
        a[c] = gamma[c] * inverse[c]
    deliver(at(mem, op[4] + first), at(b, first), last - first, mode, scale)
    deliver(at(mem, op[5] + first), at(s, first), last - first, mode, scale)
    for c in range(first, last):
        b[c] = -a[c] * inverse[c] * b[c] / count
        s[c] = -a[c] * s[c] / count - mean[c] * b[c]


@kernel
def input_gradient(op, ctl, mem, part, parts):
    """dy (rows, P, C) = a dy + b x + s, in place.   op: x, dy, a, b, s, P, C.   Owner: pixels."""
    pixels, width = op[5], op[6]
    a, b, s, row = at(mem, op[2]), at(mem, op[3]), at(mem, op[4]), stride_of(pixels * width)
    first, last = pixels_of(ctl[ROWS], pixels, width, part, parts)
    for m in range(first, last):
        spot = m // pixels * row + m % pixels * width
        x, dy = at(mem, op[0] + spot), at(mem, op[1] + spot)
        for c in range(width):
            dy[c] = a[c] * dy[c] + (b[c] * x[c] + s[c])


@kernel
def frozen_gradient(op, ctl, mem, part, parts):
    """dy (rows, P, C) *= gamma / sqrt(moving variance + epsilon).

    op: dy, gamma, moving variance, P, C, epsilon.   Owner: pixels.
    """
    pixels, width, epsilon = op[3], op[4], float_word(mem, op[5])
    scale = pointer_at(mem, ctl[SCRATCH])
    shift, gamma, variance = at(scale, width), at(mem, op[1]), at(mem, op[2])
    for c in range(width):
        scale[c] = gamma[c] / square_root(variance[c] + epsilon)
        shift[c] = like(mem, 0)
    each_pixel(ctl, at(mem, op[0]), at(mem, op[0]), pixels, width, part, parts, scale, shift)
