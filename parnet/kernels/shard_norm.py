"""Batch normalisation over virtual shards: statistics of the whole batch from those of its shards. Stage: kernels.

Each shard leaves its sums where all shards can see them, one row of 2 x stride_of(C) numbers a shard; when all have done so,
each combines the rows in rising order for itself. The result hangs on the number of shards alone, never on who ran them.
Sources: Ioffe & Szegedy 2015, algorithms 1 and 2; combination: Chan, Golub & LeVeque 1979, eq. 2.1.
P is the number of pixels of an image, 1 for a batch of rows. Must not know: layers, workers.
"""

from __future__ import annotations

from .channel_norm import chunk_of
from .control import ROWS, SCRATCH, SHARD, SHARDS, WHOLE
from .declare import device, kernel
from .intrinsics import at, float_word, lanes, like, pointer_at, square_root
from .product import gradient_mode
from .reduce import CHUNK, deliver, sum_rows
from .shards import shard_rows
from .share import columns, stride_of, whole
from .step import CHUNK_PIXELS


@device
def own_row(ctl, exchange, width):
    """Where this shard's row of two sums begins."""
    return at(exchange, ctl[SHARD] * 2 * stride_of(width))


@kernel
def moments(op, ctl, mem, part, parts):
    """x (rows, C) -> this shard's mean and sum of squares about it (2, C).   op: x, exchange, C.   Owner: columns."""
    width, rows = op[2], ctl[ROWS]
    stride, own = stride_of(width), own_row(ctl, at(mem, op[1]), width)
    first, last = columns(width, part, parts)
    for j in range(first, last, CHUNK):
        n = min(CHUNK, last - j)
        x, mean, squares = at(mem, op[0] + j), at(own, j), at(own, stride + j)
        sums = pointer_at(mem, ctl[SCRATCH])
        away = at(sums, CHUNK)
        sum_rows(rows, x, stride, sums, n)
        for q in range(whole(n, lanes(mem))):
            sums[q] /= like(mem, rows)
            away[q] = like(mem, 0)
        for i in range(rows):
            row = at(x, i * stride)
            for q in range(whole(n, lanes(mem))):
                away[q] += (row[q] - sums[q]) * (row[q] - sums[q])
        for q in range(n):
            mean[q] = sums[q]
            squares[q] = away[q]


@kernel
def image_moments(op, ctl, mem, part, parts):
    """Chunks' moments (rows, chunks, 2, C) -> this shard's mean and sum of squares about it (2, C).

    op: sums, exchange, P, C.   Owner: columns.
    """
    pixels, width = op[2], op[3]
    chunks = (pixels + CHUNK_PIXELS - 1) // CHUNK_PIXELS
    s_row, mean = stride_of(chunks * 2 * width), own_row(ctl, at(mem, op[1]), width)
    squares = at(mean, stride_of(width))
    first, last = columns(width, part, parts)
    for c in range(first, last):
        mean[c] = like(mem, 0)
        squares[c] = like(mem, 0)
    seen = 0
    for item in range(ctl[ROWS] * chunks):
        image, p0, p1 = chunk_of(item, pixels)
        own = at(mem, op[0] + image * s_row + p0 // CHUNK_PIXELS * 2 * width)
        join(mean, squares, seen, own, at(own, width), p1 - p0, first, last)
        seen += p1 - p0


@device
def join(mean, squares, seen, other, other_squares, count, first, last):
    """Moments of `seen` numbers become those of seen + count; columns first..last."""
    new = like(mean, count) / like(mean, seen + count)
    both = new * like(mean, seen)
    for c in range(first, last):
        away = other[c] - mean[c]
        mean[c] += away * new
        squares[c] += other_squares[c] + away * away * both


@device
def join_shards(ctl, exchange, mean, squares, width, pixels, first, last):
    """The moments of the whole batch, columns first..last."""
    for c in range(first, last):
        mean[c] = like(mean, 0)
        squares[c] = like(mean, 0)
    seen = 0
    for s in range(ctl[SHARDS]):
        count = shard_rows(ctl[WHOLE], s, ctl[SHARDS]) * pixels
        if count > 0:
            own = at(exchange, s * 2 * stride_of(width))
            join(mean, squares, seen, own, at(own, stride_of(width)), count, first, last)
            seen += count


@kernel
def combine(op, ctl, mem, part, parts):
    """Moments of all shards -> mean, inverse = 1 / sqrt(variance + epsilon) (C,) of the whole batch.

    op: exchange, mean, inverse, P, C, epsilon.   Owner: columns.
    """
    pixels, width, epsilon = op[3], op[4], float_word(mem, op[5])
    mean, inverse = at(mem, op[1]), at(mem, op[2])
    count = like(mem, ctl[WHOLE] * pixels)
    first, last = columns(width, part, parts)
    join_shards(ctl, at(mem, op[0]), mean, inverse, width, pixels, first, last)
    for c in range(first, last):
        inverse[c] = like(mem, 1) / square_root(inverse[c] / count + epsilon)


@kernel
def move_averages(op, ctl, mem, part, parts):
    """Moments of all shards -> moving mean, moving variance (C,) = momentum old + (1 - momentum) new; once a batch.

    op: exchange, moving mean, moving variance, P, C, momentum.   Owner: columns.
    """
    pixels, width, momentum = op[3], op[4], float_word(mem, op[5])
    moving_mean, moving_variance = at(mem, op[1]), at(mem, op[2])
    mean = pointer_at(mem, ctl[SCRATCH])
    squares, new = at(mean, CHUNK), like(mem, 1) - momentum
    count = like(mem, ctl[WHOLE] * pixels)
    first, last = columns(width, part, parts)
    for j in range(first, last, CHUNK):
        n = min(CHUNK, last - j)
        join_shards(ctl, at(mem, op[0] + j), mean, squares, width, pixels, 0, n)
        for q in range(n):
            moving_mean[j + q] = momentum * moving_mean[j + q] + new * mean[q]
            moving_variance[j + q] = momentum * moving_variance[j + q] + new * (squares[q] / count)


@kernel
def leave_statistics(op, ctl, mem, part, parts):
    """mean, variance (C,) of this shard alone go where all see them.   op: mean, variance, exchange, C.   Owner: columns."""
    width, mean, variance = op[3], at(mem, op[0]), at(mem, op[1])
    own = own_row(ctl, at(mem, op[2]), width)
    first, last = columns(width, part, parts)
    for c in range(first, last):
        own[c] = mean[c]
        own[stride_of(width) + c] = variance[c]


@kernel
def move_by_mean(op, ctl, mem, part, parts):
    """The shards' own statistics, each weighing as its rows -> moving mean, moving variance (C,); once a batch.

    op: exchange, moving mean, moving variance, C, momentum.   Owner: columns.
    """
    width, momentum = op[3], float_word(mem, op[4])
    shards, rows, stride = ctl[SHARDS], ctl[WHOLE], stride_of(op[3])
    first, last = columns(width, part, parts)
    for c in range(first, last):
        mean, variance = like(mem, 0), like(mem, 0)
        for s in range(shards):
            share = shard_rows(rows, s, shards)
            if share > 0:
                own = at(mem, op[0] + s * 2 * stride)
                mean += own[c] * like(mem, share) / like(mem, rows)
                variance += own[stride + c] * like(mem, share) / like(mem, rows)
        new = like(mem, 1) - momentum
        at(mem, op[1])[c] = momentum * at(mem, op[1])[c] + new * mean
        at(mem, op[2])[c] = momentum * at(mem, op[2])[c] + new * variance


@kernel
def gradient_sums(op, ctl, mem, part, parts):
    """x, dy (rows, C), mean, inverse (C,) -> this shard's dbeta = sum dy and dgamma = sum dy (x - mean) inverse.

    Both are delivered as gradients, and left where all can see them.
    op: x, dy, mean, inverse, dgamma, dbeta, exchange, C, update.   Owner: columns.
    """
    width, stride, rows = op[7], stride_of(op[7]), ctl[ROWS]
    mode, scale = gradient_mode(ctl, mem, op[8])
    dbeta, own = pointer_at(mem, ctl[SCRATCH]), own_row(ctl, at(mem, op[6]), op[7])
    dgamma = at(dbeta, CHUNK)
    first, last = columns(width, part, parts)
    for j in range(first, last, CHUNK):
        n = min(CHUNK, last - j)
        x, dy, mean, inverse = at(mem, op[0] + j), at(mem, op[1] + j), at(mem, op[2] + j), at(mem, op[3] + j)
        sum_rows(rows, dy, stride, dbeta, n)
        for q in range(whole(n, lanes(mem))):
            dgamma[q] = like(mem, 0)
        for i in range(rows):
            row, source = at(dy, i * stride), at(x, i * stride)
            for q in range(whole(n, lanes(mem))):
                dgamma[q] += row[q] * (source[q] - mean[q])
        for q in range(n):
            dgamma[q] *= inverse[q]
            own[j + q] = dbeta[q]
            own[stride + j + q] = dgamma[q]
        deliver(at(mem, op[4] + j), dgamma, n, mode, scale)
        deliver(at(mem, op[5] + j), dbeta, n, mode, scale)


@kernel
def image_gradient_sums(op, ctl, mem, part, parts):
    """Chunks' sums of dy and dy (x - mean) (rows, chunks, 2, C) -> as `gradient_sums`.

    op: sums, inverse, dgamma, dbeta, exchange, P, C, update.   Owner: columns.
    """
    pixels, width, inverse = op[5], op[6], at(mem, op[1])
    mode, scale = gradient_mode(ctl, mem, op[7])
    chunks = (pixels + CHUNK_PIXELS - 1) // CHUNK_PIXELS
    s_row, dbeta = stride_of(chunks * 2 * width), own_row(ctl, at(mem, op[4]), width)
    dgamma = at(dbeta, stride_of(width))
    first, last = columns(width, part, parts)
    for c in range(first, last):
        dbeta[c] = like(mem, 0)
        dgamma[c] = like(mem, 0)
    for item in range(ctl[ROWS] * chunks):
        image, p0, _ = chunk_of(item, pixels)
        plain = at(mem, op[0] + image * s_row + p0 // CHUNK_PIXELS * 2 * width)
        for c in range(first, last):
            dbeta[c] += plain[c]
            dgamma[c] += plain[width + c]
    for c in range(first, last):
        dgamma[c] *= inverse[c]
    deliver(at(mem, op[2] + first), at(dgamma, first), last - first, mode, scale)
    deliver(at(mem, op[3] + first), at(dbeta, first), last - first, mode, scale)


@kernel
def combine_gradients(op, ctl, mem, part, parts):
    """Sums of all shards -> a, b, s (C,) of `channel_norm.input_gradient`: dx = a dy + b x + s.

    With n numbers a channel in the whole batch: dx = gamma inverse (dy - dbeta / n - (x - mean) inverse dgamma / n).
    op: exchange, mean, inverse, gamma, a, b, s, P, C.   Owner: columns.
    """
    pixels, width, exchange = op[7], op[8], at(mem, op[0])
    mean, inverse, gamma = at(mem, op[1]), at(mem, op[2]), at(mem, op[3])
    a, b, s = at(mem, op[4]), at(mem, op[5]), at(mem, op[6])
    count, stride = like(mem, ctl[WHOLE] * pixels), stride_of(width)
    first, last = columns(width, part, parts)
    for c in range(first, last):
        b[c] = like(mem, 0)
        s[c] = like(mem, 0)
    for shard in range(ctl[SHARDS]):
        if shard_rows(ctl[WHOLE], shard, ctl[SHARDS]) > 0:
            own = at(exchange, shard * 2 * stride)
            for c in range(first, last):
                s[c] += own[c]
                b[c] += own[stride + c]
    for c in range(first, last):
        a[c] = gamma[c] * inverse[c]
        b[c] = -a[c] * inverse[c] * b[c] / count
        s[c] = -a[c] * s[c] / count - mean[c] * b[c]
