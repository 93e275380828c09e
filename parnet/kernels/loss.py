"""Losses and their gradients, row by row, and the tally that adds them up. Stage: kernels.

Every loss kernel has the same operands, read by `_row_loss`:
    op: pred (rows, width), target (rows, width or 1), row loss (rows,) written, dpred (rows, width) written, width,
        sample weights (rows,), weighted, gradient wanted, parameter, width of the target.   Owner: rows.
dpred is the gradient of the mean over the rows of the whole batch (WHOLE) of weight * loss. Nothing is broadcast. A class
number travels as T.
Must not know: models.
"""

from __future__ import annotations

import math

from .control import LOSSES, ROWS, STEP, STOP, SUMS, WHOLE
from .declare import Kernel, device, kernel
from .intrinsics import at, atomic_store, float64_at, float_word, int64_at, lanes, larger, like
from .maths import exp, sigmoid, tanh
from .share import TILE_ROWS, cut, stride_of, whole

#: probabilities are cut to [EPSILON, 1 - EPSILON] before a logarithm, as Keras does
EPSILON = 1e-7
LOG_2 = math.log(2.0)


def _row_loss(name, formula) -> Kernel:
    """The kernel around a formula(p, t, d, width, scale, wanted, parameter) -> loss of one row.

    The formula writes `scale` times the loss's gradient to d where wanted.
    """
    formula = device(formula)

    def run(op, ctl, mem, part, parts):
        width, stride, t_stride, rows = op[4], stride_of(op[4]), stride_of(op[9]), ctl[ROWS]
        parameter, batch = float_word(mem, op[8]), like(mem, ctl[WHOLE] if ctl[WHOLE] else rows)
        first, last = cut(rows, TILE_ROWS, part, parts)
        for i in range(first, last):
            weight = at(mem, op[5])[i] if op[6] else like(mem, 1)
            p, t, d = at(mem, op[0] + i * stride), at(mem, op[1] + i * t_stride), at(mem, op[3] + i * stride)
            loss = formula(p, t, d, width, weight / batch, op[7], parameter)
            at(mem, op[2])[i] = weight * loss

    run.__doc__ = __doc__
    return Kernel(f"loss.{name}", run)


@device
def softmax_row(z, width, reach):
    """z becomes softmax(z) over `width` numbers, computed over `reach` of them; returns log of the sum of e**z.

    Stable: the largest is taken off first.
    """
    top = z[0]
    for j in range(1, width):
        top = larger(top, z[j])
    total = like(z, 0)
    for j in range(reach):  # whole vectors, into the padding: ten single exps cost twice as much
        z[j] = exp(z[j] - top)
    for j in range(width):
        total += z[j]
    for j in range(reach):
        z[j] /= total
    return top + math.log(total)


def _softmax_sparse(z, t, d, width, scale, wanted, parameter):
    label = int(t[0])
    chosen = z[label]
    loss = softmax_row(z, width, whole(width, lanes(z))) - chosen
    if wanted:
        for j in range(width):
            d[j] = z[j] * scale
        d[label] -= scale
    return loss


@device
def smoothed(t, share, classes):
    """A target with a share of it spread evenly over so many classes; the target itself where the share is 0."""
    return (like(t, 1) - share) * t[0] + share / like(t, classes)


def _softmax_dense(z, t, d, width, scale, wanted, smoothing):
    chosen, mass = like(z, 0), like(z, 0)
    for j in range(width):
        aim = smoothed(at(t, j), smoothing, width)
        chosen += aim * z[j]
        mass += aim
    loss = mass * softmax_row(z, width, whole(width, lanes(z))) - chosen
    if wanted:
        for j in range(width):
            d[j] = (mass * z[j] - smoothed(at(t, j), smoothing, width)) * scale
    return loss


def _limited(p):
    low, high = like(p, EPSILON), like(p, 1 - EPSILON)
    p = low if p < low else p
    return high if p > high else p


_limited = device(_limited)


def _sparse(p, t, d, width, scale, wanted, parameter):
    label, total = int(t[0]), like(p, 0)
    for j in range(width):
        total += p[j]
    q = p[label] / total
    if wanted:
        inside = q == _limited(q)
        for j in range(width):
            d[j] = scale / total if inside else like(p, 0)
        if inside:
            d[label] -= scale / (q * total)
    return -math.log(_limited(q))


def _categorical(p, t, d, width, scale, wanted, smoothing):
    total, loss, mass = like(p, 0), like(p, 0), like(p, 0)
    for j in range(width):
        total += p[j]
    for j in range(width):
        q, aim = p[j] / total, smoothed(at(t, j), smoothing, width)
        loss -= aim * math.log(_limited(q))
        mass += aim if q == _limited(q) else like(p, 0)
    if wanted:
        for j in range(width):
            q = p[j] / total
            own = smoothed(at(t, j), smoothing, width) / q if q == _limited(q) else like(p, 0)
            d[j] = (mass - own) * scale / total
    return loss


def _binary(p, t, d, width, scale, wanted, smoothing):
    loss, share = like(p, 0), scale / like(p, width)
    for j in range(width):
        q, aim = _limited(p[j]), smoothed(at(t, j), smoothing, 2)
        loss -= aim * math.log(q) + (like(p, 1) - aim) * math.log(like(p, 1) - q)
        if wanted:
            slope = (like(p, 1) - aim) / (like(p, 1) - q) - aim / q
            d[j] = slope * share if q == p[j] else like(p, 0)
    return loss / like(p, width)


def _sigmoid_binary(z, t, d, width, scale, wanted, smoothing):
    loss, share = like(z, 0), scale / like(z, width)
    for j in range(width):
        aim = smoothed(at(t, j), smoothing, 2)
        # max(z, 0) - z t + log(1 + e**-|z|) overflows nowhere
        loss += larger(z[j], like(z, 0)) - z[j] * aim + math.log1p(exp(-abs(z[j])))
        z[j] = sigmoid(z[j])
        if wanted:
            d[j] = (z[j] - aim) * share
    return loss / like(z, width)


def _mean_squared(p, t, d, width, scale, wanted, parameter):
    loss, slope = like(p, 0), like(p, 2) * scale / like(p, width)
    for j in range(width):
        loss += (p[j] - t[j]) * (p[j] - t[j])
    if wanted:
        for j in range(width):
            d[j] = slope * (p[j] - t[j])
    return loss / like(p, width)


def _sign(x):
    one = like(x, 1) if x > like(x, 0) else like(x, -1)
    return like(x, 0) if x == like(x, 0) else one


_sign = device(_sign)


def _mean_absolute(p, t, d, width, scale, wanted, parameter):
    loss, share = like(p, 0), scale / like(p, width)
    for j in range(width):
        loss += abs(p[j] - t[j])
        if wanted:
            d[j] = _sign(p[j] - t[j]) * share
    return loss / like(p, width)


def _huber(p, t, d, width, scale, wanted, delta):
    loss, share = like(p, 0), scale / like(p, width)
    for j in range(width):
        e = p[j] - t[j]
        near = abs(e) <= delta
        loss += like(p, 0.5) * e * e if near else delta * (abs(e) - like(p, 0.5) * delta)
        if wanted:
            d[j] = e * share if near else delta * _sign(e) * share
    return loss / like(p, width)


def _hinge(p, t, d, width, scale, wanted, parameter):
    loss, share = like(p, 0), scale / like(p, width)
    for j in range(width):
        margin = like(p, 1) - t[j] * p[j]
        loss += like(p, 0) if margin < like(p, 0) else margin  # a NaN stays one
        if wanted:
            d[j] = -t[j] * share if margin > like(p, 0) else like(p, 0)
    return loss / like(p, width)


def _squared_hinge(p, t, d, width, scale, wanted, parameter):
    loss, share = like(p, 0), scale / like(p, width)
    for j in range(width):
        margin = like(p, 1) - t[j] * p[j]
        margin = like(p, 0) if margin < like(p, 0) else margin
        loss += margin * margin
        if wanted:
            d[j] = like(p, -2) * t[j] * margin * share
    return loss / like(p, width)


def _log_cosh(p, t, d, width, scale, wanted, parameter):
    loss, share = like(p, 0), scale / like(p, width)
    for j in range(width):
        e = p[j] - t[j]
        # log cosh e = |e| + log(1 + e**-2|e|) - log 2 overflows nowhere
        loss += abs(e) + math.log1p(exp(like(p, -2) * abs(e))) - like(p, LOG_2)
        if wanted:
            d[j] = tanh(e) * share
    return loss / like(p, width)


def _poisson(p, t, d, width, scale, wanted, parameter):
    loss, share = like(p, 0), scale / like(p, width)
    for j in range(width):
        above = p[j] + like(p, EPSILON)
        loss += p[j] - t[j] * math.log(above)
        if wanted:
            d[j] = (like(p, 1) - t[j] / above) * share
    return loss / like(p, width)


def _at_most_1(p):
    low, high = like(p, EPSILON), like(p, 1)
    p = low if p < low else p
    return high if p > high else p


_at_most_1 = device(_at_most_1)


def _divergence(p, t, d, width, scale, wanted, parameter):
    loss = like(p, 0)
    for j in range(width):
        q, aim = _at_most_1(p[j]), _at_most_1(t[j])
        loss += aim * math.log(aim / q)
        if wanted:
            d[j] = -aim / q * scale if q == p[j] else like(p, 0)
    return loss


softmax_sparse = _row_loss("softmax_sparse", _softmax_sparse)
softmax_dense = _row_loss("softmax_dense", _softmax_dense)
sparse = _row_loss("sparse", _sparse)
categorical = _row_loss("categorical", _categorical)
binary = _row_loss("binary", _binary)
sigmoid_binary = _row_loss("sigmoid_binary", _sigmoid_binary)
mean_squared = _row_loss("mean_squared", _mean_squared)
mean_absolute = _row_loss("mean_absolute", _mean_absolute)
huber = _row_loss("huber", _huber)
hinge = _row_loss("hinge", _hinge)
squared_hinge = _row_loss("squared_hinge", _squared_hinge)
log_cosh = _row_loss("log_cosh", _log_cosh)
poisson = _row_loss("poisson", _poisson)
divergence = _row_loss("divergence", _divergence)


@kernel
def softmax(op, ctl, mem, part, parts):
    """x (rows, width) -> y (rows, width) written, each run of `group` numbers in a row summing to 1.

    op: x, y, width, group.   Owner: rows.
    """
    width, stride, group = op[2], stride_of(op[2]), op[3]
    reach = whole(width, lanes(mem)) if group == width else group
    first, last = cut(ctl[ROWS], TILE_ROWS, part, parts)
    for i in range(first, last):
        x, y = at(mem, op[0] + i * stride), at(mem, op[1] + i * stride)
        if op[0] != op[1]:
            for j in range(width):
                y[j] = x[j]
        for g in range(0, width, group):
            softmax_row(at(y, g), group, reach)


@kernel
def softmax_grad(op, ctl, mem, part, parts):
    """dy (rows, width) becomes y (dy - sum dy y), the sum over each run of `group`.

    op: y, dy, width, group.   Owner: rows.
    """
    width, stride, group = op[2], stride_of(op[2]), op[3]
    first, last = cut(ctl[ROWS], TILE_ROWS, part, parts)
    for i in range(first, last):
        y, dy = at(mem, op[0] + i * stride), at(mem, op[1] + i * stride)
        for g in range(0, width, group):
            total = like(mem, 0)
            for j in range(g, g + group):
                total += dy[j] * y[j]
            for j in range(g, g + group):
                dy[j] = y[j] * (dy[j] - total)


@kernel
def log_softmax(op, ctl, mem, part, parts):
    """x (rows, width) -> y (rows, width) written, the logarithm of softmax of each run of `group` numbers in a row.

    Stable: the largest is taken off first.   op: x, y, width, group.   Owner: rows.
    """
    width, stride, group = op[2], stride_of(op[2]), op[3]
    first, last = cut(ctl[ROWS], TILE_ROWS, part, parts)
    for i in range(first, last):
        for g in range(0, width, group):
            x, y = at(mem, op[0] + i * stride + g), at(mem, op[1] + i * stride + g)
            top, total = x[0], like(mem, 0)
            for j in range(1, group):
                top = larger(top, x[j])
            for j in range(group):
                total += exp(x[j] - top)
            total = math.log(total)
            for j in range(group):
                y[j] = (x[j] - top) - total


@kernel
def log_softmax_grad(op, ctl, mem, part, parts):
    """dy (rows, width) becomes dy - e^y sum dy, the sum over each run of `group`.

    op: y, dy, width, group.   Owner: rows.
    """
    width, stride, group = op[2], stride_of(op[2]), op[3]
    first, last = cut(ctl[ROWS], TILE_ROWS, part, parts)
    for i in range(first, last):
        for g in range(0, width, group):
            y, dy = at(mem, op[0] + i * stride + g), at(mem, op[1] + i * stride + g)
            total = like(mem, 0)
            for j in range(group):
                total += dy[j]
            for j in range(group):
                dy[j] -= exp(y[j]) * total


@kernel
def weigh(op, ctl, mem, part, parts):
    """total (rows,) = weight loss (rows,), or += it.   op: loss, total written, weight, add.   Owner: rows."""
    loss, total, weight = at(mem, op[0]), at(mem, op[1]), float_word(mem, op[2])
    first, last = cut(ctl[ROWS], TILE_ROWS, part, parts)
    for i in range(first, last):
        before = total[i] if op[3] else like(mem, 0)
        total[i] = before + weight * loss[i]


@device
def add_values(op, first, mem, rows, sums):
    """sums[slot] += the sum of values (rows,), for op[first] pairs of values and slot."""
    for m in range(op[first]):
        values, total = at(mem, op[first + 1 + 2 * m]), 0.0
        for i in range(rows):
            total += values[i]
        sums[op[first + 2 + 2 * m]] += total


@kernel
def add_up(op, ctl, mem, part, parts):
    """SUMS[slot] += the sum of some values.   op: m, then m times: values (rows,), slot.   Owner: one part."""
    add_values(op, 0, mem, ctl[ROWS], float64_at(ctl[SUMS]))


@kernel
def tally(op, ctl, mem, part, parts):
    """Add up the batch: SUMS[0] += sum of row losses, SUMS[1 + m] += sum of metric m, LOSSES[step] = the mean loss.

    A loss that is not finite raises the stop flag. Penalties of regularisers count once a row.
    op: row loss (rows,), penalties (p,), p, metrics m, then m times: values (rows,), slot in SUMS.   Owner: one part.
    """
    rows, sums = ctl[ROWS], float64_at(ctl[SUMS])
    loss = 0.0
    for i in range(rows):
        loss += at(mem, op[0])[i]
    for q in range(op[2]):
        loss += at(mem, op[1])[q] * rows
    sums[0] += loss
    float64_at(ctl[LOSSES])[ctl[STEP]] = loss / rows
    if not math.isfinite(loss):
        atomic_store(int64_at(ctl[STOP]), ctl[STEP] + 1)
    add_values(op, 3, mem, rows, sums)
